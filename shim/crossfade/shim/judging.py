"""What a recorded call and today's code make of the same arguments, compared: for shadows and for replays."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from .comparison import Outcome, Verdict, compare, compare_streams, http_outcome
from .errors import CrossfadeError, MalformedEventError
from .http import HttpResponse
from .outcomes import GIVEN_UP, ErrorRecord, is_given_up, record_error
from .redaction import MARK, between_marks, blank_marks, is_redacted
from .yielded import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .bodies import Ran
    from .comparison import Comparator, Rules
    from .events import Event
    from .redaction import Redactor
    from .services import Service

NO_ITEMS: Final = "no-items"
"""Why a stream is not compared that was recorded without its items: by an older version, or over the bus."""

TOO_MUCH: Final = "redaction-limit"
"""Why a value is not compared that holds what may be a secret and is too large to be redacted."""

_SAME_KEY: Final = "its secrets are marked with two keys: set one CROSSFADE_REDACT_KEY for callers and workers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What an observation says: the arguments to run again and how legacy ended."""

    arguments: bytes
    outcome: Outcome
    policy_revision: int
    redaction: str = ""


def read_observation(event: Event) -> Recorded:
    """Read a full observation. Raises ``MalformedEventError`` (reason ``payload``) for anything less.

    The outcome of a stream whose items were not kept is ``unknown``, and its reason says why.
    """
    try:
        payload = json.loads(event.data or b"")
        arguments = json.dumps({"arguments": payload["arguments"]}).encode()
        outcome = _outcome_in(payload)
    except (ValueError, KeyError, TypeError) as failure:
        raise MalformedEventError(f"this is no full observation: {failure!r}", reason="payload") from failure
    revision = event.get("policyrev") or "0"
    return Recorded(
        arguments=arguments,
        outcome=outcome,
        policy_revision=int(revision) if revision.isdigit() else 0,
        redaction=str(payload.get("redaction", "")),
    )


def _outcome_in(payload: dict[str, Any]) -> Outcome:
    duration = float(payload["duration_ms"]) / 1000
    stream = payload.get("stream")
    if stream is not None and not isinstance(stream.get("items"), list):
        return Outcome(kind="unknown", reason=str(stream.get("cut") or LIMIT), duration=duration)
    items = None if stream is None else tuple(stream["items"])
    if payload["outcome"] == "error" and is_given_up(payload["error"]):
        return Outcome(kind="unknown", reason=GIVEN_UP, duration=duration)
    if payload["outcome"] == "error":
        error = ErrorRecord.from_json(payload["error"])
        return Outcome(kind="error", error=error, duration=duration, items=items)
    if stream is not None:
        return Outcome(kind="value", duration=duration, items=items, closed=stream.get("end") == "closed")
    if "value" not in payload and MARK in payload:
        return Outcome(kind="unknown", reason=TOO_MUCH, duration=duration)
    return Outcome(kind="value", value=payload["value"], duration=duration)


def unfit(recorded: Outcome, service: Service) -> str:
    """Why nothing can be compared with it; empty when it can."""
    if recorded.kind == "unknown":
        return recorded.reason
    return NO_ITEMS if recorded.items is None and is_stream(service) else ""


def taken(recorded: Outcome) -> int | None:
    """After how many items its caller closed a stream, and so is it closed when it runs again; ``None``: it did not."""
    return len(recorded.items or ()) if recorded.closed else None


def is_stream(service: Service) -> bool:
    """Whether it yields items."""
    return service.kind in ("generator", "async generator")


