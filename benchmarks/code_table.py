"""Memory of a train step with a large table of semantic codes, and how the table's Adam changes it.

  python benchmarks/code_table.py [--out FILE.json] [--images 1000000] [--devices 8]

Compiles the step of a small Patch-DM with a table of 512 numbers an image, on so many simulated CPU devices that share
the table (`config.mesh.fsdp`), and reads XLA's memory analysis; nothing is run. `dense` moves every row at every step,
`rows` those of the batch. `rows (host)` keeps the averaged weights on the host. MiB a device: the state between steps,
and what a step needs besides.
"""

from __future__ import annotations

import argparse
import os
import re

_SETTINGS = {"dense": ("dense", "device"), "rows": ("rows", "device"), "rows (host)": ("rows", "host")}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", help="also write the rows as JSON")
    parser.add_argument("--images", type=int, default=1_000_000, help="rows of the table")
    parser.add_argument("--devices", type=int, default=8, help="devices that share it")
    args = parser.parse_args()
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"
    os.environ["JAX_PLATFORMS"] = "cpu"
    from report import report

    rows = [
        {"Adam of the table": name} | _measure(args.images, args.devices, *settings)
        for name, settings in _SETTINGS.items()
    ]
    report("code_table", rows, args.out)


def _measure(images: int, devices: int, optimizer: str, place: str) -> dict[str, object]:
    from pdm_jax.config import Config, read
    from pdm_jax.parallel import make_mesh
    from pdm_jax.systems import make_system
    from pdm_jax.training.optimizer import make_optimizer
    from pdm_jax.training.state import plan_state
    from pdm_jax.training.step import batch_shapes, make_train_step

    network = {"width": 32, "channel_mult": (1, 1), "num_blocks": 1, "embed_dim": 512}
    config = read(
        Config,
        {
            "data": {"source": "none", "image_size": 64, "batch_size": 4 * devices},
            "model": {
                "system": "patch_dm",
                "backbone": "patch_unet",
                "patch_size": 16,
                "prediction": "eps",
                "network": network,
            },
            "codes": {"kind": "table", "num": images, "optimizer": optimizer},
            "loss": {"kind": "both", "target": "eps"},
            "optimizer": {"clip_norm": 1.0},
            "ema": {"place": place},
            "mesh": {"data": 1, "fsdp": devices},
        },
    )
    mesh, system, adam = make_mesh(config.mesh), make_system(config), make_optimizer(config.optimizer)
    plan = plan_state(system, adam, config.ema, mesh)
    step = make_train_step(system, adam, config, mesh, plan)
    compiled = step.lower(plan.shapes, batch_shapes(system, config.data.batch_size, mesh)).compile()
    memory = compiled.memory_analysis()
    whole = rf"f32\[{images},512\]"
    return {
        "state, MiB": round(memory.argument_size_in_bytes / 2**20),
        "step, MiB": round(memory.temp_size_in_bytes / 2**20),
        "tables sent": len(re.findall(rf"{whole}\S* all-(?:gather|reduce)", compiled.as_text())),
    }


if __name__ == "__main__":
    main()
