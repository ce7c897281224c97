"""What every call carries: about 0.8 KB as JSON, as in the design's notes."""

from __future__ import annotations

from typing import Any, Final

from pydantic_core import to_json

from crossfade.shim.bindings import to_nats
from crossfade.shim.events import Event

QUESTION: Final[dict[str, Any]] = {
    "text": "How do I copy a list?" * 8,
    "tags": [f"tag-{n}" for n in range(30)],
    "weights": {f"w{n}": n / 7 for n in range(12)},
}
PAYLOAD: Final = to_json({"arguments": {"question": QUESTION}})
"""The command's body."""

_NAMES: Final = ("correlationid", "seam", "callid", "path", "policyrev", "expirytime", "partitionkey", "replyto")


def event() -> Event:
    """A command with as many attributes as a real one has."""
    return Event(
        type="tool.invoke",
        source="urn:crossfade:bench",
        extensions=dict.fromkeys(_NAMES, "x" * 32),
        data=PAYLOAD,
    )


HEADERS: Final = to_nats(event())
"""The same as headers of NATS."""
