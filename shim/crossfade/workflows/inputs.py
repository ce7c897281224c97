"""What can happen to an instance: an event that starts it or belongs to it, a call's end, a person's word, time."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crossfade.shim.correlate import extensions, from_event
from crossfade.shim.errors import MalformedEventError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.events import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Started:
    """An event that starts an instance; ``event`` is a ``view``, ``correlation`` what its calls carry."""

    event: Mapping[str, Any]
    key: str
    correlation: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrived:
    """An event that belongs to the instance by its key."""

    event: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """A call ended."""

    callid: str
    kind: Literal["value", "error", "not-executed", "unknown"]
    value: Any = None
    error: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True, slots=True)
class Signalled:
    """A person's word. ``id`` is the event's. ``authenticated``: the control plane vouches for ``by``."""

    id: str
    action: Literal["approve", "reject", "send", "cancel"]
    step: str = ""
    by: str = ""
    comment: str = ""
    data: Any = None
    authenticated: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Fired:
    """Time has passed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stopped:
    """The instance cannot go on, for a reason that is none of its steps'."""

    error: Mapping[str, str]


Input = Started | Arrived | Answered | Signalled | Fired | Stopped


def view(event: Event, data: bytes) -> dict[str, Any]:
    """An event as patterns and functions see it. Raises ``MalformedEventError`` (reason ``payload``)."""
    try:
        payload = json.loads(data) if data else None
    except (ValueError, RecursionError) as error:
        raise MalformedEventError(f"the event's data is no JSON: {error}", reason="payload") from None
    return {
        "id": event.id,
        "type": event.type,
        "source": event.source,
        "subject": event.subject,
        "run": event.get("correlationid") or event.id,
        "user": event.get("userid"),
        "tenant": event.get("tenantid"),
        "session": event.get("sessionid"),
        "data": payload,
    }


def carried(event: Event) -> dict[str, str]:
    """The attributes that everything which an event causes carries: run, user, tenant, session, trace, cause."""
    return extensions(from_event(event))
