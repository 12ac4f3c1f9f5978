"""The commands of `launch/README.md` are complete: what is rendered renders, and what `pdm` is told it understands."""

import re
import shlex
import subprocess

import pytest

from pdm_jax.cli.config_files import load_config, separate_overrides
from pdm_jax.cli.main import _parser
from tests.launch.conftest import ROOT, SLURM

README = (ROOT / "launch" / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
LINES = "\n".join(BLOCKS).replace("\\\n", " ").splitlines()
RENDERED = [shlex.split(line, comments=True)[2:] for line in LINES if line.startswith("python launch/render.py")]
PDM = re.findall(r"\bpdm (?:train|sample|eval|sweep|data build) [^'&>\n]*", "\n".join(LINES))


def test_the_commands_are_bash():
    assert len(BLOCKS) > 15
    subprocess.run(["bash", "-n"], input="\n".join(BLOCKS), text=True, check=True)


@pytest.mark.parametrize("argv", RENDERED, ids=" ".join)
def test_what_is_rendered_renders(render, tmp_path, argv):
    (tmp_path / "points").write_text("pdm train --workdir=a\n")
    example = SLURM if "--values=runs/slurm.yaml" in argv else {}
    argv = [word for word in argv if not word.startswith(("--values=", "--out="))]
    argv = [f"--points={tmp_path}/points" if word.startswith("--points=") else word for word in argv]
    status, err, _ = render(example, *argv)
    assert (status, err) == (0, "")


@pytest.mark.parametrize("command", PDM)
def test_pdm_understands_its_commands(command):
    arguments, overrides = separate_overrides(shlex.split(command)[1:])
    args = _parser().parse_args(arguments)
    assert callable(args.run) and ("overrides" in args or not overrides)
    if "config" in args:
        load_config(args.config, overrides)


def test_scripts_know_what_they_are_told(render, tmp_path):
    told = {"tpu_vm.sh": set(re.findall(r"tpu_vm\.sh ([a-z-]+)", README))}
    told["xpk.sh"] = set(re.findall(r"xpk\.sh ([a-z-]+)", README))
    render({}, out=tmp_path / "tpu_vm")
    render({"launcher": "gke"}, out=tmp_path / "gke")
    for path in (tmp_path / "tpu_vm" / "tpu_vm.sh", tmp_path / "gke" / "xpk.sh"):
        known = set(re.findall(rf"^#   {path.name} ([a-z-]+)", path.read_text(), flags=re.MULTILINE))
        assert told[path.name] and told[path.name] <= known
