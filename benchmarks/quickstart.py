"""How well the quickstart draws digits: an SVC trained on the real ones reads samples made for known labels.

  python benchmarks/quickstart.py [--workdir runs/quickstart] [--num 500] [--out quickstart.json] [flags of pdm sample]

The samples are those of the run's config.sample, or of flags like --guidance=1, scaled to the digits' own 8x8. The rate
at which the SVC reads real digits that it was not trained on bounds what can be reached.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from report import report
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.svm import SVC

from pdm_jax.cli import main as pdm


def main() -> None:
    """Trains the SVC, samples, and reports how many samples it reads as asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="runs/quickstart")
    parser.add_argument("--num", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3, help="how many times, with other noise")
    parser.add_argument("--out", help="a JSON file")
    args, flags = parser.parse_known_args()
    digits = load_digits()
    known, held_out, labels, held_out_labels = train_test_split(digits.data, digits.target, random_state=0)
    classifier = SVC(gamma=0.001, C=10).fit(known, labels)
    rows = [{"what": "real held-out digits", "read as asked": classifier.score(held_out, held_out_labels)}]
    for seed in range(args.seeds):
        images, wanted, seconds = sample(args.workdir, args.num, seed, flags)
        read = classifier.predict(images)
        worst = min(range(10), key=lambda k: np.mean(read[wanted == k] == k))
        rows.append(
            {
                "what": f"{args.num} samples, seed {seed}",
                "read as asked": float(np.mean(read == wanted)),
                "worst digit": f"{worst}: {np.mean(read[wanted == worst] == worst):.2f}",
                "images/s": args.num / seconds,
            }
        )
    rows[0] |= {"worst digit": "", "images/s": None}
    rows += training(Path(args.workdir))
    report("quickstart", rows, args.out)


def sample(workdir: str, num: int, seed: int, flags: list[str]) -> tuple[np.ndarray, np.ndarray, float]:
    """Samples [num, 64] in the digits' range 0 to 16, their labels, and the seconds it took to compile and run."""
    with tempfile.TemporaryDirectory() as folder:
        out, start = f"{folder}/samples.npz", time.perf_counter()
        status = pdm(["sample", f"--workdir={workdir}", f"--num={num}", f"--seed={seed}", f"--out={out}", *flags])
        if status:
            raise SystemExit(status)
        seconds = time.perf_counter() - start
        with np.load(out) as arrays:
            images, labels = arrays["arr_0"][..., 0], arrays["arr_1"]
    small = [np.asarray(Image.fromarray(image).resize((8, 8), Image.Resampling.BOX)) for image in images]
    return np.stack(small).reshape(num, -1) * (16 / 255), labels, seconds


def training(workdir: Path) -> list[dict]:
    """The last report of the training of each part of the run's model."""
    found = []
    for path in sorted(workdir.glob("**/metrics.jsonl")):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        speed = float(np.median([row["images_per_s"] for row in rows if "images_per_s" in row]))
        name = f"training {path.parent.name}" if path.parent != workdir else "training"
        what = f"{name}, step {rows[-1]['step']}, loss {rows[-1]['loss']:.2f}"
        found.append({"what": what, "read as asked": None, "worst digit": "", "images/s": speed})
    return found


if __name__ == "__main__":
    main()
