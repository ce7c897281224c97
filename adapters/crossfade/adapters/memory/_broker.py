"""The broker: everything that outlives a client, and the failures a test asks for. Thread-safe."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from crossfade.shim.errors import BusRefusedError, BusUnavailableError
from crossfade.shim.events import new_id

from ._bucket import Bucket
from ._faults import Fault, Faults
from ._group import Group
from ._stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from crossfade.shim.errors import BusError
    from crossfade.shim.events import Event
    from crossfade.shim.ports import ConsumeOptions

    from ._faults import Operation
    from ._stream import Discard, Message

# What follows the prefix in the first token of a stored subject, see ``crossfade.shim.subjects``.
_FAMILIES: Final = ("", "o", "v", "ui", "e", "dlq")


class Client(Protocol):
    """What the broker tells a connected bus; called from any thread."""

    def wake(self) -> None:
        """Something changed: look again."""
        ...

    def reconnected(self) -> None:
        """The broker is back."""
        ...


class MemoryBroker:
    """A broker in this process; share one between buses with ``memory://NAME`` and ``broker("NAME")``.

    It may be used from several threads and loops. ``max_event_bytes`` bounds headers and payload together.
    ``objects`` holds what ``put_object`` stored, by uri; change it to see a claim check fail.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self.max_event_bytes = 1024 * 1024
        self.objects: dict[str, bytes] = {}
        self.lock = threading.RLock()
        self.faults = Faults()
        self.running = True
        self.clients: list[Client] = []
        self.listeners: defaultdict[str, list[Callable[[Event], None]]] = defaultdict(list)
        self._streams: dict[str, Stream] = {}
        self._groups: dict[tuple[str, str], Group] = {}
        self._buckets: defaultdict[str, Bucket] = defaultdict(Bucket)

    # -- failures on demand --

    def stop(self) -> None:
        """Stop answering: operations raise, deliveries pause, what is stored stays; clocks keep running."""
        with self.lock:
            self.running = False
            self.wake_all()

    def start(self) -> None:
        """Answer again; every connected bus runs its ``on_reconnect`` callbacks."""
        with self.lock:
            if self.running:
                return
            self.running = True
            for client in list(self.clients):
                client.reconnected()
            self.wake_all()

    def fail_next(self, operation: Operation, error: BusError, *, after: bool = False) -> None:
        """Let the next call of ``operation`` raise ``error``; with ``after`` it has happened nevertheless.

        An answer that got lost is ``fail_next("publish", BusAmbiguousError(), after=True)``. Calls add up:
        two of them fail the next two.
        """
        with self.lock:
            self.faults.add(operation, Fault(error, after))

    def delay(self, operation: Operation, seconds: float) -> None:
        """Let every answer of ``operation`` take ``seconds``; 0 ends it.

        The operation happens at once and its answer is late, so a publish that times out was stored. ``next``
        and ``reply`` are late as a whole; ``emit`` has no answer to be late.
        """
        with self.lock:
            self.faults.slow(operation, seconds)

    def lose_replies(self, n: int) -> None:
        """Let the next ``n`` replies vanish without a word."""
        with self.lock:
            self.faults.replies_to_lose = n

    def limit(self, family: str, *, max_bytes: int, discard: Discard) -> None:
        """Bound the stream whose subjects begin with the token ``family`` (``cf``, ``cfo`` ...).

        ``discard="new"`` refuses what does not fit with ``BusFullError``, ``"old"`` lets the oldest go.
        Without a limit a stream grows until the process ends.
        """
        with self.lock:
            stream = self._stream(family)
            stream.max_bytes, stream.discard = max_bytes, discard

    def store_raw(self, subject: str, headers: Mapping[str, str], data: bytes) -> None:
        """Store bytes that need not be an event, as a foreign client of a real broker could."""
        with self.lock:
            self._stream(subject.split(".", 1)[0]).append(
                subject, dict(headers), data, message_id=new_id(), now=datetime.now(UTC)
            )
            self.wake_all()

    def stored(self, prefix: str, family: str) -> list[Message]:
        """Everything stored under the first token ``prefix + family``, in order; also while stopped."""
        with self.lock:
            return list(self._stream(prefix + family).after(0, (f"{prefix}{family}.>",)))

    # -- what a bus uses, with the lock held --

    def check_running(self) -> None:
        """Raise ``BusUnavailableError`` while stopped."""
        if not self.running:
            raise BusUnavailableError("the memory broker is stopped: nothing was sent")

    def wake_all(self) -> None:
        """Tell every client to look again."""
        for client in list(self.clients):
            client.wake()

    def stream(self, prefix: str, subject: str) -> Stream:
        """The stream of a subject or filter. Raises ``BusRefusedError`` when none captures it."""
        family, _, rest = subject.partition(".")
        if not rest or family not in {prefix + suffix for suffix in _FAMILIES}:
            raise BusRefusedError(f"no stream of prefix {prefix!r} captures {subject!r}")
        return self._stream(family)

    def join(self, stream: Stream, group: str, filters: Sequence[str], options: ConsumeOptions) -> Group:
        """The group of this name, created on first use; the last member's filters and options hold for all."""
        key = stream.name, group
        if key not in self._groups:
            self._groups[key] = Group(stream, filters, options)
        found = self._groups[key]
        found.filters, found.options = tuple(filters), options
        return found

    def groups(self, prefix: str) -> list[tuple[str, Group]]:
        """Every group under the prefix with its name."""
        families = {prefix + suffix for suffix in _FAMILIES}
        return [(name, group) for (family, name), group in self._groups.items() if family in families]

    def bucket(self, name: str) -> Bucket:
        """The state bucket of this name."""
        return self._buckets[name]

    def _stream(self, family: str) -> Stream:
        if family not in self._streams:
            self._streams[family] = Stream(family)
        return self._streams[family]


_named: dict[str, MemoryBroker] = {}
_named_lock = threading.Lock()


def broker(name: str) -> MemoryBroker:
    """The broker behind ``memory://NAME``, created on first use; it lives until ``forget``."""
    with _named_lock:
        if name not in _named:
            _named[name] = MemoryBroker(name)
        return _named[name]


def forget(name: str) -> None:
    """Let the next use of ``memory://NAME`` begin with an empty broker; absent is fine."""
    with _named_lock:
        _named.pop(name, None)
