"""``crossfade stage``: where each seam stands, and moving it."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from crossfade.migrations.coverage import read_coverage
from crossfade.migrations.operating import check_not_led
from crossfade.shim.errors import UnknownSeamError
from crossfade.shim.instances import build_name
from crossfade.shim.policies import Move
from crossfade.shim.stages import ORDER, TABLE, Stage, parse_stage
from crossfade.shim.standing import standings

from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session
from ._text import actor, print_columns, safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crossfade.migrations.coverage import Coverage, Covered
    from crossfade.shim.policies import StageChange
    from crossfade.shim.standing import Standing

    from ._session import Session

app = typer.Typer(help="Where each seam stands, and moving it.", no_args_is_help=True)

_COVERAGE: Final = ("calls", "eligible", "observed", "compared", "unjudged", "coverage")
_TITLES: Final = ("seam", "stage", "effects", "rev", "procs", "set by", "body", "reason")


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
    print_columns([_TITLES, *(_cells(row) for row in rows)])
    remarks = "\n".join(map(safe, _remarks(rows)))
    if remarks:
        say(f"\n{remarks}")


@app.command("show")
def show_stage(
    seam: Annotated[str, typer.Argument(metavar="SEAM", help="Like web.search.")],
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one seam, what keeps it where it is, and how much of its traffic was compared since its last change."""

    async def read() -> tuple[dict[str, Any], Coverage]:
        async with session(bus, config) as opened:
            found = [row for row in await _rows_of(opened) if row["seam"] == seam]
            if not found:
                raise UnknownSeamError(f"no process has declared seam {seam!r}: see `crossfade stage list`")
            revision = found[0]["revision"]
            return found[0], await read_coverage(opened.bus, opened.subjects, seam, revision=revision)

    row, coverage = asyncio.run(read())
    if as_json:
        kinds = {kind: {**asdict(covered), "share": covered.share} for kind, covered in coverage.kinds.items()}
        print_json({**row, "coverage": kinds})
        return
    print_columns([_TITLES, _cells(row)])
    say("\n".join(["", *map(safe, _remarks([row]))]))
    if coverage.kinds:
        total = [("all", coverage.total)] if len(coverage.kinds) > 1 else []
        print_columns([_COVERAGE, *(_covered(kind, found) for kind, found in [*coverage.kinds.items(), *total])])
    elif not TABLE[Stage(row["stage"])].observes:
        say(f"At {row['stage']} no call is observed, so there is no coverage to show.")
    else:
        say(f"No call was counted since revision {row['revision']}: processes tell within 15 seconds.")


def _covered(kind: str, found: Covered) -> list[str]:
    share = "-" if found.share is None else f"{found.share:.1%}"
    counts = (found.eligible, found.observed, found.compared, found.unjudged)
    return [safe(kind), *map(str, counts), share]


