"""An operator's word on a call of which nobody knows how it ended.

Rule 1: it replaces ``unknown`` and nothing else, fenced on the very ``unknown`` it replaces: when the owner's result
arrives first, it stands and the operator is told.
Rule 2: it never shuts the owner out. An owner that was only paused may still log what really happened, and that
counts from then on; the operator's word stays in the ledger beside it.
Rule 3: ``value`` and ``error`` say that it happened; the reason is the proof. ``not-executed`` lets others run it
again, which is safe only when the owner can never act, so that takes the statement that the owner is dead. So does
anything said of an owner that still reports to the bus.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from .claims import GRACE, is_unknown, log_unknown
from .domains import answer_type
from .errors import BusAmbiguousError, ConfigurationError, ResolutionRefusedError, WrongPositionError
from .events import Event
from .hooks import report
from .instances import Instances
from .ledger import read_call, read_terminal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .ledger import CallLedger, Terminal
    from .ports import Bus, Stored
    from .subjects import Subjects

Ending = Literal["value", "error", "not-executed"]

_TRIES: Final = 5  # appends whose answer is unclear, before the operator is told
_CARRIED: Final = ("correlationid", "tenantid", "userid", "partitionkey", "traceparent", "tracestate")


@dataclass(frozen=True, kw_only=True, slots=True)
class Resolution:
    """What an operator says. ``value`` is JSON text, for the outcome ``value`` only.

    ``owner_is_dead``: they looked, and the process that claimed the call does not run any more. Raises
    ``ConfigurationError`` for an empty reason or actor, and a value that is missing, misplaced or no JSON.
    """

    outcome: Ending
    actor: str
    reason: str
    value: str | None = None
    owner_is_dead: bool = False

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ConfigurationError("say how you know: it is kept with the call", where="reason")
        if not self.actor:
            raise ConfigurationError("say who you are", where="actor")
        if self.outcome == "value" and self.value is None:
            raise ConfigurationError("say what the call returned, as JSON (null for nothing)", where="value")
        if self.outcome != "value" and self.value is not None:
            raise ConfigurationError(f"the outcome {self.outcome!r} has none", where="value")
        if self.value is not None:
            _check_json(self.value)

    def payload(self, *, replaces: str, now: datetime, error: str = "ResolvedByOperator") -> bytes:
        """The result's payload: as the owner would have written it, with ``operator`` beside it.

        ``error`` is the type that an error goes by; no caller has a class of it, so it arrives as ``RemoteError``.
        """
        operator = {"actor": self.actor, "reason": self.reason, "replaces": replaces, "time": now.isoformat()}
        fields: dict[str, Any] = {"outcome": self.outcome, "operator": operator}
        if self.outcome == "error":
            fields |= {"handler": "operator", "error": {"type": error, "message": self.reason}}
        elif self.outcome == "not-executed":
            fields |= {"reason": "resolved", "message": self.reason}
        else:
            fields |= {"handler": "operator"}
        text = json.dumps(fields)
        if self.value is not None:  # spliced in: decoding and writing a number again may change it
            text = f'{text[:-1]}, "value": {self.value}}}'
        return text.encode("utf-8", "backslashreplace")


async def resolve(bus: Bus, subjects: Subjects, callid: str, resolution: Resolution) -> Terminal:
    """Write an operator's terminal over ``unknown``; returns it as it is stored.

    A claim whose owner is silent past deadline and grace gets its ``unknown`` first. Raises ``CallMissingError``,
    ``ResolutionRefusedError`` (see the rules above), ``BusError``; after ``BusAmbiguousError`` look at the call again.
    """
    ledger = await read_call(bus, subjects, callid)
    live = {instance.instance for instance in await Instances(bus).live()}
    check(ledger, resolution, now=bus.now(), live=live)
    if ledger.terminal is None and ledger.claim is not None:
        await log_unknown(bus, ledger.place, ledger.claim, reason="owner-silent", writer=f"operator:{resolution.actor}")
    unknown = await bus.last(ledger.place.everything)
    if unknown is None or not is_unknown(unknown):
        raise _refused(ledger, "its owner's result arrived just now, and stands: nothing was written")
    stored = await _replace(bus, ledger, unknown, resolution)
    report.count("resolved", seam=ledger.seam, reason=resolution.outcome)
    return read_terminal(stored)


def check(ledger: CallLedger, resolution: Resolution, *, now: datetime, live: set[str]) -> None:
    """Raise ``ResolutionRefusedError`` where the rules forbid it; ``live`` are the processes that report. Pure."""
    state, claim = ledger.state(now), ledger.claim
    if state in ("waiting", "expired"):
        raise _refused(ledger, "nobody has started it, so there is nothing to resolve: a worker will run or refuse it")
    if state == "running" and claim is not None:
        until = (claim.expires + GRACE - now).total_seconds()
        raise _refused(
            ledger, f"{_owner(ledger)} has started it and may still log its result: wait {until:.0f} s, then look again"
        )
    if state not in ("unknown", "silent"):
        raise _refused(ledger, _standing(ledger))
    alive = claim is not None and claim.instance in live
    if resolution.owner_is_dead and not alive:
        return
    if alive and not resolution.owner_is_dead:
        raise _refused(
            ledger,
            f"{_owner(ledger)} is alive, it reports to the bus, and may still log what really happened: "
            "stop that process, or say --owner-is-dead if it cannot come back to this call",
        )
    if resolution.outcome == "not-executed" and not resolution.owner_is_dead:
        raise _refused(
            ledger,
            f"'not-executed' lets others run it again, and {_owner(ledger)} may only be paused: "
            "make sure that this process is gone, then say --owner-is-dead",
        )


async def _replace(bus: Bus, ledger: CallLedger, unknown: Stored, resolution: Resolution) -> Stored:
    """Append the operator's terminal on the condition that ``unknown`` is still the last; repeats what is unclear."""
    event = _event(bus, ledger, unknown, resolution)
    for attempt in range(_TRIES):
        try:
            await bus.append(ledger.place.result, event, last=ledger.place.everything, at=unknown.position)
        except BusAmbiguousError:
            if attempt == _TRIES - 1:
                raise
            await asyncio.sleep(0.1 * 2**attempt)
        except WrongPositionError:
            break  # a copy of ours that landed although its answer was lost, or somebody else's
        else:
            break
    stored = await bus.last(ledger.place.everything)
    if stored is None or stored.event.id != event.id:
        raise _refused(ledger, "somebody else's result arrived just now: nothing was written, look at the call again")
    return stored


