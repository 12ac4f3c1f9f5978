"""What would help, on made-up numbers, and what a network keeps for its backward pass."""

import pytest

from pdm_jax.planning import advice
from pdm_jax.planning.advice import advise, saved_bytes, use_of
from tests import tiny
from tests.planning.made_up import GIB, measured


@pytest.fixture(autouse=True)
def kept(monkeypatch):
    """Recomputing keeps half as much."""
    monkeypatch.setattr(advice, "saved_bytes", lambda config: 1 if config.model.network.get("use_remat") else 2)


def found(memory, *, kind="train", config=None, **changes):
    config = tiny.config(data={"batch_size": 256}, ema={"place": "host"}) if config is None else config
    uses = advise(kind, config, measured(fits=False, **changes), memory * GIB)
    return {" ".join(use.settings): use.total / GIB for use in uses}


def test_memory_is_state_gradients_and_the_rest():
    use = use_of("train", measured())
    assert (use.state, use.gradients, use.activations, use.total) == (4 * GIB, GIB, 4 * GIB, 9 * GIB)
    assert use_of("sample", measured()).gradients == 0


@pytest.mark.parametrize(
    "memory, settings",
    [
        (
            8,
            {
                "config.mesh.fsdp=2": 7,
                "config.model.network.use_remat=True": 7,
                "config.optimizer.accumulation=2": 8,  # half of the activations, and the gradients twice
            },
        ),
        (7, {"config.mesh.fsdp=2": 7, "config.model.network.use_remat=True": 7, "config.optimizer.accumulation=4": 7}),
        (5.5, {"config.mesh.fsdp=8": 5.5}),
        (3.5, {"config.mesh.fsdp=8 config.model.network.use_remat=True": 3.5}),
        (3, {"config.mesh.fsdp=8 config.model.network.use_remat=True config.optimizer.accumulation=4": 3}),
        (1, {"config.mesh.fsdp=8 config.model.network.use_remat=True config.optimizer.accumulation=32": 2.5625}),
    ],
)
def test_settings_that_are_enough_alone_or_else_together(memory, settings):
    assert found(memory) == settings


def test_averages_on_the_host():
    config = tiny.config(data={"batch_size": 256}, ema={"place": "device"})
    assert found(8, config=config)["config.ema.place=host"] == 8


def test_what_is_done_already_is_not_advised():
    mesh = {"data": 1, "fsdp": 8, "space": 1}
    network = tiny.SETTINGS["model"]["network"] | {"use_remat": True}
    config = tiny.config(data={"batch_size": 8}, ema={"place": "host"}, model={"network": network})
    assert found(3, config=config, mesh=mesh) == {}


def test_sampling_has_no_optimiser():
    assert found(7.5, kind="sample") == {"config.mesh.fsdp=2": 7}


def test_what_a_network_keeps_for_its_backward_pass():
    """With the real count: some of it are weights, the rest grows with the batch, and recomputing keeps less."""
    lean = tiny.config(model={"network": tiny.SETTINGS["model"]["network"] | {"use_remat": True}})
    small, large = (saved_bytes(tiny.config(data={"batch_size": n})) for n in (8, 16))
    assert 1.2 < large / small < 2
    assert saved_bytes(lean) < 0.9 * small
