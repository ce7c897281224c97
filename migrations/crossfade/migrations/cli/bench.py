"""``crossfade bench``: what crossfade costs, measured here and now."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from ._session import JsonOption, print_json, say, terminal
from ._text import print_columns

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crossfade.migrations.bench.measuring import Row, Unmeasured

app = typer.Typer(help="What crossfade costs, measured here and now.", no_args_is_help=True)


@app.callback()
def bench() -> None:
    """Each figure is a ratio against its floor, measured in turns in the same run."""


@app.command("shim")
def shim(
    peers: Annotated[
        bool, typer.Option("--peers", help="Also against other tools, each installed by uv into its own environment.")
    ] = False,
    cluster: Annotated[bool, typer.Option("--cluster", help="Also unsafe calls on three servers.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the decorator, an observation, calls and a worker beside their floors. Takes about a minute."""
    from crossfade.migrations.bench.shim import run  # noqa: PLC0415 - it imports nats and wrapt

    _report(run(peers=peers, cluster=cluster), as_json=as_json)


@app.command("proxy")
def proxy(
    full: Annotated[
        bool, typer.Option("--full", help="Bodies of 1 KB, 100 KB and 10 MB; 1, 16 and 256 connections.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure the proxy beside nginx, Envoy, Caddy, mitmproxy and FastAPI with httpx. Takes two minutes."""
    from crossfade.migrations.bench.proxy import run  # noqa: PLC0415 - with the rest of the bench

    _report(run(full=full), as_json=as_json)


def _report(found: Iterable[Row | Unmeasured], *, as_json: bool) -> None:
    from crossfade.migrations.bench.measuring import Row  # noqa: PLC0415 - with the rest of the bench

    rows = list(found)
    measured = [row for row in rows if isinstance(row, Row)]
    missing = [row for row in rows if not isinstance(row, Row)]
    if as_json:
        print_json([_as_json(row) if isinstance(row, Row) else asdict(row) for row in rows])
    else:
        _print(measured, missing)
    if missing:
        raise typer.Exit(1)


def _print(measured: list[Row], missing: list[Unmeasured]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in ("what", "ours / beside it", "p50", "p99", "CPU, us", "ratio", "goal", ""):
        table.add_column(column, justify="left" if column in ("what", "ours / beside it", "") else "right")
    for row in measured:
        table.add_row(*_cells(row))
    terminal().print(table)
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    say(f"{os.cpu_count()} cores, load average {load}, Python {platform.python_version()}")
    for absent in missing:
        say(f"NOT MEASURED: {absent.what}. {absent.reason}")


def _as_json(row: Row) -> dict[str, object]:
    return {**asdict(row), "ratio": row.ratio, "ratio_p99": row.ratio_p99, "reached": row.reached}


def _cells(row: Row) -> list[str | Text]:
    theirs = row.theirs
    sides = (row.ours, *([theirs] if theirs else []))
    ratios = (row.ratio, row.ratio_p99 if row.tail else None)
    ratio = " / ".join(f"{value:.2f}" if value >= 0.1 else f"{value:.1g}" for value in ratios if value is not None)
    goal = "" if row.goal is None else f"{'>=' if row.unit == '/s' else '<='} {row.goal:.3g}"
    verdict = {True: Text("met", "green"), False: Text("missed", "red"), None: Text("reported")}[row.reached]
    return [
        row.what,
        row.beside,
        _pair([side.p50 for side in sides], row.unit),
        _pair([side.p99 for side in sides], row.unit),
        _pair([side.cpu for side in sides], ""),
        ratio,
        goal,
        verdict,
    ]


def _pair(figures: list[float | None], unit: str) -> str:
    known = [_number(figure) for figure in figures if figure is not None]
    return f"{' / '.join(known)} {unit}".strip() if known else "-"


def _number(figure: float) -> str:
    return f"{figure:,.0f}" if figure >= 100 else f"{figure:.3g}"


@app.command("gates")
def gates(
    migrations: Annotated[int, typer.Option(min=1, help="How many are made up.")] = 10_000,
    seed: Annotated[int, typer.Option(help="Of chance: the same again for the same seed.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Make up migrations of good and bad candidates, and count how often gates and abort rules judge wrongly."""
    from crossfade.migrations.simulation import simulate  # noqa: PLC0415 - with the rest of the bench

    found = list(simulate(migrations, seed=seed))
    if as_json:
        print_json(
            [
                {
                    "candidate": each.candidate.name,
                    "migrations": each.migrations,
                    "endings": dict(each.endings),
                    "wrong": each.candidate.wrong,
                    "share": each.wrong,
                    "promised": each.candidate.promise,
                    "kept": each.kept,
                }
                for each in found
            ]
        )
    else:
        rows = [
            (
                each.candidate.name,
                str(each.migrations),
                each.candidate.wrong,
                f"{each.wrong:.2%}",
                f"<= {each.candidate.promise:.0%}",
                "kept" if each.kept else "BROKEN",
            )
            for each in found
        ]
        print_columns([("candidate", "migrations", "wrongly", "share", "promised", ""), *rows])
    if not all(each.kept for each in found):
        raise typer.Exit(1)


@app.command("stream")
def stream(
    streams: Annotated[int, typer.Option(min=1, help="Pages that listen at once.")] = 2000,
    as_json: JsonOption = False,
) -> None:
    """Open streams on a control process and measure its memory for each, and how soon an event arrives."""
    from crossfade.migrations.bench.stream import DELAY_GOAL, MEMORY_GOAL, run  # noqa: PLC0415 - an extra

    figures = run(streams)
    if as_json:
        print_json(asdict(figures))
        return
    say(
        f"{figures.streams} streams: {figures.kilobytes:.1f} KB each (goal {MEMORY_GOAL:g}); "
        f"{figures.deliveries} deliveries, {figures.lost} lost, p50 {figures.p50:.1f} ms, "
        f"p99 {figures.p99:.1f} ms (goal {DELAY_GOAL:g})"
    )


@app.command("history")
def history(
    events: Annotated[int, typer.Option(min=240, help="On the bus, for traces.")] = 100_000,
    calls: Annotated[int, typer.Option(min=1000, help="On the bus, for looking up results.")] = 1_000_000,
    as_json: JsonOption = False,
) -> None:
    """Fill a bus of its own, and measure the traces' commands and the look-up of a result. Takes minutes."""
    from crossfade.migrations.bench.history import SHOWN_GOAL, results, traces  # noqa: PLC0415 - with the bench

    commands, shown = traces(events)
    looks = [*shown, *results(calls)]
    if as_json:
        print_json({"commands": [asdict(each) for each in commands], "look_ups": [asdict(each) for each in looks]})
        return
    rows = [(f"traces {c.command}", f"{c.events:,}", f"{c.seconds:.1f} s", f"{c.megabytes:.0f} MB") for c in commands]
    print_columns([("command", "events", "took", "memory"), *rows])
    rows = [(each.what, f"{each.stored:,}", f"{each.p50:.2f} ms", f"{each.p99:.2f} ms") for each in looks]
    print_columns([("look-up", "among", "p50", "p99"), *rows])
    say(f"The goal of one run in the index is {SHOWN_GOAL:g} ms.")


@app.command("workflows")
def workflows(
    instances: Annotated[int, typer.Option(min=1, help="That wait at once.")] = 2000,
    as_json: JsonOption = False,
) -> None:
    """Start instances of a workflow on one engine, and measure time, memory, a restart, and how late timers are."""
    from crossfade.migrations.bench.workflows import run  # noqa: PLC0415 - with the rest of the bench

    figures = run(instances)
    if as_json:
        print_json(asdict(figures))
        return
    say(
        f"{figures.instances} instances: started in {figures.started:.1f} s, {figures.kilobytes:.1f} KB each, "
        f"{figures.cpu_ms:.1f} ms of the engine's CPU each; a restarted engine is ready in {figures.restarted:.1f} s; "
        f"timers late by {figures.late_p50 * 1000:.0f} ms at the median, {figures.late_p99 * 1000:.0f} ms at the 99th"
    )
