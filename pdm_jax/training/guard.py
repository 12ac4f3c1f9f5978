"""What is watched while a step is dispatched."""

from __future__ import annotations

from contextlib import AbstractContextManager

import jax


def guarded() -> AbstractContextManager:
    """Refuses transfers that were not asked for; where NaNs are looked for (`jax_debug_nans`), looks for them.

    A step with a NaN is run again operation by operation, which does transfer. NaNs are asked for anew each time, as
    JAX looks for them no more in a thread where one of its own functions did without for a moment.
    """
    return jax.debug_nans(True) if jax.config.jax_debug_nans else jax.transfer_guard("disallow")
