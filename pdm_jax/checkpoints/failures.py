"""What a failing disk does to orbax, made fit to be read."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from pdm_jax.errors import UserError


@contextlib.contextmanager
def disk_errors(place: Any) -> Iterator[None]:
    """Turns what a full or forbidden disk raises, in this thread or in one that writes, into one line.

    Args:
      place: the folder that is written to, for the message.
    """
    try:
        yield
        return
    except UserError:
        raise
    except Exception as error:
        cause = _os_error(error)
        if cause is None:
            raise
    # Raised out here, it holds no frames of the failed write: they end while what they print is silenced.
    raise UserError(
        f"cannot write to {place}: {cause}; complete checkpoints are kept. "
        "Free space or choose another --workdir, then run the same command to go on"
    )


@contextlib.contextmanager
def hushed() -> Iterator[None]:
    """Silences the reads or writes that go on in orbax's closed event loop after the first one has failed."""
    asyncio_logger, hook = logging.getLogger("asyncio"), sys.unraisablehook
    disabled = asyncio_logger.disabled
    asyncio_logger.disabled, sys.unraisablehook = True, lambda unraisable: _report_unless_closed(unraisable, hook)
    try:
        yield
    except Exception:
        time.sleep(0.5)  # the others end
        raise
    finally:
        gc.collect()
        asyncio_logger.disabled, sys.unraisablehook = disabled, hook


def _report_unless_closed(unraisable: Any, report: Callable[[Any], None]) -> None:
    if "Event loop is closed" not in str(unraisable.exc_value):
        report(unraisable)


def _os_error(error: BaseException | None) -> str | None:
    """The system's words for a failed write, from an exception or those it came from."""
    while error is not None:
        if isinstance(error, OSError) and error.strerror:
            return error.strerror
        if match := re.search(r"os_error_code='(\d+)'", str(error)):  # how tensorstore says it
            return os.strerror(int(match[1]))
        error = error.__cause__ or error.__context__
    return None
