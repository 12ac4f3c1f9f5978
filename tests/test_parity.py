"""The parity runner: every stored case passes, and it tells failures from mistakes."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pdm_jax.errors import UserError
from tests import parity
from tests.parity_kinds import kind_of, open_case
from tests.parity_kinds._tolerance import compare

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = Path(__file__).parents[2] / "shared" / "reference"


def _cases(root: Path) -> list[Path]:
    metas = root.rglob("meta.json")
    return sorted(meta.parent for meta in metas if kind_of(meta.relative_to(root)))


def _assert_passes(folder: Path, root: Path) -> None:
    verdicts = parity.check(open_case(folder, root))
    assert verdicts
    wrong = [v for v in verdicts if not v.ok]
    assert not wrong, parity.render(wrong)


@pytest.mark.parametrize("folder", _cases(GOLDEN), ids=lambda folder: str(folder.relative_to(GOLDEN)))
def test_golden(folder):
    _assert_passes(folder, GOLDEN)


@pytest.mark.slow
@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the full reference is not beside the checkout")
def test_reference():
    folders = [folder for folder in _cases(REFERENCE) if _runs(folder)]
    assert len(folders) >= 2
    for folder in folders:
        _assert_passes(folder, REFERENCE)


def _runs(folder: Path) -> bool:
    return folder.parts[-2:] not in [("sd21_clip", name) for name in ("unet", "vae", "ddim")]  # not of CLIP


@pytest.fixture
def case(tmp_path) -> Path:
    """A copy of a case, to be changed."""
    folder = tmp_path / "pdm_diffusion"
    shutil.copytree(GOLDEN / "pdm_diffusion", folder)
    return folder


def _rewrite(case: Path, **changes: np.ndarray) -> None:
    arrays = dict(np.load(case / "io.npz"))
    np.savez(case / "io.npz", **(arrays | {name.replace("__", "/"): array for name, array in changes.items()}))


def test_a_wrong_array_fails(case, capsys):
    arrays = np.load(case / "io.npz")
    _rewrite(case, loss__xt=arrays["loss/xt"] + 0.01)
    assert parity.main([str(case)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("NO")] == ["loss/xt"]


def test_an_array_that_is_not_computed_fails(case, capsys):
    _rewrite(case, loss__unheard_of=np.zeros(3))
    assert parity.main([str(case)]) == 1
    assert "missing" in capsys.readouterr().out


def test_another_case_of_the_kind_runs(case):
    """Numbers come from the meta and the inputs: other strides, steps, labels and batch, nothing compared."""
    meta = json.loads((case / "meta.json").read_text())
    meta["strides"] = {"7": [7], "two": [3, 9]}
    meta["steps"] = [{"prefix": "step0", "t": 700, "t_next": 650, "W": 3.0, "output_type": "v"}]
    meta["traj"] |= {"n": 4, "labels": [1000, 2, 3], "split": 500, "guided_W": 4.0}
    (case / "meta.json").write_text(json.dumps(meta))
    rng = np.random.default_rng(0)
    step = {f"step0__{n}": rng.normal(size=(3, 4, 4, 3)).astype(np.float32) for n in ("xt", "mean_cond", "mean_uncond")}
    step |= {"step0__var_output": np.full((3, 4, 4, 3), 0.5, np.float32), "step0__noise": step["step0__xt"]}
    trajectory = {f"traj_{n}__x_T": step["step0__xt"] for n in ("plain", "guided")}
    trajectory |= {
        f"traj_{n}__noises": rng.normal(size=(3, 3, 4, 4, 3)).astype(np.float32) for n in ("plain", "guided")
    }
    _rewrite(case, **step, **trajectory)
    opened = open_case(case)
    got = opened.kind.run(opened)
    assert got["stride/two/t"].shape == (12,)
    assert got["step0/out"].shape == (3, 4, 4, 3)
    assert got["traj_guided/xs"].shape == (4, 3, 4, 4, 3)
    np.testing.assert_array_equal(got["traj_plain/t"], [999, 666, 333, 0])


def test_a_kind_cannot_read_what_it_must_compute():
    assert "loss/L_vlb" not in open_case(GOLDEN / "pdm_diffusion").io
    assert "loss/L_vlb" in open_case(GOLDEN / "pdm_diffusion").wanted


def test_mistakes_exit_with_2(tmp_path, capsys):
    assert parity.main([str(tmp_path / "nowhere")]) == 2
    (tmp_path / "meta.json").write_text("{}")
    assert parity.main([str(tmp_path)]) == 2
    assert parity.main([str(tmp_path), "--kind", "unheard"]) == 2
    assert parity.main([str(tmp_path), "--root", str(GOLDEN)]) == 2
    assert parity.main([str(tmp_path), "--kind", "pdm_diffusion"]) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 5
    assert "give --kind" in errors[1] and "kinds are" in errors[2] and "not below" in errors[3]
    assert "no 'main_beta_max'" in errors[4]


def test_kind_and_root():
    folder = GOLDEN / "adm" / "diffusion"
    assert open_case(folder).root == GOLDEN
    assert open_case(folder, kind="adm/diffusion").kind is open_case(folder).kind
    assert open_case(folder).sister("pdm_diffusion").folder == GOLDEN / "pdm_diffusion"
    with pytest.raises(UserError, match="--root"):
        open_case(folder).sister("pdm_tf/unheard_of")


@pytest.mark.slow
def test_runs_from_any_folder(tmp_path):
    command = [sys.executable, str(Path(parity.__file__)), str(GOLDEN / "pdm_diffusion")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "within tolerance" in done.stdout


def test_tolerance_of_the_longest_name():
    tolerance = {
        "default": {"atol": 0.0, "rtol": 0.0},
        "a/": {"atol": 1.0, "rtol": 0.0},
        "a/b": {"atol": 0.0, "rtol": 0.5},
        "a/b[0]": {"atol": 3.0, "rtol": 0.0},
    }

    def passes(name, got, ref):
        return compare(name, np.array(got), np.array(ref), tolerance, False).ok

    assert passes("a/x", [1.0], [2.0]) and not passes("a/x", [0.9], [2.0])
    assert passes("a/bc", [3.0], [2.0]) and not passes("a/bc", [3.1], [2.0])
    assert passes("a/b", [5.0, 3.0], [2.0, 2.0]) and not passes("a/b", [5.0, 3.1], [2.0, 2.0])
    assert passes("z", [2], [2]) and not passes("z", [2.0], [2.0 + 1e-12])
    assert not passes("a/x", [np.nan], [2.0]) and not passes("a/x", [1.0, 1.0], [1.0])


@pytest.mark.parametrize(
    ("ref", "is_trajectory", "error", "ok"),
    [
        ([0.5], False, 1e-5, True),
        ([0.5], False, 1e-4, False),
        ([-10.0], False, 1e-4, True),
        ([10.0], True, 9e-4, True),
        ([3], False, 1, False),
    ],
)
def test_tolerance_by_rule(ref, is_trajectory, error, ok):
    tolerance = {
        "rule": "abs(err) <= scale * max(1, max_abs_ref)",
        "default": 2e-5,
        "trajectories_and_samples": 1e-4,
        "indices_and_timesteps": 0,
    }
    ref = np.array(ref)
    assert compare("x", ref + np.array(error, ref.dtype), ref, tolerance, is_trajectory).ok is ok
