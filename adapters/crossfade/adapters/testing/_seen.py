"""What a test sees of the bus: events with their payloads, and calls put together from them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from crossfade.shim.errors import UnserialisableError
from crossfade.shim.outcomes import read_answer, rebuild_error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossfade.shim.events import Event
    from crossfade.shim.outcomes import OutcomeKind
    from crossfade.shim.payloads import SignatureCodec
    from crossfade.shim.seam import Seam


@dataclass(frozen=True, kw_only=True, slots=True, repr=False)
class SeenEvent:
    """One event as it lies on the bus: ``payload`` is its decoded JSON, ``event`` the envelope."""

    event: Event
    payload: Any

    @property
    def type(self) -> str:
        """The event's type, like ``tool.invoke``."""
        return self.event.type

    @property
    def seam(self) -> str | None:
        """The seam it is about."""
        return self.event.get("seam")

    @property
    def callid(self) -> str | None:
        """The call it belongs to."""
        return self.event.get("callid")

    def __repr__(self) -> str:
        return f"<{self.type} {self.seam or '-'} {self.payload}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenCall:
    """One call that was sent over the bus, by callid.

    Attributes:
        arguments: Parameter name to value as the handler gets it; defaults that were not given and secrets are absent.
        outcome: How it ended; ``None`` while it has not.
        value: What the handler returned; of a generator the list of its items.
        error: What the call site raises when ``outcome`` is ``error``.
        reason: Why it was not executed, or why nobody knows.
        path: Who ran it: ``bus``, or ``legacy`` when the caller took it back.
        command: The event that carried it: run, user and tenant are its attributes.
    """

    seam: str
    callid: str
    arguments: Mapping[str, Any]
    outcome: OutcomeKind | None
    value: Any
    error: Exception | None
    reason: str
    path: str | None
    command: SeenEvent


def see_call(seam: Seam, command: SeenEvent, answer: SeenEvent | None, chunks: Sequence[SeenEvent]) -> SeenCall:
    """Put a call together from its command, its last answer and the items of its stream."""
    found = read_answer(_data(answer)) if answer else None
    value = None
    if found and found.kind == "value":
        value = _items(seam.codec, chunks) if "generator" in seam.call_kind else seam.codec.decode_result(found.value)
    return SeenCall(
        seam=seam.name,
        callid=command.callid or "",
        arguments=_arguments(seam.codec, command),
        outcome=found.kind if found else None,
        value=value,
        error=rebuild_error(found.error) if found and found.error else None,
        reason=found.reason if found else "",
        path=answer.event.get("path") if answer else None,
        command=command,
    )


def _arguments(codec: SignatureCodec, command: SeenEvent) -> Mapping[str, Any]:
    try:
        return codec.decode_command(_data(command))[0]
    except UnserialisableError:  # a command that no handler could read is shown as it came
        return cast("dict[str, Any]", command.payload)


def _items(codec: SignatureCodec, chunks: Sequence[SeenEvent]) -> list[Any]:
    numbered = {chunk.payload["chunk"]: chunk for chunk in chunks if "chunk" in chunk.payload}
    return [codec.decode_result(_data(numbered[number])) for number in sorted(numbered)]


def _data(seen: SeenEvent) -> bytes:
    return json.dumps(seen.payload).encode()