def _event(bus: Bus, ledger: CallLedger, unknown: Stored, resolution: Resolution) -> Event:
    command: Mapping[str, str] = ledger.command.event.extensions if ledger.command else {}
    return Event(
        type=answer_type(ledger.domain, "value" if resolution.outcome == "value" else "error"),
        source="urn:crossfade:operator",
        subject=ledger.seam,
        extensions={
            **{name: command[name] for name in _CARRIED if name in command},
            "callid": ledger.callid,
            "seam": ledger.seam,
            "causationid": unknown.event.id,
            "path": "operator",
        },
        data=resolution.payload(replaces=unknown.position, now=bus.now()),
    )


def _standing(ledger: CallLedger) -> str:
    ended = ledger.terminal
    if ended is None:
        return "its ledger cannot be read"
    if ended.by == "operator":
        return f"{ended.actor} has resolved it already, as {ended.kind!r}: {ended.why}"
    return f"it ended as {ended.kind!r}, and that is no operator's to change"


def _owner(ledger: CallLedger) -> str:
    claim = ledger.claim
    return f"{claim.role} {claim.instance}" if claim is not None else "its owner, whose claim cannot be read,"


def _refused(ledger: CallLedger, why: str) -> ResolutionRefusedError:
    return ResolutionRefusedError(f"{ledger.seam}, call {ledger.callid}: {why}", callid=ledger.callid)


def _check_json(text: str) -> None:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        json.loads(text, parse_constant=refuse)
        text.encode()
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"is no JSON ({error}): texts need double quotes, like '\"paid\"'", where="value"
        ) from None
