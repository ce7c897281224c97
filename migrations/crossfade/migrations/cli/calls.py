"""``crossfade calls``: one call from its ledger, those of which nobody knows how they ended, and an operator's word."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from crossfade.shim.answers import answer_over, find_waiting
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.ledger import find_callids, find_dead, find_open, read_call, read_terminal
from crossfade.shim.redaction import Redactor
from crossfade.shim.resolving import Resolution, resolve
from crossfade.shim.subjects import check_seam

from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session
from ._text import actor, clock, plural, print_columns, safe, shown_data, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossfade.shim.answers import Question
    from crossfade.shim.claims import ClaimRecord
    from crossfade.shim.events import Event
    from crossfade.shim.ledger import CallLedger, OpenCall, State, Terminal
    from crossfade.shim.ports import Bus, DeadLetter, Stored

    from ._session import Session

app = typer.Typer(help="Calls on the bus: what became of one, and which nobody knows.", no_args_is_help=True)

CallArgument = Annotated[str, typer.Argument(metavar="CALLID", help="The call's id, 32 characters.")]


_WHOLE: Final = 32
_PART: Final = 4  # characters; fewer mean any call
_PATIENCE: Final = 10.0  # seconds for looking through every command that the bus keeps


class Outcome(StrEnum):
    """What an operator may say."""

    VALUE = "value"
    ERROR = "error"
    NOT_EXECUTED = "not-executed"


_MEANS: Final[Mapping[State, str]] = {
    "waiting": "sent, and no worker has started it yet",
    "expired": "sent, and no worker started it before its deadline",
    "running": "started, and its owner has not logged a result yet",
    "silent": "started, and its owner is silent past the deadline: nobody knows how it ended",
    "unknown": "started, and nobody knows how it ended",
    "value": "ended with a value",
    "error": "ended with an error",
    "not-executed": "provably not executed",
}


@app.command()
def show(
    callid: Annotated[
        str, typer.Argument(metavar="CALLID", help="The call's id, or its beginning or end, like `events tail` shows.")
    ],
    data: Annotated[bool, typer.Option("--data", help="Show payloads, redacted.")] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show everything the bus holds of one call. Exit code 1 when it holds nothing."""

    async def look() -> tuple[dict[str, Any], datetime]:
        async with session(bus, config) as opened:
            ledger = await read_call(opened.bus, opened.subjects, await _full_id(opened, callid))
            dead = await find_dead(opened.bus, ledger.callid)
            now = opened.bus.now()
            redactor = Redactor.from_environment() if data else None
            return await _document(opened.bus, ledger, dead, now=now, redactor=redactor), now

    found, now = asyncio.run(look())
    if as_json:
        print_json(found)
    else:
        _print_call(found, now)


