"""`pdm sweep`: its points, its runs by processes that stand in for `pdm`, its table and plot."""

import csv
import fcntl
import itertools
import json
import os
import shlex
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from PIL import Image

from pdm_jax.cli import sweep_runs
from pdm_jax.cli.config_files import load_config, separate_overrides
from pdm_jax.cli.main import _parser
from pdm_jax.cli.sweep_plot import plot
from pdm_jax.cli.sweep_report import markdown
from pdm_jax.systems import parts_of
from tests import tiny

# Does what a sweep sees of `pdm train` and `pdm eval`: it may fail by the words in a file, and waits where it says so.
STAND_IN = """
import json, pathlib, sys, time
command, *arguments = sys.argv[1:]
given = dict(argument.split("=", 1) for argument in arguments)
folder = pathlib.Path(given["--workdir"])
with (folder.parent / "calls").open("a") as calls:
    calls.write(f"{folder.name} {command}\\n")
trouble = folder.parent / "trouble"
if trouble.exists() and folder.name in trouble.read_text():
    print("warning: all is well\\r 10%\\npdm: there is no disk\\n", file=sys.stderr)
    sys.exit(2)
if (folder.parent / "wait").exists():
    (folder / "waiting").touch()
    time.sleep(60)
steps = int(given.get("--config.train.num_steps", 6))
if command == "train":
    lines = [{"step": step, "loss": 1.0, "images_per_s": 100.0 + step} for step in (1, 2, steps)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
else:
    (folder / "eval").mkdir(exist_ok=True)
    number = len(list((folder / "eval").iterdir()))
    step = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["step"]
    size = float(folder.name.split("=")[1].split(",")[0])
    scores = {"fid_local": 10 + size, "precision_local": 0.5}
    record = {"step": str(step), "images_per_s": None if number else 20 * size, "scores": scores}
    (folder / "eval" / f"scores-{number}.json").write_text(json.dumps(record))
"""


@pytest.fixture
def sweep(pdm, tmp_path):
    """Runs `pdm sweep` of the tiny config in tmp_path/sweep; returns the exit status, stdout and stderr."""
    return lambda *argv: pdm(*command(tmp_path, *argv))


@pytest.fixture
def refused_sweep(refused, tmp_path):
    """Runs a sweep that must fail with one line; returns the line."""
    return lambda *argv: refused(*command(tmp_path, *argv))


def command(folder: Path, *argv: str) -> list[str]:
    """The arguments of `pdm` for a sweep of digits in folder/sweep."""
    values = tiny.SETTINGS | {"eval": {"num": 100}}
    values["data"], values["model"] = (
        values["data"] | {"source": "builtin:digits"},
        values["model"] | {"num_classes": 10},
    )
    (folder / "config.py").write_text(f"def get_config():\n    return {values!r}\n")
    return ["sweep", f"--config={folder}/config.py", f"--workdir={folder}/sweep", *argv]


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """The sweep's folder, whose processes are the stand-in's."""
    (tmp_path / "pdm.py").write_text(STAND_IN)
    monkeypatch.setattr(sweep_runs, "_PDM", (sys.executable, "-S", str(tmp_path / "pdm.py")))
    return tmp_path / "sweep"


def calls(folder: Path) -> list[str]:
    """What has been run since this was last asked."""
    path = folder / "calls"
    lines = path.read_text().splitlines() if path.exists() else []
    path.unlink(missing_ok=True)
    return lines


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_point_is_trained_and_evaluated_once(sweep, stand_in):
    asked = ["--patch-sizes=1,2", "--grid", "seed=0,7"]
    status, out, err = sweep(*asked)
    assert status == 0, err
    names = [f"patch_size={size},seed={seed}" for size in (1, 2) for seed in (0, 7)]
    assert calls(stand_in) == [f"{name} {program}" for name in names for program in ("train", "eval")]
    rows = table(stand_in)
    assert [row["point"] for row in rows] == names
    expected = {"patch_size": "2", "seed": "7", "step": "6", "train_images_per_s": "102.0", "status": "done"}
    expected |= {"sample_images_per_s": "40.0", "fid_local": "12.0", "precision_local": "0.5"}
    assert {key: rows[-1][key] for key in expected} == expected and int(rows[-1]["parameters"]) > 10_000
    assert (stand_in / "results.md").read_text() in out and out.count("| done ") == 4
    assert Image.open(stand_in / "quality.png").size == (1200, 750)
    assert sweep(*asked)[:2] == (0, out) and calls(stand_in) == []  # what is done is left alone
    assert sweep(*asked, "--config.train.num_steps=8")[0] == 0 and len(calls(stand_in)) == 8  # more is asked for
    assert [row["step"] for row in table(stand_in)] == ["8"] * 4


def test_values_may_be_added_and_a_speed_is_kept(sweep, stand_in):
    assert sweep("--patch-sizes=1")[0] == sweep("--patch-sizes=2,1")[0] == 0
    assert len(calls(stand_in)) == 4
    assert sweep("--patch-sizes=2,1", "--metrics=fid")[0] == 0  # its images are there already
    assert calls(stand_in) and [row["sample_images_per_s"] for row in table(stand_in)] == ["40.0", "20.0"]


