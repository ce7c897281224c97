"""``crossfade bench``: what crossfade costs, measured here and now."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.console import Console
from rich.table import Table

from ._session import JsonOption, print_json

app = typer.Typer(help="What crossfade costs, measured here and now.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Each figure is a ratio against its floor, measured in turns in the same run."""


@app.command("shim")
def shim(as_json: JsonOption = False) -> None:
    """Measure the decorator, an observation and calls over the bus beside their floors. Takes about half a minute."""
    from crossfade.migrations.bench.shim import run  # noqa: PLC0415 - it imports nats and wrapt

    rows = run()
    if as_json:
        print_json([{**asdict(row), "ratio": row.ratio, "reached": row.reached} for row in rows])
        return
    table = Table("what", "ours p50", "floor p50", "ours p99", "floor p99", "ratio", "goal", box=None, pad_edge=False)
    for row in rows:
        figures = (row.ours_p50, row.floor_p50, row.ours_p99, row.floor_p99)
        mark = "green" if row.reached else "red"
        table.add_row(
            row.what,
            *(f"{figure:.4g} {row.unit}" for figure in figures),
            f"[{mark}]{row.ratio:.2f}[/]",
            f"{row.goal:g}",
        )
    Console().print(table)
