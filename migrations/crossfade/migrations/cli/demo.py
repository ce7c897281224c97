"""``crossfade demo``: the main job on real data, in under a minute."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from crossfade.migrations.demo.stack import SEAMS, SUMMARISE
from crossfade.migrations.demo.story import tell

from ._session import JsonOption, print_json
from ._text import plural

if TYPE_CHECKING:
    from crossfade.migrations.demo.verdict import Verdict


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running at the end, until Enter.")] = False,
    regression: Annotated[
        str, typer.Option(metavar="SEAM", help=f"Plant the bug in the next version of this one: {', '.join(SEAMS)}.")
    ] = SUMMARISE,
    no_regression: Annotated[
        bool, typer.Option("--no-regression", help="Plant no bug: every seam goes all the way.")
    ] = False,
    bus: Annotated[
        str,
        typer.Option(metavar="URL", help="A broker that is there, or its scheme: then CROSSFADE_BUS says where it is."),
    ] = "embedded",
    as_json: JsonOption = False,
) -> None:
    """Move functions and routes of a real stack to the bus under traffic, kill workers, count what happened.

    Playbooks say how, and the controller follows them to the bus; then the legacy code is retired. A bug is planted in
    the next version of one seam, which must be taken back. Exit code 1 when a call was lost, doubled or answered
    differently, when a kill hit no call, when a seam was not retired, or when the bug got through.
    """
    if regression not in SEAMS:
        raise typer.BadParameter(f"is no seam of the desk: {', '.join(SEAMS)}", param_hint="--regression")
    url = _broker(bus)
    work = Path(tempfile.mkdtemp(prefix="crossfade-demo-"))
    teller = _Teller(Console(file=sys.stderr) if as_json else Console())
    good = False
    try:
        verdict = tell(work, teller, keep=keep, regression="" if no_regression else regression, bus=url)
        good = verdict.good
    finally:
        teller.close()
        if good:
            shutil.rmtree(work, ignore_errors=True)
        else:
            sys.stderr.write(f"Everything the demo wrote, logs included, is kept in {work}\n")
    if as_json:
        print_json(verdict.to_json())
    else:
        _print(verdict, Console())
    raise typer.Exit(0 if verdict.good else 1)


def _broker(bus: str) -> str:
    """The URL of a broker that is there, empty for an embedded one."""
    if bus == "embedded":
        return ""
    url = bus if "://" in bus else os.environ.get("CROSSFADE_BUS", "")
    if not url.startswith(f"{bus.partition('://')[0]}://"):
        text = f"say where it is: --bus {bus}://HOST:PORT, or CROSSFADE_BUS={bus}://HOST:PORT"
        raise typer.BadParameter(text, param_hint="--bus")
    if url.startswith("kafka://") and "sync=" not in url:
        url += ("&" if "?" in url else "?") + "sync=always"  # its topics are new, and writes go over the bus
    return url


class _Teller:
    """Prints steps as they begin, with a spinner while they last."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._number = 0
        self._began = time.monotonic()
        self._status = console.status("", spinner="dots")

    def step(self, text: str) -> None:
        self._number += 1
        seconds = f"[dim]({time.monotonic() - self._began:.0f} s)[/]"
        self._console.print(f"[bold]{self._number}.[/] {text} {seconds}", highlight=False)
        self._status.update(text.partition("  (")[0].partition(":")[0])
        self._status.start()

    def result(self, text: str) -> None:
        self._console.print(f"   [green]·[/] {text}", highlight=False)

    def wait(self, text: str) -> None:
        self._status.stop()
        self._console.print(text)
        try:
            self._console.input("Press Enter to stop everything.")
        except EOFError:  # no terminal: what was found is still to be told
            self._console.print("\nNobody can press Enter here, so everything is stopped.")

    def close(self) -> None:
        """Stop the spinner."""
        self._status.stop()


def _print(verdict: Verdict, console: Console) -> None:
    console.print()
    _print_seams(verdict, console)
    table = Table("", "legacy", "bus", box=None, pad_edge=False)
    table.add_row("calls executed", str(verdict.executed["legacy"]), str(verdict.executed["bus"]))
    for quantile in ("p50", "p99"):
        table.add_row(
            f"answer {quantile}", *(f"{verdict.latency_ms[path][quantile]:.1f} ms" for path in ("legacy", "bus"))
        )
    console.print(table)
    good = "[bold green]Nothing lost, nothing doubled, every answer the same.[/]"
    bad = "[bold red]Something went wrong:[/]"
    console.print(f"\n{good if verdict.good else bad}", highlight=False)
    console.print(
        f"{verdict.calls} calls, {verdict.lost} lost, {verdict.doubled} doubled, {len(verdict.mismatches)} different "
        f"answers; {verdict.kills} workers killed in mid-call: {plural(verdict.redelivered, 'read')} delivered again, "
        f"{plural(verdict.unknown, 'report')} of which nobody can know, {verdict.spoiled} failed by the planted bug.",
        highlight=False,
    )
    routed = ", ".join(f"{count} of {seam}" for seam, count in sorted(verdict.routed.items()))
    console.print(
        f"Requests that the bus answered: {routed or 'none'}; {plural(verdict.tasks, 'report')} as a task, 202 first.",
        highlight=False,
    )
    console.print(
        f"{verdict.observed} observations, {verdict.shadowed} shadow runs. {verdict.seconds} s.", highlight=False
    )
    for mismatch in verdict.mismatches[:5]:
        console.print(f"  different: {mismatch}", highlight=False)


def _print_seams(verdict: Verdict, console: Console) -> None:
    """Per seam the stages it went through, with what let it through or took it back."""
    table = Table("seam", "to", "because", box=None, pad_edge=False)
    for seam, way in verdict.seams.items():
        for at, move in enumerate(way.moves):
            to = f"[bold red]back to {move.to}[/]" if move.ruling == "rollback" else move.to
            table.add_row("" if at else seam, to, escape(move.reason))
        if seam in verdict.stuck:
            table.add_row("", f"[bold red]{way.status}[/]", escape(way.reason))
    console.print(table)
    console.print()