def test_a_failing_point_does_not_end_the_sweep(sweep, stand_in):
    stand_in.mkdir()
    (stand_in / "trouble").write_text("patch_size=2")
    status, out, err = sweep("--patch-sizes=1,2,4")
    assert status == 1 and "patch_size=2 failed: train: there is no disk (see its logs)" in err
    assert [row["status"] for row in table(stand_in)] == ["done", "failed: train: there is no disk", "done"]
    assert "failed: train: there is no disk" in out and len(calls(stand_in)) == 5
    (stand_in / "trouble").unlink()
    assert sweep("--patch-sizes=1,2,4")[0] == 0
    assert calls(stand_in) == ["patch_size=2 train", "patch_size=2 eval"]
    assert [row["status"] for row in table(stand_in)] == ["done"] * 3


def test_an_interrupt_ends_the_child_and_then_the_sweep(sweep, stand_in):
    stand_in.mkdir()
    (stand_in / "wait").touch()

    def interrupt():
        while not (stand_in / "patch_size=1" / "waiting").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    status, _, err = sweep("--patch-sizes=1,2")
    assert status == 130 and "stopped at patch_size=1; the same command goes on from there" in err
    assert err.endswith("pdm: interrupted\n") and calls(stand_in) == ["patch_size=1 train"]
    (stand_in / "wait").unlink()
    assert sweep("--patch-sizes=1,2")[0] == 0 and len(calls(stand_in)) == 4


def test_a_process_that_outlived_its_sweep_is_not_joined_by_another(sweep, stand_in):
    (stand_in / "patch_size=1").mkdir(parents=True)
    with (stand_in / "patch_size=1" / "train.log").open("w") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        status, out, err = sweep("--patch-sizes=1")
    assert (status, out) == (2, "") and "another process is writing" in err and calls(stand_in) == []


@pytest.mark.parametrize(
    "end, error",
    [
        ("raise SystemExit(3)", "exit status 3"),
        ("raise ValueError('no such\\nluck')", "ValueError: no such"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL"),
        ("pass", "stopped at step 0 of 6"),
    ],
)
def test_why_a_process_failed(sweep, stand_in, tmp_path, end, error):
    (tmp_path / "pdm.py").write_text(end)
    assert sweep("--patch-sizes=1")[0] == 1
    assert table(stand_in)[0]["status"] == f"failed: train: {error}"


def test_commands_for_a_scheduler(sweep, stand_in):
    asked = ["--patch-sizes=2,[1,2]", "--config.split.boundaries=500", "--num=70", "--steps=3"]
    status, out, _ = sweep(*asked, "--print")
    lines = out.splitlines()
    assert status == 0 and len(lines) == 2 and calls(stand_in) == []
    for line, patch_size, name in zip(lines, ((2, 2), (1, 2)), ("patch_size=2", "patch_size=1-2"), strict=True):
        train, evaluate = (shlex.split(part)[1:] for part in line.split(" && "))
        arguments, overrides = separate_overrides(train)
        args = _parser().parse_args(arguments)
        parts = parts_of(load_config(args.config, overrides))
        assert tuple(part.config.model.patch_size for part in parts) == patch_size
        assert args.workdir == f"{stand_in}/{name}" == _parser().parse_args(evaluate).workdir
        assert {"--num=70", "--steps=3", f"--cache={stand_in}/cache"} <= set(evaluate)


def test_commands_for_a_scheduler_without_a_disk(sweep, stand_in):
    asked = ["--patch-sizes=1,2", "--workdir=gs://bucket/my sweep"]
    status, out, _ = sweep(*asked, "--print")
    trained = [shlex.split(line) for line in out.splitlines()]
    assert status == 0 and [words[:2] for words in trained] == [["pdm", "train"]] * 2 and "&&" not in out
    for words, name in zip(trained, ("patch_size=1", "patch_size=2"), strict=True):
        arguments, overrides = separate_overrides(words[1:])
        args = _parser().parse_args(arguments)
        assert args.workdir == f"gs://bucket/my sweep/{name}"
        assert load_config(args.config, overrides).model.patch_size == int(name[-1])


def test_a_report_of_what_is_there(sweep, refused_sweep, stand_in, monkeypatch):
    asked = ["--patch-sizes=1,2", "--config.split.boundaries=500", "--report"]
    assert "there is no sweep in" in refused_sweep(*asked)
    folder = stand_in / "patch_size=2"
    for part, steps, speed in (("high", 6, 30.0), ("low", 3, 60.0)):
        (folder / part).mkdir(parents=True)
        line = json.dumps({"step": steps, "loss": 1.0, "images_per_s": speed})
        (folder / part / "metrics.jsonl").write_text(f"{line}\n{line[:9]}")  # a report is being written
    assert sweep(*asked)[0] == 0
    rows = table(stand_in)
    assert [row["status"] for row in rows] == ["not begun", "trained to high 6 of 6, low 3 of 6"]
    assert [row["train_images_per_s"] for row in rows] == ["", "40.0"] and "fid_local" not in rows[0]
    assert not (stand_in / "quality.png").exists()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install matplotlib" in sweep(*asked)[1]


def test_a_table_is_read_as_it_is(tmp_path):
    rows = [
        {"point": "patch_size=2", "parameters": 1234567, "fid_local": 9.87654, "status": "done"},
        {"point": "patch_size=16", "parameters": 1234, "fid_local": None, "status": "failed: a | b"},
    ]
    assert markdown(rows) == (
        "| point         | parameters | fid local | status         |\n"
        "| ------------- | ---------: | --------: | -------------- |\n"
        "| patch_size=2  |  1,234,567 |     9.877 | done           |\n"
        "| patch_size=16 |      1,234 |           | failed: a \\| b |\n"
    )


def test_labels_do_not_cover_each_other(tmp_path):
    rows = [
        {"point": "", "patch_size": size, "parameters": 1, "sample_images_per_s": 10.0 * size, "fid": 5 + 0.01 * i}
        for i, size in enumerate((1, 1, 8, 8))
    ]
    texts = []
    annotate = Axes.annotate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "annotate", lambda *args, **named: texts.append(annotate(*args, **named)))
        assert plot(tmp_path / "quality.png", rows, "fid")
    boxes = [text.get_window_extent() for text in texts]
    axes = texts[0].axes.get_window_extent()
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    assert all(axes.x0 < box.x0 and box.x1 < axes.x1 for box in boxes)


