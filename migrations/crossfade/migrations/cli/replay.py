"""``crossfade replay``: recorded calls run again by the code as it is here, and compared."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

import typer

from crossfade.migrations.replay.building import described
from crossfade.migrations.replay.estimating import estimate
from crossfade.migrations.replay.junit import JunitFile
from crossfade.migrations.replay.pacing import Pace, parse_speed
from crossfade.migrations.replay.publishing import Publishing
from crossfade.migrations.replay.recording import Recording
from crossfade.migrations.replay.running import Replay, ReplayOptions, disconnected, serve
from crossfade.migrations.replay.scoring import Scores
from crossfade.migrations.replay.selecting import Gathering, Selection
from crossfade.migrations.replays import Replays
from crossfade.migrations.rules_file import read_rules
from crossfade.shim._loop import LoopThread
from crossfade.shim.config import check_build
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.redaction import Redactor
from crossfade.shim.seam import registry
from crossfade.shim.services import services
from crossfade.shim.worker import BODIES

from ._bodies import answer_by_http, leave_bodies_behind
from ._logs import log_to_stderr
from ._modules import import_modules
from ._session import BusOption, ConfigOption, JsonOption, Session, print_json, say, session
from ._text import plural, print_columns, read_span, safe, span

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from crossfade.migrations.replay.estimating import Estimate
    from crossfade.migrations.replay.running import Replayed, Served
    from crossfade.migrations.replay.scoring import Score
    from crossfade.shim.policy import Policy
    from crossfade.shim.seam import SeamDomain
    from crossfade.shim.services import Service

_SHOWN: Final = 10  # of those that did not match, in full
_SPARE: Final = 16  # threads for plain functions that outlive their time


def replay(
    app: Annotated[list[str] | None, typer.Option(metavar="MODULE", help="Code to replay with; repeat it.")] = None,
    seam: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this seam; repeat it.")] = None,
    since: Annotated[str | None, typer.Option(help="From so long ago, like 30m or 2h, or an ISO time, on.")] = None,
    until: Annotated[str | None, typer.Option(help="Up to then, written likewise.")] = None,
    run: Annotated[str | None, typer.Option(metavar="ID", help="Only calls of this run.")] = None,
    call: Annotated[str | None, typer.Option(metavar="ID", help="Only this call.")] = None,
    speed: Annotated[str, typer.Option(help="max, or times as fast as recorded: 1x, 10x.")] = "max",
    max_gap: Annotated[str | None, typer.Option(metavar="SPAN", help="Longer pauses count as this.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Calls a second at most.")] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Calls at once; those of one run stay in order.")] = 4,
    unrecorded: Annotated[
        Literal["skip", "live"], typer.Option(help="live: run a harmless nested call that is not in the record.")
    ] = "skip",
    clock: Annotated[
        Literal["shift", "freeze", "real"], typer.Option(help="What shim.now() tells: the recorded time, or now.")
    ] = "shift",
    effects: Annotated[
        Literal["block", "allow"], typer.Option(help="allow: also seams with effects; needs --sandbox.")
    ] = "block",
    sandbox: Annotated[
        str, typer.Option(metavar="PREFIX", help="What runs, tenants and calls are told to begin with.")
    ] = "",
    http: Annotated[str | None, typer.Option(metavar="URL", help="Answer the routes by asking this service.")] = None,
    routes: Annotated[str | None, typer.Option(metavar="FILE", help="The proxy's routes.yaml, for --http.")] = None,
    header: Annotated[
        list[str] | None, typer.Option(metavar="NAME:VALUE", help="Send this in place of recorded credentials.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(metavar="FILE", help="Compare by these rules; else by each seam's policy.")
    ] = None,
    min_coverage: Annotated[
        float, typer.Option(min=0, max=1, help="Fail when a smaller share of the calls was compared.")
    ] = 0.0,
    publish: Annotated[
        bool, typer.Option("--publish", help="Publish verdicts, and for gates that a seam passed.")
    ] = False,
    build: Annotated[
        str | None,
        typer.Option(help="Which build of the application this is; else CROSSFADE_BUILD, else what git describes."),
    ] = None,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="Write results as JUnit XML.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Run nothing: say what would be, and how long.")] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run recorded calls again with the code as it is here, and compare. Exit code 1 unless every seam passes."""
    log_to_stderr(level=logging.WARNING)
    options = ReplayOptions(
        concurrency=concurrency,
        pace=Pace(
            factor=parse_speed(speed),
            max_gap=read_span(max_gap, where="--max-gap").total_seconds() if max_gap else None,
            rate=rate,
        ),
        clock=clock,
        live=unrecorded == "live",
        sandbox=_sandbox(effects, sandbox),
        headers=tuple(map(_header, header or [])),
    )
    now = datetime.now(UTC)
    wanted = Selection(
        seams=tuple(seam or ()),
        since=_when(since, now, where="--since"),
        until=_when(until, now, where="--until"),
        run=run,
        callid=call,
    )
    asked = _Asked(
        options=options,
        selection=wanted,
        rules=rules,
        min_coverage=min_coverage,
        apps=tuple(app or ()),
        build=check_build(build, where="--build") if build else "",
        junit=junit,
        publish=publish,
        dry_run=dry_run,
    )
    with disconnected():
        if not app and http is None:
            raise ConfigurationError(
                "which code? Say --app MODULE, like --app myapp.tools, or --http URL", where="--app"
            )
        answer_by_http(http, (seam or []) if http else [], routes)
        import_modules(app or [])
        code = asyncio.run(_replay(asked, bus, config, as_json=as_json))
    leave_bodies_behind(code)
    raise typer.Exit(code)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What was typed, read."""

    options: ReplayOptions
    selection: Selection
    rules: str | None
    min_coverage: float
    apps: tuple[str, ...]
    build: str
    junit: str | None
    publish: bool
    dry_run: bool


async def _replay(asked: _Asked, bus: str | None, config: str | None, *, as_json: bool) -> int:
    """Replay, print, and return the exit code."""
    async with session(bus, config) as opened:
        found = _chosen(asked.selection)
        policy_of = await _policies(opened)
        served = serve(found, policy_of, read_rules(asked.rules) if asked.rules else None)
        named, build = asked.selection.seams, asked.build or opened.config.build or described(asked.apps)
        selection = dataclasses.replace(asked.selection, seams=named or tuple(served))
        redactor = Redactor.from_environment()
        with Recording() as recording:
            await Gathering(opened.bus, opened.subjects, redactor).gather(_known(served), selection, recording)
            async with _engine(recording, served, redactor, asked.options) as engine:
                if asked.dry_run:
                    return _print_estimate(estimate(engine, recording, selection, asked.options), as_json=as_json)
                scores = await _run(engine, opened, selection, served, dataclasses.replace(asked, build=build))
        failures = scores.failures(named, asked.min_coverage)
        if asked.publish:
            replays = Replays(opened.bus)
            for name, score in scores.seams.items():
                if score.compared and name not in failures:
                    about = {"digest": score.digest, "handler": score.handler, "build": build}
                    await replays.passed(name, compared=score.compared, **about)
    _print(scores, failures, asked.min_coverage, build, as_json=as_json)
    return 1 if failures else 0


async def _run(
    engine: Replay, opened: Session, selection: Selection, served: dict[str, Served], asked: _Asked
) -> Scores:
    scores = Scores({name: served[name].service.by for name in selection.seams})
    file = JunitFile(Path(asked.junit), build=asked.build) if asked.junit else None
    publishing = Publishing(opened.bus, opened.subjects) if asked.publish else None

    async def tell(done: Replayed) -> None:
        scores.add(done)
        if file is not None:
            file.add(done)
        if publishing is not None:
            await publishing.tell(done)

    try:
        await engine.run(selection, tell)
    finally:
        if file is not None:
            file.close()
    return scores


def _chosen(selection: Selection) -> list[Service]:
    """What this process can run; it must hold every seam that was named."""
    found = services(registry)
    names = {service.name for service in found}
    if missing := [name for name in selection.seams if name not in names]:
        known = f"; it has {', '.join(sorted(names))}" if names else ""
        raise ConfigurationError(f"the code named by --app cannot run {missing[0]}{known}", where="--seam")
    if not names:
        raise ConfigurationError("the modules named declare no seam that can be run", where="--app")
    return found


def _known(served: dict[str, Served]) -> dict[str, SeamDomain]:
    """Every seam that may have been called, also those that cannot be run here: nested calls are only looked up."""
    known: dict[str, SeamDomain] = {seam.name: seam.domain for seam in registry.all()}
    known.update((name, each.service.domain) for name, each in served.items())
    return known


async def _policies(opened: Session) -> Callable[[Service], Policy]:
    """The policy in force: the code's, else what callers declared; then the file's; then the live one."""
    live, declared, now = await opened.policies.live(), await opened.policies.declared(), opened.bus.now()

    def policy_of(service: Service) -> Policy:
        known = declared.get(service.name)
        base = service.policy if service.declared or known is None else known.policy
        base = opened.config.policy(service.name, base)
        found = live.get(service.name)
        return base if found is None else found.over(base, now=now)

    return policy_of


@asynccontextmanager
async def _engine(
    recording: Recording, served: dict[str, Served], redactor: Redactor, options: ReplayOptions
) -> AsyncGenerator[Replay]:
    bodies = LoopThread()
    executor = ThreadPoolExecutor(options.concurrency + _SPARE, BODIES)
    try:
        yield Replay(
            recording,
            served,
            registry=registry,
            redactor=redactor,
            executor=executor,
            loop=bodies.loop,
            options=options,
        )
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
        bodies.stop()


# -- what was typed ----------------------------------------------------------------------------------------------------


def _sandbox(effects: str, sandbox: str) -> str:
    if effects == "block":
        if sandbox:
            raise ConfigurationError("means nothing without --effects allow", where="--sandbox")
        return ""
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,32}", sandbox):
        raise ConfigurationError(
            "allow runs code that changes things: name what keeps it apart from production with --sandbox PREFIX, "
            "of A-Z, a-z, 0-9, _, . and -, 32 at most",
            where="--effects",
        )
    return sandbox


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise ConfigurationError("is no header: write it like 'Authorization: Bearer ...'", where="--header")
    return name, value.strip()


def _when(text: str | None, now: datetime, *, where: str) -> datetime | None:
    if text is None:
        return None
    if re.fullmatch(r"[\d.]+[smhd]", text):
        return now - read_span(text, where=where)
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is no time: say how long ago (30m, 2h, 1d), or when (2026-03-02T09:00:00+00:00)", where=where
        ) from None


# -- what is printed ---------------------------------------------------------------------------------------------------


def _print_estimate(found: Estimate, *, as_json: bool) -> int:
    if as_json:
        print_json(found.to_json())
        return 0
    rows = [("seam", "calls", "to replay", "skipped")]
    for name, each in found.seams.items():
        skipped = ", ".join(f"{reason} {n}" for reason, n in each.skipped.items())
        rows.append((name, str(each.calls), str(each.calls - each.skipped.total()), skipped or "-"))
    print_columns(rows)
    say(f"\nAbout {span(found.takes)} when the code takes as long as it did. Nothing was run.")
    return 0


def _print(scores: Scores, failures: dict[str, str], least: float, build: str, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "passed": not failures,
                "build": build,
                "failures": failures,
                "seams": {name: score.to_json(least) for name, score in scores.seams.items()},
                "calls": [_told(done) for done in scores.failed],
            }
        )
        return
    rows = [("seam", "calls", "compared", "match", "mismatch", "ignored", "undecided", "skipped")]
    print_columns(rows + [_row(name, score) for name, score in scores.seams.items()])
    for done in scores.failed[:_SHOWN]:
        _print_one(done)
    if len(scores.failed) > _SHOWN:
        say(f"\nThe first {_SHOWN} are shown; --junit FILE has them all.")
    say("")
    for name, why in failures.items():
        say(safe(f"FAILED: {why}" if name == "-" else f"FAILED {name}: {why}"))
    if not failures:
        say(safe(f"Passed with build {build}."))


def _row(name: str, score: Score) -> tuple[str, ...]:
    verdicts = score.verdicts
    skipped = ", ".join(f"{key.partition(':')[2]} {n}" for key, n in score.reasons.items() if key.startswith("skipped"))
    return (
        name,
        str(score.calls),
        f"{score.compared} ({score.coverage:.0%})",
        str(verdicts["match"]),
        str(verdicts["mismatch"]),
        str(verdicts["ignored"]),
        str(verdicts["inconclusive"]),
        skipped or "-",
    )


def _print_one(done: Replayed) -> None:
    verdict = done.verdict
    say("")
    say(safe(f"{done.call.seam} call {done.call.callid}: {verdict.kind} {verdict.reason or verdict.signature}"))
    if verdict.detail:
        say(safe(verdict.detail))
    if verdict.differences:
        rows = [("path", "how", "recorded", "now")]
        print_columns(rows + [tuple(map(safe, (d.path, d.kind, d.old, d.new))) for d in verdict.differences])
    if verdict.more:
        say(f"{plural(verdict.more, 'difference')} more.")


def _told(done: Replayed) -> dict[str, Any]:
    return {
        "seam": done.call.seam,
        "callid": done.call.callid,
        "run": done.call.run,
        **done.verdict.to_json(),
    }
