"""What of an event a browser gets to see: types and fields by name, everything else stays behind.

The bus already holds a projection (``crossfade.shim.projection``); this list is what keeps it one when a worker of
another version, or in another language, publishes more than it should. Texts are redacted again: a generator's items
are results, and nobody looked at them yet.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import MalformedEventError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossfade.shim.events import Event

_PROGRESS: Final = ("fraction", "message", "data", "chunk", "value")

FIELDS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "tool.progress": _PROGRESS,
        "agent.task.progress": _PROGRESS,
        "call.started": ("attempt",),
        "call.ended": ("outcome", "reason"),
    }
)
"""Payload fields by event type; a type that is not here is shown to nobody."""

ATTRIBUTES: Final = ("correlationid", "callid", "seam")

_SOURCE: Final = "urn:crossfade"  # which process said it is nobody's business outside


def visible(event: Event, redact: Callable[[Any], Any]) -> bytes | None:
    """The event as a CloudEvent in JSON, without what is not on the lists; ``None`` for a type that is not.

    Raises ``MalformedEventError`` (reason ``payload``) when its data is no JSON object.
    """
    fields = FIELDS.get(event.type)
    if fields is None:
        return None
    data = _object(event)
    shown = {
        "specversion": "1.0",
        "id": event.id,
        "source": _SOURCE,
        "type": event.type,
        "time": event.time.isoformat(),
        **{name: value for name in ATTRIBUTES if (value := event.get(name))},
        "data": redact({name: data[name] for name in fields if name in data}),
    }
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def _object(event: Event) -> Mapping[str, Any]:
    try:
        data: Any = json.loads(event.data or b"{}")
    except (ValueError, RecursionError) as error:
        raise MalformedEventError(f"{event.type}: no JSON", reason="payload") from error
    if not isinstance(data, dict):
        raise MalformedEventError(f"{event.type}: no JSON object", reason="payload")
    return cast("Mapping[str, Any]", data)
