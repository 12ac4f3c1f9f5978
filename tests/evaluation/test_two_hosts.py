"""An evaluation on two real hosts: the images are made once, read in shares, and scored as on one host."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pdm_jax.evaluation.demand import Demand
from pdm_jax.evaluation.evaluate import evaluate
from pdm_jax.evaluation.generated import GeneratedFolder
from pdm_jax.evaluation.image_sets import ImageSet
from pdm_jax.evaluation.judges import Judges
from tests.evaluation.conftest import mean_distance, simple_features
from tests.evaluation.test_evaluate import silent

METRICS, NUM = ("fid", "is", "precision", "psnr", "lpips"), 21
HOST = """
import json
import sys
from pathlib import Path

import jax
import numpy as np

port, host, images, reference, out = sys.argv[1:]
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize("localhost:" + port, num_processes=2, process_id=int(host))
from tests.evaluation.test_two_hosts import NUM, run
from pdm_jax.evaluation.generated import GeneratedFolder, fill

made = []


def make(stop, start):  # as a sampling loop over both hosts' devices: each has all images
    for first in range(start, stop, 4):
        made.extend(range(first, min(first + 4, stop)))
        indices = np.arange(first, min(first + 4, stop))
        yield np.stack([np.random.default_rng(i).integers(0, 255, (12, 12, 3)).astype(np.uint8) for i in indices])


folder = GeneratedFolder(Path(images), {"seed": 0})
fill(folder, NUM, make, None, lambda count: None)
scores = run(folder.source(NUM), reference)
Path(out).write_text(json.dumps({"scores": scores, "made": made}))
"""


def run(images, reference):
    judges = Judges(simple_features(), mean_distance())
    demand = Demand(METRICS, splits=3, confidence=True)
    return evaluate(demand, judges, lambda: ImageSet(images), ImageSet(reference), batch_size=4, bar=silent)[0]


@pytest.mark.slow
def test_two_hosts_score_as_one(tmp_path):
    generator = np.random.default_rng(99)
    np.savez(tmp_path / "reference.npz", generator.integers(0, 255, (NUM, 12, 12, 3)).astype(np.uint8))
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": "", "PYTHONPATH": str(Path(__file__).parents[2])}
    paths = [str(tmp_path / name) for name in ("images", "reference.npz")]
    hosts = [
        subprocess.Popen(
            [sys.executable, "-c", HOST, port, str(host), *paths, str(tmp_path / f"{host}.json")], env=environment
        )
        for host in range(2)
    ]
    assert [host.wait(200) for host in hosts] == [0, 0]

    first, second = (json.loads((tmp_path / f"{host}.json").read_text()) for host in range(2))
    assert first == second and first["made"] == list(range(NUM))
    assert GeneratedFolder(tmp_path / "images", {"seed": 0}).there(NUM).all()
    alone = run(f"npz:{tmp_path}/images/images-*.npz", paths[1])
    assert first["scores"] == pytest.approx(alone, rel=1e-4)
