"""What a recorded call and today's code make of the same arguments, compared: for shadows and for replays."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from .comparison import Outcome, Verdict, compare, http_outcome
from .errors import CrossfadeError, MalformedEventError
from .outcomes import ErrorRecord, record_error
from .redaction import between_marks, blank_marks, is_redacted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .bodies import Ran
    from .comparison import Comparator, Rules
    from .events import Event
    from .redaction import Redactor
    from .services import Service

_SAME_KEY: Final = "its secrets are marked with two keys: set one CROSSFADE_REDACT_KEY for callers and workers"


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What an observation says: the arguments to run again and how legacy ended."""

    arguments: bytes
    outcome: Outcome
    policy_revision: int
    redaction: str = ""


def read_observation(event: Event) -> Recorded:
    """Read a full observation. Raises ``MalformedEventError`` (reason ``payload``) for anything less."""
    try:
        payload = json.loads(event.data or b"")
        arguments = json.dumps({"arguments": payload["arguments"]}).encode()
        duration = float(payload["duration_ms"]) / 1000
        if payload["outcome"] == "error":
            error = ErrorRecord.from_json(payload["error"])
            outcome = Outcome(kind="error", error=error, duration=duration)
        else:
            outcome = Outcome(kind="value", value=payload["value"], duration=duration)
    except (ValueError, KeyError, TypeError) as failure:
        raise MalformedEventError(f"this is no full observation: {failure!r}", reason="payload") from failure
    revision = event.get("policyrev") or "0"
    return Recorded(
        arguments=arguments,
        outcome=outcome,
        policy_revision=int(revision) if revision.isdigit() else 0,
        redaction=str(payload.get("redaction", "")),
    )


def outcome_of(service: Service, ran: Ran, redactor: Redactor) -> Outcome:
    """How the function ended, as an observation would tell it: redacted, and an error where it has no JSON form."""
    if ran.error is not None:
        record = record_error(ran.error, redact=redactor.text)
        return Outcome(kind="error", error=record, duration=ran.seconds)
    try:
        encoded = service.codec.encode_result(ran.value)
    except CrossfadeError as error:
        return Outcome(kind="error", error=record_error(error), duration=ran.seconds)
    value = redactor.value(json.loads(encoded))["value"]
    return Outcome(kind="value", value=value, duration=ran.seconds)


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
    if service.domain == "http":
        old, new = http_outcome(old, rules), http_outcome(new, rules)
    if recorded.redaction == redactor.fingerprint:
        return compare(old, new, rules, comparator=comparator)
    return _compare_without_marks(old, new, rules, comparator)


def _compare_without_marks(old: Outcome, new: Outcome, rules: Rules, comparator: Comparator | None) -> Verdict:
    """Two keys mark the same secret differently, so where only marks could differ nobody can tell whether they do."""
    blank_old, blank_new = _blank(old), _blank(new)
    verdict = compare(blank_old, blank_new, rules, comparator=comparator)
    if verdict.kind != "mismatch" and (blank_old != old or blank_new != new):
        return Verdict(kind="inconclusive", reason="redaction-key", detail=_SAME_KEY)
    return verdict


def _blank(outcome: Outcome) -> Outcome:
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
