"""``crossfade stage``: where each seam stands, and moving it."""

from __future__ import annotations

import asyncio
import getpass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from crossfade.shim.policy import Policy
from crossfade.shim.stages import parse_stage

from ._session import BusOption, ConfigOption, JsonOption, print_json, session

if TYPE_CHECKING:
    from crossfade.shim.policies import Declared, LivePolicy

app = typer.Typer(help="Where each seam stands, and moving it.", no_args_is_help=True)


@app.command("list")
def list_stages(bus: BusOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show every seam that a process has declared, its stage, and who set it."""
    rows = asyncio.run(_rows(bus, config))
    if as_json:
        print_json(rows)
        return
    console = Console()
    if not rows:
        console.print("No seam is known here: start a process that declares one and calls crossfade.shim.connect().")
        return
    table = Table("seam", "stage", "effects", "rev", "set by", "reason", "body", box=None, pad_edge=False)
    for row in rows:
        table.add_row(
            row["seam"], row["stage"], row["effects"], str(row["revision"]), row["actor"], row["reason"], row["place"]
        )
    console.print(table)


@app.command("set")
def set_stage(
    seam: Annotated[str, typer.Argument(metavar="SEAM", help="Like web.search.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="legacy, observe or bus.")],
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
        Console().print(f"{done['seam']}: {done['from']} -> {done['to']} (revision {done['revision']})")


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
