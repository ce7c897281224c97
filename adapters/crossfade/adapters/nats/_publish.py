"""Publishing: durable with an acknowledgement, or emitted without waiting.

A publish is repeated with the same message id while a leader is elected and after a lost connection, within its
timeout; an answer that never came is ``BusAmbiguousError``, and repeating it is the caller's to decide.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.bindings import Alike, to_nats
from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    BusFullError,
    BusRefusedError,
    BusUnavailableError,
    EventTooLargeError,
)
from crossfade.shim.ports import Ack

from ._client import header_block
from ._connection import header_size
from ._errors import STREAM_MISSING, ApiError, NoRespondersError, refusal
from ._wire import position

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.events import Event
    from crossfade.shim.ports import Emitter

    from ._connection import Connection

_ELECTION: Final = 0.25  # seconds between tries while nobody leads the stream (ADR-22)
_FULL_AT: Final = 0.8  # share of the commands' stream above which no new command is sent
_REFRESH: Final = 2.0  # seconds between looks at the stream while commands are being sent
_RECORD: Final = 40  # bytes the store adds to a message, about
_INVOKE: Final = ".invoke"


class CommandGate:
    """Keeps room for claims and results: new commands stop at 80 % of the commands' stream.

    The stream's size is looked at every two seconds while commands are sent, and between looks our own commands
    are added; other senders' are seen at the next look, which the remaining 20 % is there for.
    """

    def __init__(self, connection: Connection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._limit = 0.0
        self._bytes = 0
        self._active = asyncio.Event()

    async def refresh(self) -> None:
        """Look at the stream."""
        info = await self._connection.api(f"STREAM.INFO.{self._stream}")
        limit = info["config"]["max_bytes"]
        self._limit = limit * _FULL_AT if limit > 0 else 0.0
        self._bytes = info["state"]["bytes"]

    async def run(self) -> None:
        """Refresh for ever; while no command is sent, rest."""
        while True:
            await self._active.wait()
            self._active.clear()
            await asyncio.sleep(_REFRESH)
            try:
                await self.refresh()
            except (ApiError, NoRespondersError, BusAmbiguousError, BusUnavailableError, BusRefusedError):
                self._connection.hooks.count("retried", reason="stream-size")

    def admit(self, size: int) -> None:
        """Count a command of ``size`` bytes; ``BusFullError`` when there is no room for it."""
        self._active.set()
        size += _RECORD
        if self._limit and self._bytes + size > self._limit:
            self._connection.hooks.count("refused", reason="full")
            raise BusFullError(
                f"{self._stream} is {_FULL_AT:.0%} full, the rest is kept for claims and results: the command was not "
                "sent. Start more workers, or raise its limit (nats stream edit --max-bytes)"
            )
        self._bytes += size


class Publishing:
    """Puts events on the bus."""

    def __init__(self, connection: Connection, streams: Mapping[str, str], gate: CommandGate) -> None:
        self._connection = connection
        self._streams = streams
        self._gate = gate

    def stream_of(self, subject: str) -> str:
        """The stream that takes ``subject``; without one an event would go nowhere, so ``BusRefusedError``."""
        first, dot, _ = subject.partition(".")
        stream = self._streams.get(first)
        if stream is None or not dot:
            raise BusRefusedError(f"no stream takes {subject!r}: use a subject of crossfade.shim.subjects")
        return stream

    def encode(self, subject: str, event: Event) -> tuple[dict[str, str], bytes]:
        """Headers and payload for the stream; ``EventTooLargeError`` by their total, ``BusFullError`` for a command."""
        headers = to_nats(event)
        headers["Nats-Msg-Id"] = event.id
        headers["Nats-Expected-Stream"] = self.stream_of(subject)
        data = event.data or b""
        size, limit = len(data) + header_size(headers), self._connection.max_message
        if size > limit:
            raise EventTooLargeError(size=size, limit=limit)
        if subject.endswith(_INVOKE):
            self._gate.admit(len(subject) + size)
        return headers, data

    async def publish(self, subject: str, event: Event, *, timeout: float) -> Ack:
        """See ``Publisher.publish``."""
        headers, data = self.encode(subject, event)
        answer = await self.store(subject, data, headers, timeout=timeout)
        return Ack(position=position(answer["seq"]), duplicate=answer.get("duplicate", False))

    async def store(self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout: float) -> dict[str, Any]:
        """Publish what may be repeated (it has a message id) until the broker's answer is clean or time is up."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        doubt: BusAmbiguousError | None = None
        while True:
            try:
                return await self._once(subject, data, headers, timeout=deadline - loop.time())
            except BusAmbiguousError as error:
                # A lost connection leaves time to ask again; a timeout does not.
                doubt = error
                if not await self._connection.wait_connected(max(0.0, deadline - loop.time())):
                    raise
            except (NoRespondersError, ApiError) as error:
                if deadline - loop.time() <= _ELECTION:
                    raise doubt or await self._explain(error, subject) from error
                await asyncio.sleep(_ELECTION)
            except BusError as error:
                # Once a try is in doubt, only a clean answer ends the doubt.
                raise doubt or error from error
            if doubt is not None and deadline <= loop.time():
                raise doubt

    async def _once(self, subject: str, data: bytes, headers: Mapping[str, str], *, timeout: float) -> dict[str, Any]:
        message = await self._connection.request(subject, data, headers, timeout=timeout)
        answer: dict[str, Any] = json.loads(message.data)
        if "error" in answer:
            error = ApiError(answer["error"])
            if not error.passing:
                raise refusal(error, subject)
            raise error
        return answer

    async def _explain(self, error: NoRespondersError | ApiError, subject: str) -> Exception:
        """Why nobody takes ``subject``: its stream is gone, or nobody leads it now."""
        if isinstance(error, ApiError):
            return refusal(error, subject)
        stream = self.stream_of(subject)
        try:
            await self._connection.api(f"STREAM.INFO.{stream}")
        except ApiError as reason:
            if reason.code == STREAM_MISSING:
                return refusal(reason, subject)
        except (NoRespondersError, BusAmbiguousError, BusUnavailableError) as silence:
            return BusUnavailableError(f"{subject}: JetStream does not answer ({silence!r}); nothing was stored")
        return BusUnavailableError(f"{subject}: nobody leads {stream} now; nothing was stored, try again")

    def emit(self, subject: str, event: Event) -> None:
        """See ``Publisher.emit``."""
        headers, data = self.encode(subject, event)
        self._connection.send(subject, data, headers, now=False)

    def emitter(self, alike: Event) -> Emitter:
        """See ``Publisher.emitter``."""
        headers = Alike(alike)

        def emit(subject: str, event_id: str, extensions: Mapping[str, str], data: bytes) -> None:
            lines = headers.lines(event_id, extensions)
            ours = f"Nats-Msg-Id: {event_id}\r\nNats-Expected-Stream: {self.stream_of(subject)}\r\n"
            block = header_block(lines + ours)
            size, limit = len(data) + len(block), self._connection.max_message
            if size > limit:
                raise EventTooLargeError(size=size, limit=limit)
            if subject.endswith(_INVOKE):
                self._gate.admit(len(subject) + size)
            self._connection.send(subject, data, block, now=False)

        return emit
