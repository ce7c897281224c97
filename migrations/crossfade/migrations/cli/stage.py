"""``crossfade stage``: where each seam stands, and moving it."""

from __future__ import annotations

import asyncio
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.cells import cell_len

from crossfade.shim.policy import Policy
from crossfade.shim.stages import TABLE, parse_stage

from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.shim.policies import Declared, LivePolicy

app = typer.Typer(help="Where each seam stands, and moving it.", no_args_is_help=True)

_TITLES: Final = ("seam", "stage", "effects", "rev", "set by", "body", "reason")
_USABLE: Final = ", ".join(stage for stage, row in TABLE.items() if row.available)


@app.command("list")
def list_stages(bus: BusOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every seam that a process has declared, its stage, and who set it."""
    rows = asyncio.run(_rows(bus, config))
    if as_json:
        print_json(rows)
        return
    if not rows:
        say("No seam is known here: start a process that declares one and calls crossfade.shim.connect().")
        return
    columns = ("seam", "stage", "effects", "revision", "actor", "place", "reason")
    _print_columns([_TITLES, *([_cell(row[name]) for name in columns] for row in rows)])


@app.command("set")
def set_stage(
    seam: Annotated[str, typer.Argument(metavar="SEAM", help="Like web.search.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help=f"{_USABLE}.")],
    reason: Annotated[str, typer.Option(help="Why; kept with the change.")] = "",
    timeout: Annotated[float | None, typer.Option(help="Also set the seconds a call may take on the bus.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Skip stages forward.")] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a seam to a stage; every connected process follows within two seconds."""
    target = parse_stage(stage)

    async def change() -> dict[str, Any]:
        async with session(bus, config) as opened:
            done = await opened.policies.set_stage(
                seam, target, actor=_actor(), reason=reason, force=force, timeout=timeout
            )
            return {"seam": done.seam, "from": done.was, "to": done.now, "revision": done.revision}

    done = asyncio.run(change())
    if as_json:
        print_json(done)
    else:
        say(f"{done['seam']}: {done['from']} -> {done['to']} (revision {done['revision']})")


def _print_columns(rows: Sequence[Sequence[str]]) -> None:
    """Aligned, never cut or folded: half a path is of no use, and a terminal wraps a long line by itself."""
    widths = [max(cell_len(row[at]) for row in rows) for at in range(len(_TITLES))]
    for row in rows:
        cells = (text + " " * (width - cell_len(text)) for text, width in zip(row, widths, strict=True))
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


def _cell(value: object) -> str:
    """Text from the bus for a terminal: paths relative to here, control characters shown, not obeyed."""
    text = str(value).removeprefix(f"{Path.cwd()}{os.sep}")
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


async def _rows(bus: str | None, config: str | None) -> list[dict[str, Any]]:
    async with session(bus, config) as opened:
        declared = await opened.policies.declared()
        live = await opened.policies.live()
    return [_row(seam, live.get(name)) for name, seam in sorted(declared.items())]


def _row(seam: Declared, live: LivePolicy | None) -> dict[str, Any]:
    base = Policy(stage=seam.stage, effects=seam.effects)
    policy = live.over(base) if live else base
    return {
        "seam": seam.seam,
        "domain": seam.domain,
        "stage": policy.stage.value,
        "effects": policy.effects,
        "timeout": policy.timeout if live and "timeout" in live.settings else None,
        "revision": policy.revision,
        "actor": live.actor if live else "(code)",
        "reason": live.reason if live else "",
        "changed": live.changed if live else "",
        "place": seam.place,
    }


def _actor() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose uid has no name
        return "unknown"