def test_another_sweep_is_refused(sweep, refused_sweep, stand_in):
    assert sweep("--patch-sizes=1", "--print")[0] == 0
    assert "(it sweeps model.patch_size)" in refused_sweep("--patch-sizes=1", "--grid", "seed=0,1")
    assert "(config.seed: 0 -> 1)" in refused_sweep("--patch-sizes=1", "--config.seed=1")
    assert "config.sample or config.eval is another" in refused_sweep("--patch-sizes=1", "--config.sample.steps=3")
    (stand_in / "sweep.json").write_text("{}")
    assert "cannot keep a sweep in" in refused_sweep("--patch-sizes=1")


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "required: --patch-sizes"),
        (["--patch-sizes="], "--patch-sizes is ''; expected values joined by commas"),
        (["--patch-sizes=1,,2"], "--patch-sizes is '1,,2'"),
        (["--patch-sizes=two"], "the point patch_size=two: config.model.patch_size is 'two'; expected int"),
        (["--patch-sizes=1,3"], "the point patch_size=3: an image of 4x4 cannot be cut into patches of 3x3"),
        (["--patch-sizes=2,2"], "the point patch_size=2 comes twice"),
        (["--patch-sizes=1", "--grid", "learning_rate"], "--grid is 'learning_rate'; expected GROUP.KEY=A,B"),
        (["--patch-sizes=1", "--grid", "optimizer.b1="], "--grid optimizer.b1 is ''"),
        (["--patch-sizes=1", "--grid", "optimizer.lr=1"], "config.optimizer.lr is not a config key"),
        (["--patch-sizes=1", "--grid", "seed=1", "seed=2"], "seed is swept twice"),
        (["--patch-sizes=1", "--grid", "optimizer.b1=0.1,1e-1"], "patch_size=1,b1=0.1 comes twice"),
        (["--patch-sizes=1", "--num=64"], "64 images are one batch"),
        (["--patch-sizes=1", "--batch-size=0"], "--batch-size is 0"),
        (["--patch-sizes=1", "--metrics=fdi"], "there is no metric 'fdi'"),
        (["--patch-sizes=1", "--metrics=psnr"], "psnr is no metric of a sweep"),
        (["--patch-sizes=1", "--metrics=sfid"], "sfid needs Inception's features"),
        (["--patch-sizes=1", "--features=vgg"], "--features is 'vgg'"),
        (["--patch-sizes=1", "--steps=many"], "many"),
        (["--patch-sizes=1", "--print", "--report"], "not allowed with argument"),
        (["--patch-sizes=1", "--workdir=gs://bucket/sweep"], "--workdir is gs://bucket/sweep"),
    ],
)
def test_mistakes_are_one_line_before_anything_is_run(refused_sweep, stand_in, argv, message):
    assert message in refused_sweep(*argv)
    assert not stand_in.exists()


@pytest.mark.slow
def test_real_points(sweep, tmp_path, monkeypatch):
    monkeypatch.delenv("XLA_FLAGS")  # they train: one device, all optimisations
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", os.environ["PDM_TEST_CACHE"])
    argv = ("--patch-sizes=1,2", "--config.data.image_size=8", "--num=24", "--batch-size=8", "--metrics=fid")
    status, _, err = sweep(*argv)
    assert status == 0, err
    for row in table(tmp_path / "sweep"):
        assert row["status"] == "done" and row["step"] == "6" and float(row["fid_local"]) > 0
        assert float(row["train_images_per_s"]) > 0 and float(row["sample_images_per_s"]) > 0
