"""Entry point of `pdm`: finds the subcommand, and prints a user's mistake as one line.

Exit statuses tell a scheduler whether to start the same command again: `pdm_jax.cli.status`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

from pdm_jax.cli.config_files import separate_overrides
from pdm_jax.cli.running import describe_nan, leave_if_failed
from pdm_jax.cli.status import DONE, FAILED, INTERRUPTED, MISTAKE
from pdm_jax.errors import UserError
from pdm_jax.machine import pass_over_absent_tpu


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status. One of several processes that fails is ended here, at once."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # XLA's chatter
    pass_over_absent_tpu()
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    logging.getLogger("pdm_jax").setLevel(logging.INFO)
    for name in ("absl", "asyncio"):  # orbax raises what its threads also log, with a traceback each
        logging.getLogger(name).setLevel(logging.CRITICAL)
    status = _run(sys.argv[1:] if argv is None else argv)
    leave_if_failed(status)
    return status


def _run(argv: Sequence[str]) -> int:
    try:
        arguments, overrides = separate_overrides(argv)
        args = _parser().parse_args(arguments)
        if overrides and "overrides" not in args:
            raise UserError(f"{overrides[0]} does not belong to this command")
        return args.run(argparse.Namespace(**vars(args) | {"overrides": overrides}))
    except UserError as error:
        print(f"pdm: {error}", file=sys.stderr)
        return MISTAKE
    except FloatingPointError as error:
        print(f"pdm: {describe_nan(error)}", file=sys.stderr)
        return MISTAKE
    except KeyboardInterrupt:
        print("pdm: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # whoever reads the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the exit complains again
        return DONE
    except Exception:
        traceback.print_exc()
        return FAILED


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command line in one line; argparse prints the usage as well."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    from pdm_jax.cli import (
        data,
        evaluate,
        extend,
        info,
        inpaint,
        outpaint,
        plan,
        sample,
        sweep,
        train,
        upscale,
        weights,
    )

    parser = _Parser(prog="pdm", description="Patch-based image diffusion in JAX.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (train, sample, upscale, extend, outpaint, inpaint, evaluate, sweep, plan, info, data):
        command.add_parser(subparsers)
    weights.add_parsers(subparsers)
    return parser
