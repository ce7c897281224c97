"""State buckets on JetStream's key-value layout, so that ``nats kv`` reads them; every read is a leader's.

A bucket is the stream ``KV_{prefix}_{bucket}``, a key the subject ``$KV.{prefix}_{bucket}.{key}``. A direct get (what
nats-py's bucket does) was measured to miss a value just acknowledged on three replicas, 7 of 500.
Sources: ADR-8 (key-value), ADR-43 (TTL per message).
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import BusAmbiguousError, BusError, ConfigurationError, WrongRevisionError
from crossfade.shim.ports import Change, Entry

from ._errors import WRONG_LAST, WRONG_LAST_UNCLEAR, ApiError, NoRespondersError, client_failure, refusal
from ._read import last_message
from ._streams import dangers, ensure, state_stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ._connection import Connection
    from ._wire import Raw

_KEY: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")
_TIMEOUT: Final = 5.0
_ELECTION: Final = 0.25
_LOOK: Final = 2.0  # seconds between a watch's own looks at the bucket
# Seconds between looks after a hint, which may come before its value is stored; then every two seconds.
_PAUSES: Final = (0.01, 0.05, 0.2, 0.8, _LOOK)
_PAGE: Final = 32  # leader reads under way at once
_OPERATION: Final = "KV-Operation"
_MARKER: Final = "Nats-Marker-Reason"
_MARKED: Final = "3600s"
_Shape = tuple[int, int]
_EXPECTED: Final = "Nats-Expected-Last-Subject-Sequence"


class NatsState:
    """See ``State``."""

    def __init__(self, connection: Connection, bucket: str, replicas: int) -> None:
        self._connection = connection
        self._definition = state_stream(bucket, replicas)
        self._stream = self._definition.name
        self._prefix = f"$KV.{bucket}."
        self._there = False

    # -- reading -----------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        """See ``State.get``."""
        await self._ensure()
        found = await last_message(self._connection, self._stream, self._subject(key))
        return None if found is None or _is_marker(found.headers) else _entry(key, found)

    async def entries(self) -> list[Entry]:
        """See ``State.entries``."""
        return list((await self._look())[1].values())

    async def _look(self) -> tuple[int, dict[str, Entry]]:
        """The stream's last sequence, and every key's value at least as new as that."""
        await self._ensure()
        last, subjects = await self._subjects()
        found: dict[str, Entry] = {}
        for start in range(0, len(subjects), _PAGE):
            page = subjects[start : start + _PAGE]
            values = await asyncio.gather(*(self.get(subject.removeprefix(self._prefix)) for subject in page))
            found.update((entry.key, entry) for entry in values if entry is not None)
        return last, found

    async def _subjects(self) -> tuple[int, list[str]]:
        """The last sequence, and the subjects that hold a value or a marker."""
        subjects: list[str] = []
        while True:
            body = {"subjects_filter": f"{self._prefix}>", "offset": len(subjects)}
            info = await self._ask(f"STREAM.INFO.{self._stream}", body)
            page: dict[str, int] = info["state"].get("subjects") or {}
            subjects += page
            if not page or len(subjects) >= info.get("total", 0):
                return info["state"]["last_seq"], subjects

    # -- writing -----------------------------------------------------------------------------------------------

    async def create(self, key: str, value: bytes, *, ttl: float | None = None) -> int:
        """See ``State.create``; a deleted or expired key counts as absent."""
        headers = {} if ttl is None else {"Nats-TTL": f"{_ttl(ttl)}s"}
        expected = 0
        while True:
            try:
                return await self._write(key, value, {**headers, _EXPECTED: str(expected)})
            except WrongRevisionError as error:
                found = await last_message(self._connection, self._stream, self._subject(key))
                if found is None:
                    if expected == 0:
                        raise WrongRevisionError(key, actual=None) from error
                    expected = 0
                elif not _is_marker(found.headers):
                    raise WrongRevisionError(key, actual=found.sequence) from error
                else:
                    expected = found.sequence

    async def update(self, key: str, value: bytes, *, revision: int) -> int:
        """See ``State.update``."""
        try:
            return await self._write(key, value, {_EXPECTED: str(revision)})
        except WrongRevisionError as error:
            found = await self.get(key)
            raise WrongRevisionError(key, actual=found.revision if found else None) from error

    async def put(self, key: str, value: bytes) -> int:
        """See ``State.put``."""
        return await self._write(key, value, {})

    async def delete(self, key: str) -> None:
        """See ``State.delete``: leaves a marker, as ``nats kv del`` does, which goes after an hour.

        Nobody needs it for longer, and a bucket whose keys come and go would be looked through in vain.
        """
        await self._write(key, b"", {_OPERATION: "DEL", "Nats-TTL": _MARKED})

    async def _write(self, key: str, value: bytes, headers: Mapping[str, str]) -> int:
        """Publish one value; ``WrongRevisionError`` (without the actual revision) when its condition fails."""
        await self._ensure()
        subject = self._subject(key)
        deadline = asyncio.get_running_loop().time() + _TIMEOUT
        while True:
            try:
                return await self._write_once(subject, value, headers)
            except (ApiError, NoRespondersError) as error:
                if isinstance(error, ApiError) and error.code == WRONG_LAST:
                    raise WrongRevisionError(key, actual=None) from error
                if isinstance(error, ApiError) and error.code == WRONG_LAST_UNCLEAR:
                    raise BusAmbiguousError(f"{key}: another write of it is under way; read it again") from error
                if isinstance(error, ApiError) and not error.passing:
                    raise refusal(error, key) from error
                if asyncio.get_running_loop().time() > deadline:
                    raise client_failure(error, key) from error
                await asyncio.sleep(_ELECTION)

    async def _write_once(self, subject: str, value: bytes, headers: Mapping[str, str]) -> int:
        marked = {**headers, "Nats-Expected-Stream": self._stream}
        answer: dict[str, Any] = json.loads((await self._connection.request(subject, value, marked)).data)
        if "error" in answer:
            raise ApiError(answer["error"])
        return int(answer["seq"])

    # -- watching ----------------------------------------------------------------------------------------------

    async def watch(self) -> AsyncIterator[Change]:
        """See ``State.watch``.

        A core subscription says that something changed, a look at the leader says what; a look every two
        seconds finds what the subscription missed while the connection was down, and keys that expired.
        """
        woken = asyncio.Event()
        await self._ensure()
        hint = await self._connection.subscribe(f"{self._prefix}>", lambda _: woken.set())
        self._connection.listeners.add(woken.set)
        try:
            known: dict[str, int] = {}
            seen: _Shape | None = None
            pauses = list(_PAUSES)
            while True:
                woken.clear()
                seen, changes = await self._changes(known, seen)
                for change in changes:
                    yield change
                pauses = list(_PAUSES) if await _wait(woken, pauses[0]) else pauses[1:] or [_LOOK]
        finally:
            self._connection.listeners.discard(woken.set)
            await self._connection.unsubscribe(hint)

    async def _changes(self, known: dict[str, int], seen: _Shape | None) -> tuple[_Shape | None, list[Change]]:
        """What differs from ``known`` (key -> revision), which is brought up to date; nothing while disconnected."""
        self._connection.check_open()
        try:
            shape = await self._shape()
            if shape == seen:
                return seen, []
            last, now = await self._look()
        except BusError as error:
            self._connection.check_open()
            self._connection.hooks.count("retried", reason=f"watch-{type(error).__name__}")
            return seen, []
        changes = [Change(key=key, value=None, revision=last) for key in known if key not in now]
        changes += [
            Change(key=entry.key, value=entry.value, revision=entry.revision)
            for entry in now.values()
            if known.get(entry.key) != entry.revision
        ]
        known.clear()
        known.update((key, entry.revision) for key, entry in now.items())
        return shape, sorted(changes, key=lambda change: change.revision)

    async def _shape(self) -> _Shape:
        """What changes whenever the bucket does."""
        state = (await self._ask(f"STREAM.INFO.{self._stream}", {}))["state"]
        return state["last_seq"], state["messages"]

    # -- the bucket --------------------------------------------------------------------------------------------

    def _subject(self, key: str) -> str:
        if not _KEY.match(key):
            raise ConfigurationError(f"{key!r} is no state key: use A-Z, a-z, 0-9, _ - and dots within", where="key")
        return self._prefix + key

    async def _ask(self, subject: str, body: Mapping[str, Any]) -> Any:
        try:
            return await self._connection.api(subject, body)
        except (ApiError, NoRespondersError) as error:
            raise client_failure(error, self._stream) from error

    async def _ensure(self) -> None:
        """Make the bucket at its first use."""
        if self._there:
            return
        try:
            found = await ensure(self._connection, self._definition)
        except (ApiError, NoRespondersError) as error:
            raise client_failure(error, self._stream) from error
        if problems := dangers(self._definition, found):
            raise ConfigurationError("the state bucket would lose values:\n" + "\n".join(problems))
        self._there = True


def _is_marker(headers: Mapping[str, str] | None) -> bool:
    return headers is not None and (headers.get(_OPERATION) in ("DEL", "PURGE") or _MARKER in headers)


def _entry(key: str, found: Raw) -> Entry:
    return Entry(key=key, value=found.data, revision=found.sequence)


def _ttl(seconds: float) -> int:
    if seconds < 1:
        raise ConfigurationError(f"ttl is {seconds}: the broker's smallest is 1 second", where="ttl")
    return int(seconds + 0.999)


async def _wait(event: asyncio.Event, timeout: float) -> bool:
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except TimeoutError:
        return False
    return True