@app.command("set")
def set_stage(
    seam: Annotated[str, typer.Argument(metavar="SEAM", help="Like web.search.")],
    stage: Annotated[str, typer.Argument(metavar="STAGE", help="One of " + ", ".join(ORDER) + ".")],
    reason: Annotated[str, typer.Option(help="Why; kept with the change.")] = "",
    percent: Annotated[float | None, typer.Option(help="Share of keys that take the bus at canary.")] = None,
    sample: Annotated[float | None, typer.Option(help="Share of calls observed in full, 0 to 1.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds a call may take on the bus.")] = None,
    noise: Annotated[float | None, typer.Option(help="Share of shadow runs compared with themselves, 0 to 1.")] = None,
    repeat: Annotated[int | None, typer.Option(help="How often a shadow runs the handler, 1 to 9.")] = None,
    abort: Annotated[bool, typer.Option("--abort", help="Going back: refuse what is under way, break pins.")] = False,
    drain: Annotated[float, typer.Option(help="Going back: seconds in which runs may end on the bus.")] = 300.0,
    unsafe_storage: Annotated[
        bool, typer.Option("--unsafe-storage", help="Accept that a power cut may let an unsafe call start twice.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Skip stages, pass over blockers or a playbook.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to wait until every process follows.")] = 2.0,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Move a seam to a stage and wait until every connected process follows."""
    given = {"percent": percent, "sample": sample, "timeout": timeout, "noise": noise, "repeat": repeat}
    move = Move(
        target=parse_stage(stage),
        actor=actor(),
        reason=reason,
        force=force,
        mode="abort" if abort else "drain",
        drain=timedelta(seconds=drain),
        settings={name: value for name, value in given.items() if value is not None},
        unsafe_storage=unsafe_storage,
    )

    async def change() -> StageChange:
        async with session(bus, config) as opened:
            for standing in await standings(opened.policies, opened.bus):
                if standing.seam == seam:
                    await check_not_led(opened.bus, standing, move)
                    guarded = _guarded(move, standing)
                    return await opened.policies.set_stage(seam, guarded, wait=wait)
            return await opened.policies.set_stage(seam, move, wait=wait)  # nobody declared it: it says so

    done = asyncio.run(change())
    if as_json:
        print_json(
            {
                "seam": done.seam,
                "from": done.was,
                "to": done.now,
                "revision": done.revision,
                "following": done.following,
                "lagging": done.lagging,
                "silent": done.silent,
            }
        )
    else:
        _say(done, wait)


@app.command("unblock")
def unblock(
    seam: Annotated[str, typer.Argument(metavar="SEAM", help="Like web.search.")],
    reason: Annotated[str, typer.Option(help="What was mended; kept with the act.")],
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clear what was seen at observe and keeps a seam from canary and bus. What is met again blocks again."""

    async def clear() -> Sequence[str]:
        async with session(bus, config) as opened:
            return await opened.policies.unblock(seam, actor=actor(), reason=reason)

    cleared = asyncio.run(clear())
    if as_json:
        print_json({"seam": seam, "cleared": list(cleared)})
    elif cleared:
        say("\n".join(f"{seam} is no longer blocked: {safe(blocker)}" for blocker in cleared))
    else:
        say(f"Nothing blocks {seam}.")


def _guarded(move: Move, standing: Standing) -> Move:
    """Only if nobody was faster, except for a way back, which no race may refuse."""
    back = ORDER.index(move.target) < ORDER.index(standing.policy.stage)
    return move if back else replace(move, expected=standing.policy.revision)


def _say(done: StageChange, wait: float) -> None:
    say(f"{done.seam}: {done.was} -> {done.now} (revision {done.revision})")
    if done.lagging:
        say(f"{done.following} processes follow; not within {wait:g} s: {', '.join(done.lagging)}")
    elif done.following:
        say(f"{done.following} process{'es follow' if done.following > 1 else ' follows'}.")
    if done.silent:
        say(f"Not heard of for 10 s, ended or cut off: {', '.join(done.silent)}")


async def _rows(bus: str | None, config: str | None) -> list[dict[str, Any]]:
    async with session(bus, config) as opened:
        return await _rows_of(opened)


async def _rows_of(opened: Session) -> list[dict[str, Any]]:
    return [_row(found) for found in await standings(opened.policies, opened.bus)]


def _row(found: Standing) -> dict[str, Any]:
    seam, policy, live = found.declared, found.policy, found.live
    return {
        "seam": seam.seam,
        "domain": seam.domain,
        "stage": policy.stage.value,
        "percent": policy.percent,
        "effects": policy.effects,
        "timeout": policy.timeout,
        "revision": policy.revision,
        "processes": len(found.instances),
        "workers": found.workers,
        "broken": list(found.broken),
        "legacy_hits": sum(found.legacy_hits.values()),
        "legacy_hits_by_build": found.legacy_hits,
        "lagging": list(found.lagging),
        "actor": live.actor if live else "(code)",
        "reason": live.reason if live else "",
        "changed": live.changed if live else "",
        "blockers": list(seam.blockers),
        "place": seam.place,
    }


def _cells(row: Mapping[str, Any]) -> list[str]:
    lagging, processes = len(row["lagging"]), row["processes"]
    follow = f"{processes - lagging} of {processes}" if lagging else processes
    share = f" {row['percent']:g}%" if row["stage"] == Stage.CANARY else ""
    shown = [
        row["seam"],
        f"{row['stage']}{share}",
        row["effects"],
        row["revision"],
        follow,
        row["actor"],
        row["place"],
        row["reason"],
    ]
    return [safe(cell) for cell in shown]


def _remarks(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What keeps a seam where it is, or makes its stage worth a second look."""
    for row in rows:
        for blocker in row["blockers"]:
            yield f"{row['seam']} is blocked: {blocker}"
        if row["lagging"]:
            yield f"{row['seam']} is not followed by {', '.join(row['lagging'])}"
        if row["legacy_hits"]:
            hits = ", ".join(f"{build_name(build)} {n}x" for build, n in row["legacy_hits_by_build"].items() if n)
            yield f"{row['seam']} was answered by its legacy code although commands are the rule: {hits}"
        if TABLE[Stage(row["stage"])].commands and row["broken"]:
            yield f"{row['seam']} does not ask the bus, which failed it, in {', '.join(row['broken'])}"
        if TABLE[Stage(row["stage"])].commands and not row["workers"]:
            yield f"{row['seam']} is at {row['stage']}, and no worker that serves it is alive"
