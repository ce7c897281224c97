"""The commands, with typer. Exit codes: 0 done, 1 a check failed, 2 wrong usage or setting, 3 no bus, 4 refused."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Annotated, Final

import typer

from crossfade.shim.errors import (
    BusError,
    ConfigurationError,
    CrossfadeError,
    ResolutionRefusedError,
    StageChangeRefusedError,
    WorkflowRefusedError,
)

from ._lazy import LazyGroup

NO_BUS: Final = 3
REFUSED: Final = 4

app = typer.Typer(
    name="crossfade",
    cls=LazyGroup,
    help="Fade a request/response stack into events, one call site at a time.",
    epilog="Exit codes: 0 done, 1 a check failed, 2 wrong usage or setting, 3 the bus cannot be used, 4 refused.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"crossfade {version('crossfade')}\n")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Options of every command line, before the command."""


def run() -> int:
    """Run the command line; a user's mistake is one line on stderr, never a traceback."""
    try:
        app()  # ends in SystemExit, for usage errors and Ctrl-C as well
    except CrossfadeError as error:
        from ._text import safe  # noqa: PLC0415 - what --help need not import

        sys.stderr.write(f"crossfade: {safe(error, keep=os.linesep)}\n")
        return exit_code(error)
    except BrokenPipeError:
        # The reader (head, less) has gone; without this the interpreter complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def exit_code(error: CrossfadeError) -> int:
    """The exit code of a family of errors."""
    if isinstance(error, StageChangeRefusedError | ResolutionRefusedError | WorkflowRefusedError):
        return REFUSED
    if isinstance(error, ConfigurationError):
        return 2
    return NO_BUS if isinstance(error, BusError) else 1
