"""What those who run it see: heartbeats, traces of steps, NaNs by name, lines instead of a bar, why it stopped."""

import contextlib
import json
import os
import signal

import jax
import jax.numpy as jnp
import pytest

from pdm_jax.errors import UserError
from pdm_jax.training import heartbeat, train
from pdm_jax.training.guard import guarded
from pdm_jax.training.heartbeat import Heartbeat
from pdm_jax.training.interrupt import StopSignal
from pdm_jax.training.profile import Profile
from tests import tiny
from tests.training.test_loop import Interrupting

pytestmark = pytest.mark.filterwarnings("ignore:Some donated buffers")


@pytest.fixture(autouse=True)
def optax_promotes():
    with jax.numpy_dtype_promotion("standard"):
        yield


class Clock:
    """Stands for the module `time`."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(heartbeat, "time", clock := Clock())
    return clock


def test_a_heart_beats_at_the_first_step_the_last_and_by_time(tmp_path, caplog, clock):
    heart = Heartbeat(tmp_path, batch_size=8, num_steps=7300, silent=False)
    with caplog.at_level("INFO"):
        for step in range(1, 103):
            heart.beat(step, lambda: {"loss": 2.5}, last=step == 102)
            clock.now += 0.5
    assert caplog.messages == [
        "step 1/7300, loss 2.5",
        "step 61/7300, loss 2.5, 16 images/s, 1 h 0 min left",
        "step 102/7300, loss 2.5, 16 images/s, 59 min 59 s left",
    ]
    found = json.loads((tmp_path / "heartbeat.json").read_text())
    assert found.pop("time").endswith("+00:00")
    assert found == {"step": 102, "num_steps": 7300, "loss": 2.5, "images_per_s": 16.0, "seconds_left": 3599.0}


def test_beside_a_bar_a_heart_is_silent_and_a_loss_may_be_anything(tmp_path, caplog, clock):
    with caplog.at_level("INFO"):
        Heartbeat(tmp_path, batch_size=8, num_steps=9, silent=True).beat(3, lambda: {"loss": float("nan")}, last=False)
    assert not caplog.messages and '"loss": "nan"' in (tmp_path / "heartbeat.json").read_text()


def test_a_heart_that_cannot_write_is_one_line(tmp_path, clock):
    heart = Heartbeat(tmp_path / "gone", batch_size=8, num_steps=9, silent=True)
    with pytest.raises(UserError, match=r"cannot write .*heartbeat.json: No such file"):
        heart.beat(1, lambda: {"loss": 1.0}, last=False)


def test_a_run_traces_its_steps_beats_and_tells_why_it_stopped(tmp_path, capsys):
    config, stop = tiny.config(), StopSignal()
    dataset = Interrupting(tiny.dataset(config), 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(config, tmp_path, dataset, profile=(2, 3), stop=stop) == 4
    assert stop.obeyed == signal.SIGTERM
    assert len(list(tmp_path.glob("profile/process-0/**/*.xplane.pb"))) == 1
    assert json.loads((tmp_path / "heartbeat.json").read_text())["step"] == 4
    assert "\r" not in capsys.readouterr().err  # no bar where there is no terminal
    stop = StopSignal()
    assert train(config, tmp_path, tiny.dataset(config), profile=(2, 3), stop=stop) == 6
    assert stop.obeyed is None
    assert len(list(tmp_path.glob("profile/process-0/**/*.xplane.pb"))) == 1  # traced once


@pytest.mark.parametrize("window", [(0, 2), (3, 2), (5, 7)])
def test_steps_that_a_run_has_not_are_not_traced(tmp_path, window):
    config = tiny.config()
    with pytest.raises(UserError, match=r"--profile is \d:\d; expected FIRST:LAST within the steps 1 to 6"):
        train(config, tmp_path, tiny.dataset(config), profile=window)


def test_a_trace_may_begin_in_the_midst_of_its_steps(tmp_path):
    profile = Profile(tmp_path, (2, 4), step=2)
    for step in (3, 4, 5):
        profile.before(step)
        profile.after(step, jnp.zeros(1))
    assert len(list(tmp_path.rglob("*.xplane.pb"))) == 1


def test_a_nan_is_found_though_jax_looked_away_for_a_moment():
    function = jax.jit(jnp.sqrt)
    jax.config.update("jax_debug_nans", True)
    try:
        with jax.debug_nans(False):  # as some of JAX's own functions do
            function(1.0)
        with guarded():
            function(4.0)
        with pytest.raises(FloatingPointError, match="sqrt"), guarded():
            function(-1.0)
    finally:
        jax.config.update("jax_debug_nans", False)


def test_a_transfer_that_was_not_asked_for_is_refused():
    function = jax.jit(jnp.sqrt)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Disallowed host-to-device"), guarded():
        function(4.0)


def test_of_two_signals_the_second_interrupt_is_obeyed_at_once():
    stop = StopSignal()
    with contextlib.suppress(KeyboardInterrupt), stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.agreed() and stop.obeyed == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not interrupted")
