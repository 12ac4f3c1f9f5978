"""Measurements that no compiler made, with round numbers."""

from pdm_jax.planning.measured import Measured

GIB = 2**30


def measured(**changes) -> Measured:
    """One GiB of weights and as much of gradients; Adam and averages make 4 GiB of state; 4 GiB of activations."""
    values = {
        "fits": True,
        "mesh": {"data": 8, "fsdp": 1, "space": 1},
        "batch_size": 256,
        "num_parameters": GIB // 4,
        "state_bytes": 4 * GIB,
        "argument_bytes": 4 * GIB,
        "temp_bytes": 5 * GIB,
        "peak_bytes": 9 * GIB,
        "model_flops": 1e12,
        "num_steps": 1,
        "flops": 1.1e12,
        "bytes_accessed": 1e10,
        "collectives": {"all-reduce": (2, 1e9)},
    }
    return Measured(**values | changes)
