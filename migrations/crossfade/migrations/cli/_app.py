"""The commands, with typer."""

from __future__ import annotations

import typer

app = typer.Typer(name="crossfade", no_args_is_help=True, add_completion=False)


@app.callback()
def crossfade() -> None:
    """Fade a request/response stack into events, one call site at a time."""


def run() -> int:
    """Run the command line."""
    app()
    return 0