def outcome_of(service: Service, ran: Ran, redactor: Redactor) -> Outcome:
    """How the function ended, as an observation would tell it: redacted, and an error where it has no JSON form.

    Of a stream that yielded more than is kept: ``unknown`` (``stream-limit``), as is a value that is too large to be
    redacted (``redaction-limit``).
    """
    items = _yielded(service, ran, redactor)
    if ran.cut or isinstance(items, str):
        return Outcome(kind="unknown", reason=LIMIT, duration=ran.seconds)
    if ran.error is not None:
        record = record_error(ran.error, redact=redactor.text)
        return Outcome(kind="error", error=record, duration=ran.seconds, items=items)
    if items is not None:
        return Outcome(kind="value", duration=ran.seconds, items=items)
    try:
        encoded = service.codec.encode_result(_whole(ran))
    except CrossfadeError as error:
        return Outcome(kind="error", error=record_error(error), duration=ran.seconds)
    value = json.loads(encoded)
    shown: dict[str, Any] = value if redactor.passes(encoded) else redactor.value(value)  # as it was recorded
    if "value" not in shown:
        return Outcome(kind="unknown", reason=TOO_MUCH, duration=ran.seconds)
    return Outcome(kind="value", value=shown["value"], duration=ran.seconds)


def _yielded(service: Service, ran: Ran, redactor: Redactor) -> tuple[Any, ...] | str | None:
    """The items of a generator, redacted as one list, as they were recorded; a text where that was too much."""
    if not is_stream(service):
        return None
    items = {"value": [json.loads(part)["value"] for part in ran.yielded]}
    found: dict[str, Any] = items if redactor.passes(b",".join(ran.yielded)) else redactor.value(items)
    return tuple(found["value"]) if isinstance(found.get("value"), list) else LIMIT


def _whole(ran: Ran) -> Any:
    """What was returned; an answer that came in pieces as if it had not."""
    if ran.items is None or not isinstance(ran.value, HttpResponse):
        return ran.value
    return HttpResponse.of(ran.value.status, ran.value.headers, b"".join(ran.yielded))


def judge(
    recorded: Recorded,
    new: Outcome,
    rules: Rules,
    *,
    service: Service,
    comparator: Comparator | None,
    redactor: Redactor,
) -> Verdict:
    """Compare what was recorded with ``new``. It may take a comparison's whole budget of half a second."""
    old = recorded.outcome
    if new.kind == "unknown":
        return Verdict(kind="inconclusive", reason=new.reason)
    if service.domain == "http":
        old, new = http_outcome(old, rules), http_outcome(new, rules)
    if recorded.redaction == redactor.fingerprint:
        return _compare(old, new, rules, comparator)
    return _compare_without_marks(old, new, rules, comparator)


def _compare(old: Outcome, new: Outcome, rules: Rules, comparator: Comparator | None) -> Verdict:
    if old.items is None:
        return compare(old, new, rules, comparator=comparator)
    return compare_streams(old, new, rules, comparator=comparator)


def _compare_without_marks(old: Outcome, new: Outcome, rules: Rules, comparator: Comparator | None) -> Verdict:
    """Two keys mark the same secret differently, so where only marks could differ nobody can tell whether they do."""
    blank_old, blank_new = _blank(old), _blank(new)
    verdict = _compare(blank_old, blank_new, rules, comparator)
    if verdict.kind != "mismatch" and (blank_old != old or blank_new != new):
        return Verdict(kind="inconclusive", reason="redaction-key", detail=_SAME_KEY)
    return verdict


def _blank(outcome: Outcome) -> Outcome:
    if outcome.items is not None:
        outcome = replace(outcome, items=tuple(map(blank_marks, outcome.items)))
    if outcome.error is None:
        return replace(outcome, value=blank_marks(outcome.value))
    message, args = blank_marks(outcome.error.message), tuple(map(blank_marks, outcome.error.args))
    return replace(outcome, error=replace(outcome.error, message=message, args=args))


def has_redacted(value: Any) -> bool:
    """Whether something in a JSON-like value was replaced by a mark."""
    if is_redacted(value):
        return True
    if isinstance(value, dict):
        return any(map(has_redacted, cast("dict[str, Any]", value).values()))
    if isinstance(value, str):
        return len(between_marks(value)) > 1
    return isinstance(value, list) and any(map(has_redacted, cast("Iterable[Any]", value)))
