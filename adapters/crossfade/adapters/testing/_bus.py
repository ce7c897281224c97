"""The fixture ``bus``: what lies on the broker of this test, and its failures on demand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.bindings import from_nats
from crossfade.shim.claimcheck import parse_dataref
from crossfade.shim.comparison import Verdict
from crossfade.shim.errors import MalformedEventError
from crossfade.shim.events import TYPES
from crossfade.shim.hooks import report
from crossfade.shim.subjects import matches

from ._seen import SeenCall, SeenEvent, see_call

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from crossfade.adapters.memory import MemoryBroker, Message
    from crossfade.shim.connection import Connection
    from crossfade.shim.events import Event
    from crossfade.shim.hooks import Counters

# Calls, observations, verdicts, progress, facts; dead letters repeat commands.
_FAMILIES: Final = ("", "o", "v", "ui", "e")
_PATIENCE: Final = 5.0  # seconds


class BusFixture:
    """The bus of one test.

    ``broker`` injects failures: ``stop``, ``start``, ``fail_next``, ``delay``, ``lose_replies``. ``counts`` is what
    crossfade counted during the test: ``bus.counts.get("fallback", seam="web.search")``. Looking works in every
    thread, under a running event loop, and while the broker is stopped.
    """

    def __init__(self, connection: Connection, broker: MemoryBroker, counts: Counters) -> None:
        self.broker = broker
        self.counts = counts
        self._runtime = connection.runtime
        self._wakers: list[Callable[[], object]] = []
        broker.clients.append(self)

    # -- looking -----------------------------------------------------------------------------------------------

    def events(self, type: str | None = None, *, seam: str | None = None) -> list[SeenEvent]:  # noqa: A002 - the field's word
        """Every event so far of this ``type`` and ``seam``, in order of arrival; observations of finished calls too."""
        self._runtime.thread.run(self._runtime.observer.drain(), timeout=_PATIENCE)
        return [seen for seen in self._all() if type in (None, seen.type) and seam in (None, seen.seam)]

    def calls(self, seam: str) -> list[SeenCall]:
        """The calls of ``seam`` that were sent over the bus, in order. Raises ``UnknownSeamError``."""
        declared = self._runtime.registry.get(seam)
        seen = self.events(seam=seam)
        answers = {found.callid: found for found in seen if TYPES.get(found.type) == "answer"}
        return [
            see_call(declared, command, answers.get(command.callid), _progress_of(command.callid, seen))
            for command in seen
            if TYPES.get(command.type) == "command"
        ]

    def verdicts(self, seam: str, *, timeout: float = _PATIENCE) -> list[Verdict]:
        """What the shadow runs of ``seam`` found, in order of the calls, once all made so far are judged.

        Raises ``TimeoutError`` when one is not within ``timeout`` seconds.
        """

        def missing() -> str:
            judged = self._judged(seam)
            left = [found.callid for found in self._flagged(seam) if found.event.id not in judged]
            return f"{len(left)} calls of {seam} are not compared yet: {', '.join(map(str, left))}" if left else ""

        self._wait(missing, timeout)
        judged = self._judged(seam)
        return [Verdict.from_json(judged[found.event.id]) for found in self._flagged(seam) if found.event.id in judged]

    # -- waiting -----------------------------------------------------------------------------------------------

    def wait_for(
        self,
        type: str,  # noqa: A002 - the field's word
        *,
        seam: str | None = None,
        n: int = 1,
        timeout: float = _PATIENCE,
    ) -> list[SeenEvent]:
        """The events of this ``type`` and ``seam`` once there are ``n``.

        Raises ``TimeoutError`` that lists what there is after ``timeout`` seconds. Blocks its thread; a coroutine
        whose own loop has to go on meanwhile uses ``await_for``.
        """
        self._wait(lambda: self._lacking(type, seam, n), timeout)
        return self.events(type, seam=seam)

    async def await_for(
        self,
        type: str,  # noqa: A002 - the field's word
        *,
        seam: str | None = None,
        n: int = 1,
        timeout: float = _PATIENCE,
    ) -> list[SeenEvent]:
        """See ``wait_for``."""
        loop, changed = asyncio.get_running_loop(), asyncio.Event()
        end = loop.time() + timeout
        with self._woken(lambda: loop.call_soon_threadsafe(changed.set)):
            while lacking := self._lacking(type, seam, n):
                try:
                    await asyncio.wait_for(changed.wait(), end - loop.time())
                except TimeoutError:
                    raise TimeoutError(f"{lacking}, after {timeout:g} s") from None
                changed.clear()
        return self.events(type, seam=seam)

    def _wait(self, missing: Callable[[], str], timeout: float) -> None:
        changed = threading.Event()
        end = time.monotonic() + timeout
        with self._woken(changed.set):
            while lacking := missing():
                if not changed.wait(max(0.0, end - time.monotonic())) or time.monotonic() > end:
                    raise TimeoutError(f"{lacking}, after {timeout:g} s")
                changed.clear()

    def _lacking(self, type: str, seam: str | None, n: int) -> str:  # noqa: A002 - the field's word
        found = self.events(type, seam=seam)
        if len(found) >= n:
            return ""
        there = ", ".join(sorted({f"{seen.type} of {seen.seam or '-'}" for seen in self._all()})) or "nothing"
        return f"{len(found)} of {n} {type} of {seam or 'any seam'}; on the bus are: {there}"

    # -- as a client of the broker -----------------------------------------------------------------------------

    def wake(self) -> None:
        """See ``Client.wake``."""
        for waker in list(self._wakers):
            waker()

    def reconnected(self) -> None:
        """See ``Client.reconnected``."""

    @contextlib.contextmanager
    def _woken(self, waker: Callable[[], object]) -> Generator[None]:
        with self.broker.lock:
            self._wakers.append(waker)
        try:
            yield
        finally:
            with self.broker.lock:
                self._wakers.remove(waker)

    # -- reading -----------------------------------------------------------------------------------------------

    def _all(self) -> list[SeenEvent]:
        messages = [message for family in _FAMILIES for message in self._stored(family)]
        return self._read(sorted(messages, key=lambda message: message.time))

    def _flagged(self, seam: str) -> list[SeenEvent]:
        """The observations of ``seam`` that a worker shall run again."""
        subjects = self._runtime.subjects
        wanted = subjects.observations(seam, kind="shadow")
        return self._read([found for found in self._stored("o") if matches(wanted, found.subject)])

    def _judged(self, seam: str) -> dict[str | None, Any]:
        """Verdicts by the observation they are about."""
        return {found.event.get("causationid"): found.payload for found in self.events("seam.compared", seam=seam)}

    def _stored(self, family: str) -> list[Message]:
        return self.broker.stored(self._runtime.config.prefix, family)

    def _read(self, messages: Iterable[Message]) -> list[SeenEvent]:
        found: list[SeenEvent] = []
        for message in messages:
            try:
                event = from_nats(message.headers, message.data)
                found.append(SeenEvent(event=event, payload=self._payload(event)))
            except MalformedEventError as error:  # what a test stored by store_raw
                report.count("skipped", reason=error.reason)
        return found

    def _payload(self, event: Event) -> Any:
        dataref = event.get("dataref")
        data = self.broker.objects.get(parse_dataref(dataref).uri) if dataref and event.data is None else event.data
        try:
            return json.loads(data) if data else None
        except ValueError:
            return data


def _progress_of(callid: str | None, seen: list[SeenEvent]) -> list[SeenEvent]:
    return [found for found in seen if found.callid == callid and TYPES.get(found.type) == "progress"]
