"""Reports: later ones go when a run goes on before them; buckets, which only take whole objects."""

import json

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pdm_jax.checkpoints import open_workdir
from pdm_jax.files import write_whole
from pdm_jax.training import reports
from pdm_jax.training.heartbeat import Heartbeat
from pdm_jax.training.reports import Reports


def lines(folder):
    return [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def report(folder, first, last):
    run = Reports(folder, first_step=first, last_step=last)
    for step in range(first + 1, last + 1):
        run.scalars(step, {"loss": 1.0 / step})
    run.grid(last, np.zeros((4, 4, 1), np.uint8))
    run.close()


def test_what_a_killed_run_reported_too_much_is_dropped(tmp_path):
    report(tmp_path, 0, 5)
    report(tmp_path, 3, 4)
    assert lines(tmp_path) == [1, 2, 3, 4]


@pytest.fixture
def bucket(monkeypatch):
    """A bucket in memory; like a real one it cannot append to what is there."""

    class Bucket(MemoryFileSystem):
        protocol = ("gs", "gcs")
        store, pseudo_dirs = {}, [""]

        def _open(self, path, mode="rb", **settings):
            assert "a" not in mode
            return super()._open(path, mode=mode, **settings)

    for name in ("gs", "gcs"):
        fsspec.register_implementation(name, Bucket, clobber=True)
    monkeypatch.setattr(reports, "_make_events", lambda *_: None)  # tensorboardX has Google's own client
    return open_workdir("gs://bucket/run")


def test_a_bucket_takes_what_a_run_tells(bucket):
    bucket.mkdir(parents=True)
    report(bucket, 0, 3)
    report(bucket, 2, 4)
    Heartbeat(bucket, batch_size=1, num_steps=4, silent=True).beat(4, lambda: {"loss": 0.5}, last=True)
    assert lines(bucket) == [1, 2, 3, 4]
    assert json.loads((bucket / "heartbeat.json").read_text())["step"] == 4
    assert (bucket / "grids" / "00000004.png").read_bytes()[1:4] == b"PNG"


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    def fail(file):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    (tmp_path / "file").write_text("before")
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", fail)
    assert [path.name for path in tmp_path.iterdir()] == ["file"] and (tmp_path / "file").read_text() == "before"
