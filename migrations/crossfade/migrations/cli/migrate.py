"""``crossfade migrate``: playbooks in force, and what people do to their seams."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from crossfade.migrations.applied import Applied, Migrations
from crossfade.migrations.builtin import builtins, write_builtin
from crossfade.migrations.gates import asked, waits_for_ever
from crossfade.migrations.gathering import Gatherer
from crossfade.migrations.operating import Act, Operating
from crossfade.migrations.overview import overview
from crossfade.migrations.playbook import read_playbook
from crossfade.migrations.retirements import Asked, Done, Retirements
from crossfade.migrations.watching import news
from crossfade.proxy.documents import read_document
from crossfade.proxy.settings import SHAPE
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.instances import build_name
from crossfade.shim.stages import Stage, parse_stage

from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session
from ._text import actor, clock, print_columns, read_span, safe

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crossfade.migrations.evidence import Evidence
    from crossfade.migrations.overview import Overview, SeamView
    from crossfade.migrations.playbook import Playbook
    from crossfade.migrations.watching import Sight
    from crossfade.shim.policy import Policy

app = typer.Typer(help="Playbooks: seams that move on evidence, and taking them back.", no_args_is_help=True)

FileArgument = Annotated[str, typer.Argument(metavar="FILE", help="A playbook, like playbook.yaml.")]
SeamArgument = Annotated[str, typer.Argument(metavar="SEAM", help="Like web.search.")]
ReasonOption = Annotated[str, typer.Option(help="Why; kept with what is done.")]
NameOption = Annotated[str | None, typer.Option(help="Its name on the bus; else its own, else the file's.")]

_TITLES: Final = ("seam", "playbook", "stage", "step", "status", "next", "why")
_LOOK: Final = 1.0  # seconds, as often as the controller looks
_MARKS: Final = {"met": "yes", "missing": "no data", "unmet": "not yet", "violated": "BROKEN"}


@app.command("init")
def init(
    file: Annotated[str | None, typer.Argument(metavar="FILE", help="Where to write it; else its name.yaml.")] = None,
    playbook: Annotated[str | None, typer.Option(metavar="NAME", help="Which; without it they are listed.")] = None,
    seam: Annotated[list[str] | None, typer.Option(metavar="SEAM", help="What it moves; may be repeated.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a playbook to begin with, for your seams; without --playbook, list those there are."""
    if playbook is None:
        _list_builtins(as_json=as_json)
        return
    text, target = write_builtin(playbook, seam or ()), Path(file or f"{playbook}.yaml")
    try:
        with target.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError as error:
        raise ConfigurationError("is there already, and left as it is: name another file", where=str(target)) from error
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", where=str(target)) from error
    if as_json:
        print_json({"file": str(target), "playbook": playbook, "seams": seam})
    else:
        say(f"Wrote {safe(target)}. Read it, then: crossfade migrate plan {safe(target)}")


def _list_builtins(*, as_json: bool) -> None:
    known = builtins()
    if as_json:
        print_json([{"name": name, "title": found.title, "about": found.about} for name, found in known.items()])
        return
    for name, found in known.items():
        say(f"{name}: {found.title}\n  {found.about}")
    say("\nTake one: crossfade migrate init --playbook pilot --seam web.search")