@app.command()
def unknown(
    seam: Annotated[str | None, typer.Option(help="Only calls of this seam.")] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the calls that somebody started and of which nobody knows how they ended, oldest first."""
    wanted = check_seam(seam) if seam else None

    async def look() -> tuple[list[OpenCall], datetime]:
        async with session(bus, config) as opened:
            return await find_open(opened.bus, opened.subjects, seam=wanted), opened.bus.now()

    found, now = asyncio.run(look())
    if as_json:
        print_json([_open(call) for call in found])
    elif not found:
        say("No call is unknown: each one that was started has its result, or still has time.")
    else:
        print_columns([("call", "state", "age", "seam"), *(_open_row(call, now) for call in found)])
        say(
            f"\n{plural(len(found), 'call')}: started, perhaps done, perhaps not. Each one's story: "
            "crossfade calls show CALLID\nOnce you know: crossfade calls resolve CALLID --outcome ... --reason ..."
        )


@app.command()
def waiting(
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List what calls wait to be told by a person, oldest first."""

    async def look() -> tuple[Sequence[Question], datetime]:
        async with session(bus, config) as opened:
            return await find_waiting(opened.bus), opened.bus.now()

    found, now = asyncio.run(look())
    if as_json:
        print_json([asdict(question) for question in found])
    elif not found:
        say("No call waits for a person.")
    else:
        rows = [
            (each.callid, each.id, span(now - each.asked), each.seam, safe(json.dumps(each.value, ensure_ascii=False)))
            for each in found
        ]
        print_columns([("call", "question", "age", "seam", "asks"), *rows])
        say(f"\n{plural(len(found), 'question')}. Answer one: crossfade calls answer CALLID --value JSON")


@app.command("answer")
def answer_call(
    callid: CallArgument,
    value: Annotated[str, typer.Option(metavar="JSON", help="The answer.")],
    question: Annotated[str | None, typer.Option(metavar="ID", help="Which, where the call asks several.")] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer what a call asks a person. Exit code 1 when it asks nothing, or somebody was quicker."""
    try:
        said: Any = json.loads(value)
    except ValueError as error:
        raise ConfigurationError(f"is no JSON ({error}): a text is written '\"yes\"'", where="--value") from error

    async def write() -> Question:
        async with session(bus, config) as opened:
            return await answer_over(opened.bus, callid, said, question=question, actor=actor())

    answered = asyncio.run(write())
    if as_json:
        print_json(asdict(answered))
    else:
        say(f"Answered question {answered.id} of {answered.seam}.")


@app.command("resolve")
def resolve_call(
    callid: CallArgument,
    outcome: Annotated[
        Outcome, typer.Option(help="value or error: it happened; not-executed: it did not, and may run again.")
    ],
    reason: Annotated[str, typer.Option(help="How you know; kept with the call.")],
    value: Annotated[str | None, typer.Option(metavar="JSON", help="What it returned, for --outcome value.")] = None,
    owner_is_dead: Annotated[
        bool, typer.Option("--owner-is-dead", help="You made sure that the process that started it is gone.")
    ] = False,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how an unknown call ended, once you have found out. Exit code 4 when its ledger forbids it."""
    said = Resolution(outcome=outcome.value, actor=actor(), reason=reason, value=value, owner_is_dead=owner_is_dead)

    async def write() -> tuple[Terminal, CallLedger]:
        async with session(bus, config) as opened:
            before = await read_call(opened.bus, opened.subjects, callid)
            return await resolve(opened.bus, opened.subjects, callid, said), before

    written, before = asyncio.run(write())
    owner = _owner(before.claim)
    if as_json:
        print_json({"callid": callid, "seam": before.seam, "owner": owner, **_terminal(written)})
        return
    say(f"{before.seam}, call {callid}: unknown -> {written.kind}, by {written.actor}")
    say(safe(f"Its owner was {owner['role']} {owner['instance']}." if owner else "Its owner cannot be read."))
    if outcome is Outcome.NOT_EXECUTED:
        say("Whoever retries it may run it now. A dead letter of it can be sent again: crossfade dlq list")


async def _full_id(opened: Session, given: str) -> str:
    """The one call that ``given`` means. Raises ``ConfigurationError`` listing them when there are several."""
    if not _PART <= len(given) < _WHOLE or await opened.bus.last(opened.subjects.of_call(given)) is not None:
        return given
    try:
        async with asyncio.timeout(_PATIENCE):
            found = await find_callids(opened.bus, opened.subjects, given)
    except TimeoutError:
        raise ConfigurationError(
            f"there are too many calls to look through for {given!r}: give all 32 characters", where="CALLID"
        ) from None
    if len(found) > 1:
        raise ConfigurationError(
            f"{given!r} is the beginning or end of {len(found)} calls or more, say which:\n  " + "\n  ".join(found),
            where="CALLID",
        )
    return found[0] if found else given


# -- as data -----------------------------------------------------------------------------------------------------


async def _document(
    bus: Bus, ledger: CallLedger, dead: Sequence[DeadLetter], *, now: datetime, redactor: Redactor | None
) -> dict[str, Any]:
    first = ledger.command or ledger.events[0]
    deadline = ledger.deadline
    document: dict[str, Any] = {
        "callid": ledger.callid,
        "seam": ledger.seam,
        "domain": ledger.domain,
        "state": ledger.state(now),
        "run": first.event.get("correlationid"),
        "tenant": first.event.get("tenantid"),
        "user": first.event.get("userid"),
        "guarded": bool(first.event.get("guarded")),
        "deadline": deadline.isoformat() if deadline else None,
        "caller": _source(ledger.command.event) if ledger.command else None,
        "owner": _owner(ledger.claim),
        "events": [_event(stored, ledger) for stored in ledger.events],
        "dead_letters": [_dead(letter) for letter in dead],
    }
    if redactor is not None:
        for shown, stored in zip(document["events"], ledger.events, strict=True):
            if shown["what"] != "claim":  # its payload is the nonce, and what is shown already
                shown["data"] = await shown_data(bus, stored.event, redactor)
    return document


def _event(stored: Stored, ledger: CallLedger) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "time": stored.time.isoformat(),
        "position": stored.position,
        "id": stored.event.id,
        "source": _source(stored.event),
    }
    if stored.subject == ledger.place.own:
        return {"what": "claim", **shown, "attempt": stored.event.get("attempt")}
    if stored.subject == ledger.place.result:
        superseded = stored is not ledger.events[-1]
        return {"what": "result", **shown, **_terminal(read_terminal(stored)), "superseded": superseded}
    revision, replay = stored.event.get("policyrev"), stored.event.get("replayof")
    return {"what": "command", **shown, "policyrev": revision, "replayof": replay}


def _source(event: Event) -> str:
    return event.source.removeprefix("urn:crossfade:")


def _terminal(ended: Terminal) -> dict[str, Any]:
    return {
        "outcome": ended.kind,
        "by": ended.by,
        "reason": ended.reason,
        "message": ended.message,
        "handler_ms": ended.handler_ms,
        "actor": ended.actor,
        "why": ended.why,
    }


def _owner(claim: ClaimRecord | None) -> dict[str, Any] | None:
    """A claim without its nonce, which is the owner's secret."""
    if claim is None:
        return None
    return {
        "role": claim.role,
        "instance": claim.instance,
        "attempt": claim.attempt,
        "policyrev": claim.policyrev,
        "expires": claim.expires.isoformat(),
    }


def _dead(letter: DeadLetter) -> dict[str, Any]:
    return {
        "time": letter.time.isoformat(),
        "position": letter.position,
        "group": letter.group,
        "reason": letter.reason,
        "attempts": letter.attempts,
    }


def _open(call: OpenCall) -> dict[str, Any]:
    return {
        "callid": call.callid,
        "seam": call.seam,
        "state": call.state,
        "since": call.since.isoformat(),
        "owner": _owner(call.claim),
    }


# -- for people --------------------------------------------------------------------------------------------------


def _open_row(call: OpenCall, now: datetime) -> tuple[str, ...]:
    return safe(call.callid), call.state, span(now - call.since), safe(call.seam)


def _print_call(found: Mapping[str, Any], now: datetime) -> None:
    say(safe(f"{found['seam']} ({found['domain']}), call {found['callid']}"))
    say(f"{found['state']}: {_meaning(found)}\n")
    facts = [(name, safe(found[name])) for name in ("run", "tenant", "user") if found[name]] + [
        ("deadline", _when(found["deadline"], now)),
        ("ledger", _ledger_rule(found)),
    ]
    if found["caller"]:
        facts.append(("caller", safe(found["caller"])))
    if found["owner"]:
        facts.append(("owner", safe(f"{found['owner']['role']} {found['owner']['instance']}")))
    print_columns(facts)
    say("")
    print_columns([("at", "after", "what", ""), *_timeline(found)])
    for shown in found["events"]:
        if "data" in shown:
            say(f"\n{shown['what']} {safe(shown['position'])}: {safe(json.dumps(shown['data'], ensure_ascii=False))}")
    following = _next(found)
    if following:
        say(f"\n{following}")


def _meaning(found: Mapping[str, Any]) -> str:
    last = found["events"][-1]
    if last.get("by") == "operator":
        return f"{_MEANS[found['state']]}, as {safe(last['actor'])} found out"
    if last.get("outcome") in ("error", "not-executed"):
        return f"{_MEANS[found['state']]} ({safe(last['reason'])})"
    return _MEANS[found["state"]]


def _timeline(found: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    steps = [*found["events"], *({"what": "dead letter", **letter} for letter in found["dead_letters"])]
    steps.sort(key=lambda step: step["time"])
    begun = datetime.fromisoformat(steps[0]["time"])
    rows: list[tuple[str, str, str, str]] = []
    for step in steps:
        time = datetime.fromisoformat(step["time"])
        after = f"+{span(time - begun)}" if time > begun else ""
        rows.append((clock(time), after, _name(step), safe(_about(step))))
    return rows


def _name(step: Mapping[str, Any]) -> str:
    return str(step["outcome"] if step["what"] == "result" else step["what"])


def _about(step: Mapping[str, Any]) -> str:
    if step["what"] == "command":
        return f"again, for event {step['replayof']}" if step["replayof"] else f"revision {step['policyrev'] or 0}"
    if step["what"] == "claim":
        return f"attempt {step['attempt']}"
    if step["what"] == "dead letter":
        return f"{step['reason']}, crossfade dlq show {step['position']}"
    about = f"{step['actor']}: {step['why']}" if step["by"] == "operator" else _said(step)
    return f"{about} (superseded)" if step["superseded"] else about


def _said(step: Mapping[str, Any]) -> str:
    if step["handler_ms"] is not None and step["outcome"] == "value":
        return f"in {step['handler_ms']:.1f} ms, on the {step['by']} path"
    told = step["message"] and step["outcome"] != "unknown"  # its message is the owner, who has a line above
    return f"{step['reason']}: {step['message'][:200]}" if told else str(step["reason"])


def _next(found: Mapping[str, Any]) -> str:
    if found["state"] not in ("unknown", "silent"):
        return ""
    return (
        "Find out whether it happened, and whether its owner still runs; then\n"
        f"  crossfade calls resolve {found['callid']} --outcome ..."
    )


def _ledger_rule(found: Mapping[str, Any]) -> str:
    return (
        "at most one side may start it" if found["guarded"] else "running it twice does no harm, so no claim is needed"
    )


def _when(text: str | None, now: datetime) -> str:
    if text is None:
        return "-"
    time = datetime.fromisoformat(text)
    return f"{clock(time)} ({span(now - time)} ago)" if time < now else f"{clock(time)} (in {span(time - now)})"
