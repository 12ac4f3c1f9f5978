"""What the official programs make of random images with random weights.

  python tests/evaluation/make_golden_networks.py FOLDER

writes the weight files and `networks.npz` into the folder; the latter is stored in `tests/golden/evaluation`. Made with
torch 2.15.0, torchvision 0.29.2, torch-fidelity 0.4.0, pytorch-fid 0.3.0, clean-fid 0.1.35, lpips 0.1.4, Pillow 13.0.0
and NumPy 2.4.6 on a CPU. Images are uint8 (B, H, W, 3), results float32 arrays.
"""

import contextlib
import sys
from pathlib import Path
from unittest import mock

import lpips
import numpy as np
import pytorch_fid.inception
import torch
import torchvision
from cleanfid.resize import make_resizer
from random_weights import make_images, make_weights
from torch import Tensor
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x


def save_weights(folder: Path) -> None:
    """Writes a `.pth` file a network, with all that the official file has."""
    with torch.device("meta"):
        modules = {
            "inception": torchvision.models.inception_v3(num_classes=1008, aux_logits=False, init_weights=False),
            "vgg": torchvision.models.vgg16(),
            "alex": torchvision.models.alexnet(),
        }
        modules |= {f"{name}_heads": _lpips(name) for name in ("alex", "vgg")}
    for name, module in modules.items():
        state = module.state_dict()
        if name.endswith("_heads"):
            state = {key: value for key, value in state.items() if key.startswith("lin") and key[3].isdigit()}
        weights = make_weights({key: value.shape for key, value in state.items() if value.is_floating_point()})
        tensors = {key: torch.from_numpy(value) for key, value in weights.items()}
        counters = {key: torch.tensor(0) for key in state if key not in weights}
        torch.save(tensors | counters, folder / f"{name}.pth")


def resized(kind: str, images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Images as a program resizes them to (height, width)."""
    if kind == "tensorflow":
        x = interpolate_bilinear_2d_like_tensorflow1x(_to_torch(images).float(), size, align_corners=False)
        return x.numpy().transpose(0, 2, 3, 1)
    if kind == "clean":
        resizer = make_resizer("PIL", False, "bicubic", size[::-1])
    else:
        resizer = make_resizer("PyTorch", False, "bilinear", size)
    return np.stack([resizer(image) for image in images])


def fidelity_inception(path: Path, images: np.ndarray, resize: str = "tensorflow") -> dict[str, np.ndarray]:
    """torch-fidelity's features, behind its own resize or another."""
    network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))
    branches = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda module, inputs, output: branches.append(output))
    replaced = contextlib.nullcontext()
    if resize != "tensorflow":
        large = _to_torch(resized(resize, images, (299, 299)))
        name = "torch_fidelity.feature_extractor_inceptionv3.interpolate_bilinear_2d_like_tensorflow1x"
        replaced = mock.patch(name, lambda *args, **kwargs: large)
    with replaced:
        pool, logits = network(_to_torch(images))
    spatial = branches[0][:, :7].permute(0, 2, 3, 1).reshape(len(images), -1)  # as ADM cuts and flattens it
    return {"pool": pool.numpy(), "spatial": spatial.numpy(), "logits": logits.numpy()}


def pytorch_fid_pool(path: Path, images: np.ndarray) -> np.ndarray:
    """pytorch-fid's features."""
    with mock.patch("pytorch_fid.inception.load_state_dict_from_url", lambda *args, **kwargs: torch.load(path)):
        network = pytorch_fid.inception.InceptionV3().eval()
    return network(_to_torch(images) / 255)[0][:, :, 0, 0].numpy()


def fidelity_vgg16(path: Path, images: np.ndarray) -> np.ndarray:
    """torch-fidelity's features for precision and recall."""
    return FeatureExtractorVGG16("vgg16", ["fc2_relu"], str(path))(_to_torch(images))[0].numpy()


def lpips_distance(backbone: str, folder: Path, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The lpips package's distances."""
    network = _lpips(backbone).eval()
    official = torch.load(folder / f"{backbone}.pth")
    # slice2.5.weight there is features.5.weight in torchvision
    network.net.load_state_dict({name: official["features" + name[6:]] for name in network.net.state_dict()})
    network.load_state_dict(torch.load(folder / f"{backbone}_heads.pth"), strict=False)
    return network(*(_to_torch(images) / 127.5 - 1 for images in (a, b)))[:, 0, 0, 0].numpy()


def _lpips(backbone: str) -> lpips.LPIPS:
    return lpips.LPIPS(net=backbone, pretrained=False, pnet_rand=True, verbose=False)


def _to_torch(images: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


@torch.no_grad()
def main(folder: Path) -> None:
    save_weights(folder)
    images, other = make_images(2, 80, 64), make_images(2, 80, 64, seed=1)
    inception = folder / "inception.pth"
    results = {f"inception_{name}": value for name, value in fidelity_inception(inception, images).items()}
    results["inception_pool_pytorch"] = pytorch_fid_pool(inception, images)
    results["inception_pool_clean"] = fidelity_inception(inception, images, "clean")["pool"]
    results["vgg16_fc2"] = fidelity_vgg16(folder / "vgg.pth", images)
    for backbone in ("alex", "vgg"):
        results[f"lpips_{backbone}"] = lpips_distance(backbone, folder, images, other)
    for kind in ("tensorflow", "pytorch", "clean"):
        for height, width in ((23, 29), (61, 50)):
            results[f"resized_{kind}_{height}x{width}"] = resized(kind, images[:1, :40, :33], (height, width))
    np.savez_compressed(folder / "networks.npz", **results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
