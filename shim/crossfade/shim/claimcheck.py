"""Claim checks: data too large for an event lies in the object store, and the event says where (``dataref``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .errors import MalformedEventError
from .ports import ObjectRef

if TYPE_CHECKING:
    from .events import Event
    from .ports import Objects

CLAIM_CHECK: Final = 256 * 1024  # bytes of payload above which it goes to the object store


def format_dataref(ref: ObjectRef) -> str:
    """A claim check as it travels: the object's URI with its sha256 and size in the fragment."""
    return f"{ref.uri}#sha256={ref.sha256}&size={ref.size}"


def parse_dataref(text: str) -> ObjectRef:
    """The inverse of ``format_dataref``. Raises ``MalformedEventError`` (reason ``dataref``)."""
    uri, _, fragment = text.partition("#")
    fields = {name: value for name, _, value in (part.partition("=") for part in fragment.split("&"))}
    try:
        return ObjectRef(uri=uri, sha256=fields["sha256"], size=int(fields["size"]))
    except (KeyError, ValueError):
        raise MalformedEventError(f"{text[:200]!r} is no claim check", reason="dataref") from None


async def load_data(bus: Objects, event: Event) -> bytes:
    """An event's data, from the object store when it carries a claim check."""
    dataref = event.get("dataref")
    if event.data is None and dataref:
        return await bus.get_object(parse_dataref(dataref))
    return event.data or b""
