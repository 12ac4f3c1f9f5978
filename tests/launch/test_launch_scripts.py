"""The scripts at work: `restart.sh`, and the rendered ones with programs that stand in for gcloud, srun and pdm."""

import os
import signal
import subprocess
import time

import pytest

from tests.launch.conftest import ROOT, SLURM

RESTART = ["bash", ROOT / "launch" / "restart.sh"]
# Ends with the next code of the list in ./codes each time it is started.
PDM = 'echo "$*" >> starts; code=$(head -n 1 codes); sed -i 1d codes; exit "$code"'


def starts(folder):
    path = folder / "starts"
    return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.parametrize(
    "codes, status, started",
    [
        ([0], 0, 1),
        ([2], 2, 1),
        ([130], 130, 1),
        ([75, 75, 75, 75, 0], 0, 5),  # preemptions are no crashes
        ([1, 75, 137, 0], 0, 4),
        ([1, 1, 1, 0], 1, 3),
        ([1, 2, 0], 2, 2),
    ],
)
def test_restarts_by_exit_code(stand_in, tmp_path, codes, status, started):
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    command = [*RESTART, "2", "0", "pdm", "a b"]
    done = subprocess.run(command, env=stand_in("pdm", PDM), cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == status and starts(tmp_path) == started
    assert done.stdout.splitlines()[-1] == f"restart.sh: ended with exit code {status}"


@pytest.mark.parametrize("waits_in", ["training", "the pause"])
def test_sigterm_is_passed_on_and_ends_the_loop(stand_in, tmp_path, waits_in):
    training = "trap 'sleep 0.2; touch saved; exit 75' TERM; touch ready; while true; do sleep 0.02; done"
    environment = stand_in("pdm", training if waits_in == "training" else "touch ready saved; exit 75")
    process = subprocess.Popen([*RESTART, "2", "30", "pdm"], env=environment, cwd=tmp_path, stdout=subprocess.PIPE)
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    if waits_in == "the pause":
        process.stdout.readline()  # it says that it starts again
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 75 and (tmp_path / "saved").exists()


# The state of the slice is a file. Machines are taken away once, and training ends well on the second.
GCLOUD = """
case "$*" in
  *'queued-resources describe'*) cat state 2>/dev/null ;;
  *'queued-resources create'*) echo create >> calls; echo ACTIVE > state ;;
  *'queued-resources delete'*) echo delete >> calls; rm state ;;
  *'tpu-vm scp'*) echo copy >> calls ;;
  *'bash setup_worker.sh'*) echo install >> calls ;;
  *systemd-run*) echo start >> calls; echo "$*" > started; touch running ;;
  *is-active*)
    echo look >> calls
    if [[ ! -e running ]]; then echo inactive
    elif [[ $(grep -c start calls) == 1 ]]; then echo active; rm running; echo SUSPENDED > state
    else echo inactive; echo "restart.sh: ended with exit code $(cat code)"; fi ;;
esac
"""


@pytest.mark.parametrize("code", [0, 2])
def test_a_slice_is_kept_until_training_ends(render, stand_in, tmp_path, code):
    render({"arguments": ["--config.seed=1 2"]})
    for name, text in {"gcloud": GCLOUD, "sleep": ":", "git": ":"}.items():
        environment = stand_in(name, text)
    (tmp_path / "code").write_text(f"{code}\n")
    script = tmp_path / "out" / "tpu_vm.sh"
    done = subprocess.run([script, "keep"], env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    begin = ["create", "look", "copy", "install", "start"]
    calls = [*begin, "look", "delete", *begin, "look"] + (["delete"] if code == 0 else [])
    assert (tmp_path / "calls").read_text().split() == calls
    assert done.returncode == (1 if code else 0)
    assert ("exit code 2" in done.stderr and "costs money" in done.stderr) == bool(code)
    started = (tmp_path / "started").read_text()
    assert "--worker=all" in started and "pdm train --config=configs/pdm/imagenet256.py" in started
    assert "'--config.seed=1 2' --multihost" in started


def test_a_slice_that_is_lost_in_the_queue_is_not_waited_for(render, stand_in, tmp_path):
    render({})
    stand_in("gcloud", GCLOUD.replace("ACTIVE", "FAILED"))
    command = [tmp_path / "out" / "tpu_vm.sh", "create"]
    done = subprocess.run(command, env=stand_in("sleep", ":"), cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "the slice is FAILED; delete it and try again" in done.stderr


def test_usage(render, tmp_path):
    for launcher, script in (("tpu_vm", "tpu_vm.sh"), ("gke", "xpk.sh")):
        out = tmp_path / launcher
        render({"launcher": launcher}, out=out)
        done = subprocess.run([out / script], capture_output=True, text=True)
        assert done.returncode == 2 and "stop" in done.stderr and "set -euo" not in done.stderr


def submit(tmp_path, stand_in, **environment):
    """Runs the rendered job script as SLURM does; returns its exit status and the jobs that it put back."""
    stand_in("srun", 'exec "${@:2}"')
    stand_in("scontrol", 'echo "$*" >> requeued')
    variables = stand_in("pdm", PDM) | {"SLURM_JOB_ID": "7", **environment}
    status = subprocess.run(["bash", "out/train.sbatch"], env=variables, cwd=tmp_path, capture_output=True).returncode
    path = tmp_path / "requeued"
    return status, path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize("code, requeued", [(0, False), (2, False), (130, False), (75, True), (1, True), (137, True)])
def test_slurm_requeues_by_exit_code(render, stand_in, tmp_path, code, requeued):
    render(SLURM)
    (tmp_path / "codes").write_text(f"{code}\n")
    assert submit(tmp_path, stand_in) == (code, ["requeue 7"] if requeued else [])


def test_slurm_does_not_requeue_for_ever(render, stand_in, tmp_path):
    render(SLURM | {"max_restarts": 3})
    (tmp_path / "codes").write_text("75\n")
    assert submit(tmp_path, stand_in, SLURM_RESTART_COUNT="3") == (75, [])


@pytest.mark.parametrize("codes, status, ran", [([0, 0], 0, ["train b's", "eval b's"]), ([75, 0], 75, ["train b's"])])
def test_a_job_array_runs_one_point_a_task(render, stand_in, tmp_path, codes, status, ran):
    points = ["pdm train a && pdm eval a", """pdm train 'b'"'"'s' && pdm eval 'b'"'"'s'"""]
    (tmp_path / "points").write_text("\n".join(points) + "\n")
    render(SLURM, f"--points={tmp_path}/points")
    assert "#SBATCH --array=0-1\n" in (tmp_path / "out" / "train.sbatch").read_text()
    (tmp_path / "codes").write_text("".join(f"{code}\n" for code in codes))
    assert submit(tmp_path, stand_in, SLURM_ARRAY_TASK_ID="1")[0] == status
    assert (tmp_path / "starts").read_text().splitlines() == ran


def test_a_cancelled_slurm_job_saves_and_is_not_requeued(render, stand_in, tmp_path):
    render(SLURM)
    # As with SLURM, the job's script and its tasks get the signal; the task's shell waits for pdm.
    stand_in("srun", 'trap : TERM; "${@:2}"')
    stand_in("scontrol", "touch requeued")
    environment = stand_in("pdm", "trap 'touch saved; exit 75' TERM; touch ready; while true; do sleep 0.02; done")
    process = subprocess.Popen(
        ["bash", "out/train.sbatch"], env=environment | {"SLURM_JOB_ID": "7"}, cwd=tmp_path, start_new_session=True
    )
    while not (tmp_path / "ready").exists():
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    assert process.wait(10) == 75
    assert (tmp_path / "saved").exists() and not (tmp_path / "requeued").exists()
