"""Makes `tests/golden/adm/unet.npz`: names of tensors and outputs of guided-diffusion's `UNetModel`.

Run from the root of the repository with PyTorch installed and github.com/openai/guided-diffusion at commit 22e0df8
checked out in GUIDED_DIFFUSION:

    PYTHONPATH=.:GUIDED_DIFFUSION python tests/interop/make_golden_adm.py

Made with PyTorch 2.15 on a CPU.
"""

from pathlib import Path

import numpy as np
import torch
from guided_diffusion.unet import UNetModel

from tests.interop import adm_cases


def main() -> None:
    """Runs the cases and writes the file."""
    golden = {}
    for name in adm_cases.CONFIGS:
        network = UNetModel(**adm_cases.config(name))
        shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        network.load_state_dict({key: torch.tensor(w) for key, w in adm_cases.weights(shapes).items()})
        io = {key: torch.tensor(array) for key, array in adm_cases.inputs(name).items()}
        with torch.no_grad():
            output = network(io.pop("x"), io.pop("t"), **io)
        golden |= {f"{name}/names": np.array(list(shapes)), f"{name}/output": output.numpy()}
    np.savez_compressed(Path(__file__).parents[1] / "golden/adm/unet.npz", **golden)


if __name__ == "__main__":
    main()
