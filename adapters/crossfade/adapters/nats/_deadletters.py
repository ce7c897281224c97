"""Dead letters: events that could not be processed, kept as they arrived, with the story of their end.

A dead letter is the original message with its headers, plus ``crossfade-dead``: percent-encoded JSON of group, reason,
detail, attempts, subject, position, stream and time. Headers the broker acts upon (``Nats-...``: a rollup, a TTL, a
schedule) would act again, so they travel inside that record and are put back when read.

Two paths lead here: a worker that gives up, and ``reap`` for events whose workers died. The broker notes the latter
(MAX_DELIVERIES advisories, kept by a stream) only when somebody pulls. Measured on 2.15.1: a pull that accepts one byte
makes it look, hands nothing out, and costs no attempt.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote

from crossfade.shim.bindings import from_nats
from crossfade.shim.errors import BusError, EventTooLargeError, MalformedEventError
from crossfade.shim.events import derived_id
from crossfade.shim.ports import DeadLetter, Position

from ._connection import MARGIN, header_size
from ._consume import EXHAUSTED, OURS
from ._errors import NO_MESSAGE, STREAM_MISSING, ApiError, NoRespondersError
from ._wire import Raw, position, raw

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from crossfade.shim.subjects import Subjects

    from ._connection import Connection, Message
    from ._publish import Publishing
    from ._read import Reading
    from ._wire import Metadata

HEADER: Final = "crossfade-dead"
_DETAIL: Final = 16 * 1024  # characters of detail kept, when there is room for them
_SHORT: Final = 1024  # characters kept beside an event of nearly the largest size
_TIMEOUT: Final = 5.0
_PROBE: Final = 0.25  # seconds a reaping pull waits
_SECOND: Final = 1_000_000_000
_MAX_DELIVERIES: Final = "io.nats.jetstream.advisory.v1.max_deliver"


class Graves:
    """Makes dead letters durable."""

    def __init__(self, connection: Connection, publishing: Publishing, subjects: Subjects) -> None:
        self._connection = connection
        self._publishing = publishing
        self._subjects = subjects

    async def bury(
        self,
        *,
        group: str,
        reason: str,
        detail: str,
        attempts: int,
        subject: str,
        headers: Mapping[str, str],
        data: bytes,
        origin: Position,
        stream: str,
    ) -> bool:
        """Store one; returns whether it is new. The same event of the same group is stored once."""
        record = {
            "group": group,
            "reason": reason,
            "detail": detail[:_DETAIL],
            "attempts": attempts,
            "subject": subject,
            "position": origin,
            "stream": stream,
            "time": datetime.now(UTC).isoformat(),
        }
        body, out = self._fitted(record, headers, data)
        out["Nats-Msg-Id"] = derived_id("dead", stream, group, origin)
        address = self._subjects.dead_letter(group, tenant=_tenant(headers))
        out["Nats-Expected-Stream"] = self._publishing.stream_of(address)
        answer = await self._publishing.store(address, body, out, timeout=_TIMEOUT)
        new = not answer.get("duplicate", False)
        if new:
            self._connection.hooks.count("dead-lettered", reason=reason)
        return new

    def _fitted(self, record: dict[str, Any], headers: Mapping[str, str], data: bytes) -> tuple[bytes, dict[str, str]]:
        """Payload and headers; a payload that no longer fits stays where it is and only its size is told."""
        out = _headers(record, headers)
        # The margin events are sent with is for this record.
        limit = self._connection.max_message + MARGIN - 512
        if len(data) + header_size(out) > limit:
            record = {**record, "detail": record["detail"][:_SHORT]}
            out = _headers(record, headers)
        if len(data) + header_size(out) > limit:
            self._connection.hooks.count("dropped", reason="dead-letter-payload")
            data, out = b"", _headers({**record, "omitted": len(data)}, headers)
        if header_size(out) > limit:
            raise EventTooLargeError(size=header_size(out), limit=limit)
        return data, out


def _headers(record: Mapping[str, Any], headers: Mapping[str, str]) -> dict[str, str]:
    brokers = {name: value for name, value in headers.items() if name.lower().startswith("nats-")}
    out = {name: value for name, value in headers.items() if name not in brokers and name != HEADER}
    text = json.dumps({**record, "headers": brokers}, separators=(",", ":"))
    out[HEADER] = quote(text, safe="{}[]:,'/ ")
    return out


def _tenant(headers: Mapping[str, str]) -> str | None:
    return next((unquote(value) for name, value in headers.items() if name.lower() == "ce-tenantid"), None)


class DeadLettering:
    """Lists dead letters and makes those that nobody made."""

    def __init__(
        self,
        connection: Connection,
        graves: Graves,
        reading: Reading,
        *,
        stream: str,
        advisories: str,
        consumed: tuple[str, ...],
    ) -> None:
        self._connection = connection
        self._graves = graves
        self._reading = reading
        self._stream = stream
        self._advisories = advisories
        self._consumed = consumed

    async def dead_letters(self) -> AsyncIterator[DeadLetter]:
        """See ``DeadLetters.dead_letters``."""
        async for message, meta in self._reading.messages(self._stream, [">"]):
            yield _read(message, meta)

    async def reap(self) -> int:
        """See ``DeadLetters.reap``."""
        for stream in self._consumed:
            await self._provoke(stream)
        reaped = 0
        async for message, meta in self._reading.messages(self._advisories, [">"]):
            reaped += await self._reap_one(json.loads(message.data))
            await self._forget(meta.stream_seq)
        return reaped

    async def _provoke(self, stream: str) -> None:
        """Make the broker look at consumers of ``stream`` that nobody pulls from."""
        for info in await self._consumers(stream):
            if info["config"].get("ack_policy") == "explicit" and info["num_ack_pending"] and not info["num_waiting"]:
                await self._probe(stream, info["name"])

    async def _consumers(self, stream: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while True:
            page = await self._connection.api(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
            found += page["consumers"] or []
            if len(found) >= page["total"] or not page["consumers"]:
                return found

    async def _probe(self, stream: str, consumer: str) -> None:
        request = {"batch": 1, "max_bytes": 1, "expires": int(_PROBE * _SECOND)}
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        try:
            await self._connection.request(subject, json.dumps(request).encode(), timeout=_PROBE * 8)
        except (BusError, NoRespondersError) as error:
            self._connection.hooks.count("retried", reason=f"reap-{type(error).__name__}")

    async def _reap_one(self, advisory: Mapping[str, Any]) -> bool:
        reason = EXHAUSTED if advisory["type"] == _MAX_DELIVERIES else "terminated"
        detail = str(advisory.get("reason", ""))
        if detail.startswith(OURS):
            return False  # the worker that terminated it had made its dead letter
        stream, sequence = advisory["stream"], int(advisory["stream_seq"])
        found = await self._original(stream, sequence)
        if found is None:
            detail = f"{detail} the event had already left {stream}".strip()
        return await self._graves.bury(
            group=advisory["consumer"],
            reason=reason,
            detail=detail,
            attempts=int(advisory.get("deliveries", 0)),
            subject=found.subject if found else "",
            headers=(found.headers or {}) if found else {},
            data=found.data if found else b"",
            origin=position(sequence),
            stream=stream,
        )

    async def _original(self, stream: str, sequence: int) -> Raw | None:
        try:
            answer = await self._connection.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
        except ApiError as error:
            if error.code in (NO_MESSAGE, STREAM_MISSING):
                return None
            raise
        return raw(answer["message"])

    async def _forget(self, sequence: int) -> None:
        try:
            await self._connection.api(f"STREAM.MSG.DELETE.{self._advisories}", {"seq": sequence, "no_erase": True})
        except ApiError as error:
            if error.code not in (NO_MESSAGE, 10043, 10057):  # another reaper was quicker
                raise


def _read(message: Message, meta: Metadata) -> DeadLetter:
    headers = dict(message.headers or {})
    record: dict[str, Any] = json.loads(unquote(headers.pop(HEADER, "{}")))
    for name in ("Nats-Msg-Id", "Nats-Expected-Stream"):
        headers.pop(name, None)
    headers.update(record.get("headers", {}))
    try:
        event = from_nats(headers, message.data)
    except MalformedEventError:
        event = None  # that may be why it is here; the record names the reason
    return DeadLetter(
        position=position(meta.stream_seq),
        time=meta.time,
        subject=record.get("subject", message.subject),
        group=record.get("group", ""),
        reason=record.get("reason", "unknown"),
        detail=record.get("detail", ""),
        attempts=int(record.get("attempts", 0)),
        origin=Position(record.get("position", "")),
        event=event,
        headers=headers,
        data=message.data,
    )
