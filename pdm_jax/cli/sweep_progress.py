"""How far a point of a sweep is, from what its training, its evaluation and its last run left in its folder."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pdm_jax.cli.sweep_points import Point
from pdm_jax.systems import parts_of

_NOTE = "status.json"
_SPEED = "images_per_s"
_SAME_SPEED = ("step", "params", "sampler", "steps", "guidance")  # facts that speed of sampling depends on


class Progress:
    """A point's folder as it is now; one that does not exist is of a point that has not begun."""

    def __init__(self, point: Point):
        self._goals = {part.name: part.config.train.num_steps for part in parts_of(point.config)}
        self._reports = {part: _reports(point.folder / part / "metrics.jsonl") for part in self._goals}
        texts = (path.read_text() for path in sorted(point.folder.glob("eval/scores-*.json")))
        self._evaluations = [json.loads(text) for text in texts]
        self.failure = read_note(point.folder).get("error")  # one line, of the last run; None if it had none

    @property
    def steps(self) -> dict[str, int]:
        """The last step of training that was reported, by part; "" of a model that is not split."""
        return {part: reports[-1]["step"] if reports else 0 for part, reports in self._reports.items()}

    @property
    def step(self) -> str:
        """The steps as `pdm eval` names them: `1000`, or `high 1000, low 500`."""
        return ", ".join(f"{part} {step}".strip() for part, step in self.steps.items())

    @property
    def position(self) -> str:
        """The steps beside what they are to become: `500 of 1000`."""
        return ", ".join(f"{part} {step} of {self._goals[part]}".strip() for part, step in self.steps.items())

    @property
    def is_trained(self) -> bool:
        """Whether all parts have got to their ends."""
        return all(self.steps[part] >= goal for part, goal in self._goals.items())

    @property
    def train_speed(self) -> float | None:
        """Images a second of training: the median of the reports, over all of the images if there are parts."""
        speeds = [[report[_SPEED] for report in reports if _SPEED in report] for reports in self._reports.values()]
        if not all(speeds):
            return None
        return statistics.harmonic_mean(list(map(statistics.median, speeds)), list(self._goals.values()))

    @property
    def evaluation(self) -> Mapping[str, Any]:
        """What the newest evaluation wrote; {} without one."""
        return self._evaluations[-1] if self._evaluations else {}

    @property
    def sample_speed(self) -> float | None:
        """Images a second of sampling, from the newest evaluation of the same kind that had images to make."""

        def kind(record: Mapping[str, Any]) -> list[Any]:
            return [record.get(fact) for fact in _SAME_SPEED]

        same = (record for record in reversed(self._evaluations) if kind(record) == kind(self.evaluation))
        return next((record[_SPEED] for record in same if record.get(_SPEED)), None)

    @property
    def status(self) -> str:
        """One line: `done`, or what is lacking."""
        if self.failure:
            return f"failed: {self.failure}"
        if not any(self.steps.values()):
            return "not begun"
        if not self.is_trained:
            return f"trained to {self.position}"
        return "done" if self.evaluation.get("step") == self.step else "not evaluated"


def read_note(folder: Path) -> dict[str, Any]:
    """How the last run of a point ended: what was `asked` for and its `error`; {} if it has not ended."""
    path = folder / _NOTE
    return json.loads(path.read_text()) if path.exists() else {}


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Replaces the note as a whole."""
    temporary = folder / f".{_NOTE}"
    temporary.write_text(json.dumps(note, indent=1) + "\n")
    temporary.replace(folder / _NOTE)


def _reports(path: Path) -> list[dict[str, float]]:
    """The lines of `metrics.jsonl` but one that is still being written."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]