@app.command("plan")
def plan(file: FileArgument, bus: BusOption = None, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show what a playbook would do, step by step, and where its seams stand now. Changes nothing."""
    playbook = read_playbook(file)
    known = asyncio.run(_policies(playbook, bus, config))
    standing = {seam: str(policy.stage) if policy else None for seam, policy in known.items()}
    warnings = list(_warnings(playbook, known))
    if as_json:
        steps = [{"to": str(step), "gate": asked(step.gate), "abort": asked(step.abort)} for step in playbook.steps]
        print_json({"seams": standing, "steps": steps, "warnings": warnings})
        return
    say(
        "\n".join(
            f"{safe(seam)} is at {stage or 'no stage: no process has declared it'}" for seam, stage in standing.items()
        )
    )
    rows = [
        (
            str(at),
            str(step),
            "; ".join(asked(step.gate)) or "-",
            "; ".join(asked(step.abort)) or "-",
            step.approve or "-",
        )
        for at, step in enumerate(playbook.steps, 1)
    ]
    print_columns([("step", "stage", "goes on when", "goes back when", "approved by"), *rows])
    for warning in warnings:
        say(f"\nWarning: {safe(warning)}")


def _warnings(playbook: Playbook, known: Mapping[str, Policy | None]) -> Iterator[str]:
    """What would keep a seam for ever, as it is declared now."""
    unsafe = [seam for seam, policy in known.items() if policy is not None and policy.effects == "unsafe"]
    gates = [step.gate for step in playbook.steps if step.to is Stage.SHADOW]
    yield from (f"{seam}: {text}" for seam in unsafe for gate in gates if (text := waits_for_ever(gate)))


@app.command("apply")
def apply(
    file: FileArgument,
    name: NameOption = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a playbook in force: from now on the controller moves its seams. A seam that is on its way goes on there."""
    playbook, text = read_playbook(file), Path(file).read_text(encoding="utf-8")
    chosen = name or playbook.name or Path(file).stem.replace("_", "-").replace(".", "-")

    async def do() -> tuple[Applied, Overview]:
        async with session(bus, config) as opened:
            made = Applied(name=chosen, text=text, actor=actor(), applied=datetime.now(UTC).isoformat())
            applied = await Migrations(opened.bus).apply(made)
            return applied, await overview(opened.bus, opened.subjects, opened.policies)

    applied, found = asyncio.run(do())
    leader = found.leader
    if as_json:
        print_json({"playbook": applied.name, "digest": applied.digest, "seams": list(applied.seams), "leader": leader})
        return
    say(f"Playbook {applied.name} moves {', '.join(applied.seams)}. See `crossfade migrate status`.")
    undeclared = [view.progress.seam for view in found.seams if view.applied.name == applied.name and not view.live]
    if undeclared:
        say(f"No process has declared {', '.join(undeclared)}: they wait until one does. See `crossfade stage list`.")
    if not leader:
        say("No controller runs, so nothing will move: start `crossfade control`.")


@app.command("status")
def status(
    seam: Annotated[str | None, typer.Argument(metavar="SEAM", help="One seam, with its findings.")] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far seams are on their playbooks, and what keeps each where it is."""

    async def read() -> Overview:
        async with session(bus, config) as opened:
            return await overview(opened.bus, opened.subjects, opened.policies)

    found = asyncio.run(read())
    views = [view for view in found.seams if seam in (None, view.progress.seam)]
    if seam and not views:
        raise _not_moved(seam)
    if as_json:
        print_json({"leader": found.leader, "seams": [view.to_json() for view in views]})
        return
    if not views:
        say("No playbook is in force: crossfade migrate plan FILE, then crossfade migrate apply FILE.")
        return
    print_columns([_TITLES, *map(_cells, views)])
    if seam:
        _print_findings(views[0])
    if not found.leader:
        say("\nNo controller runs, so nothing moves: start `crossfade control`.")


@app.command("watch")
def watch(
    seam: Annotated[str | None, typer.Argument(metavar="SEAM", help="Only this one.")] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print a line for each seam, and one for each change, with what holds it, until Ctrl-C."""

    async def follow() -> None:
        seen: dict[str, Sight] = {}
        async with session(bus, config) as opened:
            gatherer = Gatherer(opened.bus, opened.subjects)
            if seam and await Migrations(opened.bus).of_seam(seam) is None:
                raise _not_moved(seam)
            while True:
                found = await overview(opened.bus, opened.subjects, opened.policies, gatherer=gatherer)
                for sight in news(seen, [view for view in found.seams if seam in (None, view.progress.seam)]):
                    _print_sight(sight, opened.bus.now(), as_json=as_json)
                    seen[sight.seam] = sight
                await asyncio.sleep(_LOOK)

    asyncio.run(follow())


def _print_sight(sight: Sight, now: datetime, *, as_json: bool) -> None:
    if as_json:
        print_json({"time": now.isoformat(), **sight.to_json()})
        return
    why = "; ".join(sight.held) or sight.reason or "-"
    say(f"{clock(now)}  {safe(sight.seam)}  {sight.stage or '-'}  step {sight.step}  {sight.status}  {safe(why)}")
    sys.stdout.flush()  # a pipe is read line by line


@app.command("advance")
def advance(
    seam: SeamArgument,
    reason: ReasonOption = "",
    force: Annotated[bool, typer.Option("--force", help="Past its gate, as your own decision.")] = False,
    unsafe_storage: Annotated[
        bool, typer.Option("--unsafe-storage", help="With --force: accept a broker that may lose claims.")
    ] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let a seam go on: approve its next step, or give it back to the controller after a pause or a rollback."""
    act = Act(actor=actor(), reason=reason)

    async def do() -> dict[str, Any]:
        async with session(bus, config) as opened:
            operating, migrations = Operating(opened.bus, opened.policies), Migrations(opened.bus)
            if force:
                change = await operating.skip_gate(seam, act, unsafe_storage=unsafe_storage)
                return {"seam": seam, "done": f"moved to {change.now}", "revision": change.revision}
            applied = await migrations.of_seam(seam)
            stopped = applied is not None and applied.seams[seam].status in ("paused", "rolled-back")
            progress = await (operating.resume if stopped else operating.approve)(seam, act)
            return {"seam": seam, "done": "resumed" if stopped else "approved", "status": progress.status}

    _tell(asyncio.run(do()), as_json=as_json)


@app.command("rollback")
def rollback(
    seam: SeamArgument,
    to: Annotated[str | None, typer.Option(metavar="STAGE", help="Else to where legacy answers everybody.")] = None,
    reason: ReasonOption = "",
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a seam back at once, breaking off what is under way. It stays back until `advance`."""
    stage = parse_stage(to) if to else None

    async def do() -> dict[str, Any]:
        async with session(bus, config) as opened:
            act = Act(actor=actor(), reason=reason)
            change = await Operating(opened.bus, opened.policies).roll_back(seam, act, to=stage)
            return {
                "seam": seam,
                "done": f"{change.was} -> {change.now}",
                "revision": change.revision,
                "following": change.following,
                "lagging": list(change.lagging),
            }

    _tell(asyncio.run(do()), as_json=as_json)


@app.command("pause")
def pause(
    seam: SeamArgument,
    reason: ReasonOption = "",
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Keep the controller's hands off a seam, abort rules included, until `advance`."""

    async def do() -> dict[str, Any]:
        async with session(bus, config) as opened:
            progress = await Operating(opened.bus, opened.policies).pause(seam, Act(actor=actor(), reason=reason))
            return {"seam": seam, "done": "paused", "status": progress.status}

    _tell(asyncio.run(do()), as_json=as_json)


@app.command("retire")
def retire(
    seam: SeamArgument,
    period: Annotated[
        str, typer.Option(help="How long nobody may need the legacy code, at bus and again at retired: 12h, 7d, 35d.")
    ] = "7d",
    check: Annotated[bool, typer.Option("--check", help="Only tell; exit code 1 when it is too early.")] = False,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="After the second period: I know that the code goes. Says what can.")
    ] = False,
    routes: Annotated[str | None, typer.Option(metavar="FILE", help="routes.yaml, to find the route in.")] = None,
    reason: ReasonOption = "",
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take the legacy code of a seam out of use in two quiet periods, then say what can be deleted."""
    asked = Asked(
        seam=seam,
        period=read_span(period, where="--period"),
        check=check,
        acknowledge=acknowledge,
        route=_route(seam, routes) if routes else "",
        act=Act(actor=actor(), reason=reason),
    )

    async def do() -> Done:
        async with session(bus, config) as opened:
            return await Retirements(opened.bus, opened.subjects, opened.policies).carry_out(asked)

    done = asyncio.run(do())
    if as_json:
        print_json(done.to_json())
    else:
        say("\n".join(map(safe, done.lines(period=period))))
    if check and done.retirement.holds:
        raise typer.Exit(1)


def _route(seam: str, file: str) -> str:
    """File and line of the seam's route. Raises ``ConfigurationError`` when the file holds none."""
    document = read_document(file, SHAPE)
    document.check()
    routes = document.values.get("routes") or ()
    for at, route in enumerate(routes):
        if route.get("seam") == seam:
            return f"{file}:{document.place(('routes', at, 'seam'))[0]}"
    known = ", ".join(str(route.get("seam")) for route in routes) or "none"
    raise ConfigurationError(f"has no route with seam {seam}; there are: {known}", where=file)


@app.command("end")
def end(
    name: Annotated[str, typer.Argument(metavar="PLAYBOOK", help="Its name.")],
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take a playbook out of force. Its seams stay where they are."""

    async def do() -> None:
        async with session(bus, config) as opened:
            await Migrations(opened.bus).end(name)

    asyncio.run(do())
    if as_json:
        print_json({"playbook": name, "done": "ended"})
    else:
        say(f"Playbook {safe(name)} is not in force any more; its seams stay where they are.")


def _not_moved(seam: str) -> ConfigurationError:
    return ConfigurationError(f"no playbook moves {seam}: crossfade migrate apply FILE", where="seam")


async def _policies(playbook: Playbook, bus: str | None, config: str | None) -> dict[str, Policy | None]:
    async with session(bus, config) as opened:
        declared, live = await opened.policies.declared(), await opened.policies.live()
        now = opened.bus.now()

        def policy(seam: str) -> Policy | None:
            if seam not in declared:
                return None
            base = declared[seam].policy
            return live[seam].over(base, now=now) if seam in live else base

        return {seam: policy(seam) for seam in playbook.seams}


def _cells(view: SeamView) -> list[str]:
    row = view.to_json()
    share = f" {row['percent']:g}%" if row["stage"] == "canary" else ""
    return [
        safe(cell)
        for cell in (
            row["seam"],
            row["playbook"],
            f"{row['stage'] or '-'}{share}",
            f"{row['step'] + 1} of {len(row['steps'])}",
            row["status"],
            row["next"] or "-",
            row["reason"] or "-",
        )
    ]


def _print_findings(view: SeamView) -> None:
    if view.ruling is None or view.gathered is None:
        say("\nNo process has declared it, so nothing is known of it.")
        return
    row = view.to_json()
    if back := row["rolled_back"]:
        _print_rollback(back)
    say(f"\n{safe(_gathered_since(view.gathered.evidence))}")
    _print_table(row["findings"])
    _print_mismatches(row["evidence"]["mismatches"])


def _print_rollback(back: Mapping[str, Any]) -> None:
    """The evidence of then: that of now began with the rollback."""
    build = f", of {build_name(back['build'])}" if back["build"] else ""
    at = f" at {clock(datetime.fromisoformat(back['at']))}" if back["at"] else ""
    say(safe(f"\nRolled back from {back['from'] or 'a later stage'}{at}{build}"))
    _print_table(back["findings"])
    _print_mismatches(back["mismatches"])


def _gathered_since(evidence: Evidence) -> str:
    """Since when, of which build, and what is left out or known by callers alone."""
    build = f" of {build_name(evidence.build)}" if evidence.build is not None else ""
    said = [f"Evidence{build} since {clock(evidence.begun)}"]
    if evidence.outdated:
        said.append(f"{evidence.outdated} calls of other builds left out")
    if evidence.unanswered:
        reasons = ", ".join(f"{count} {why}" for why, count in evidence.unanswered.most_common())
        said.append(f"without an answer from the bus: {reasons}")
    if (worst := evidence.tenants.worst()) is not None:
        said.append(f"worst tenant {worst[0]}: {worst[1].failed} of {worst[1].calls} calls failed or differ")
    return "; ".join(said)


def _print_table(findings: Sequence[Mapping[str, Any]]) -> None:
    if findings:
        print_columns([("finding", "met"), *((safe(each["text"]), _MARKS[each["state"]]) for each in findings)])


def _print_mismatches(mismatches: Sequence[Mapping[str, Any]]) -> None:
    for kind in mismatches:
        newest = kind["samples"][-1]
        count = f"{kind['count']} mismatch{'' if kind['count'] == 1 else 'es'}"
        say(f"\n{count} of kind {safe(kind['signature'])}, the last in call {safe(newest['callid'])}:")
        for each in newest["differences"]:
            say(safe(f"  {each['path']} {each['kind']}: {each['legacy'] or '-'} -> {each['bus'] or '-'}"))


def _tell(done: Mapping[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(done)
        return
    revision = f" (revision {done['revision']})" if "revision" in done else ""
    say(f"{safe(done['seam'])}: {done['done']}{revision}")
    if lagging := done.get("lagging"):
        say(f"not followed yet by {safe(', '.join(lagging))}")
