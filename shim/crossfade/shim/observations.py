"""Observations: what a legacy call leaves behind, fail-open and bounded.

The caller appends what it has seen to a buffer and goes on; one task on the background loop makes observations of
it and publishes them. Whatever cannot be kept
is counted with its reason, and every eligible call carries a number, so the receiver sees the gap as well.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections import Counter, deque
from dataclasses import dataclass
from datetime import UTC, datetime
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from .callers import Caller, told_by
from .correlate import Correlation, extensions
from .coverage import Tally, kind_of_call
from .domains import observed_type
from .errors import BusError, BusUnavailableError, UnserialisableError
from .events import Event
from .hooks import report
from .yielded import LIMIT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .outcomes import SeenError
    from .ports import Emitter, Publisher
    from .redaction import Redactor
    from .seam import Seam
    from .subjects import Subjects
    from .yielded import Yielded

BUFFER: Final = 10_000  # calls; half a minute at 300 calls/s
BUFFER_BYTES: Final = 64 * 1024 * 1024  # of arguments and values, because calls may be large
_PAUSE: Final = 0.05  # seconds between drains: nobody waits, and waking the loop per call costs the caller 5-10 us
_BATCH: Final = 256  # events between two yields of the loop
_SLICE: Final = 0.02  # seconds after which it yields sooner: a deep traceback takes milliseconds to write

_log = logging.getLogger("crossfade")


@dataclass(kw_only=True, slots=True)  # not frozen, which would take twice as long to make
class Observation:
    """One finished legacy call, already detached from the caller's objects.

    ``arguments`` and ``value`` are JSON (``value`` is ``{"value": ...}``); ``arguments`` is ``None`` when they
    could not be serialised, or the call was sampled out. Of a ``stream`` that can be compared ``value`` is the list of
    its items, whatever it ended with. ``started`` is seconds since the epoch, ``duration`` seconds.
    """

    seam: Seam
    n: int
    callid: str
    revision: int
    started: float
    duration: float
    arguments: bytes | None
    secrets: Mapping[str, bytes]
    value: bytes | None
    error: SeenError | None
    correlation: Correlation | None
    outer: Caller | None = None
    shadow: bool = False
    stream: Yielded | None = None

    @property
    def kind(self) -> str:
        """The bucket of coverage that the call belongs to."""
        size = None if self.arguments is None else len(self.arguments)
        return kind_of_call(size, self.duration, error=self.error is not None)

    @property
    def whole(self) -> bool:
        """Whether arguments and outcome are there, so that it could be compared."""
        if self.arguments is None:
            return False
        return self.value is not None or (self.error is not None and self.stream is None)


class Reader(Protocol):
    """The route that saw a call, and can say what it saw."""

    @property
    def seam(self) -> Seam:
        """Whose calls it sees."""
        ...

    def read(self, seen: Seen) -> Observation:
        """The observation of a call; what of it cannot be read is counted."""
        ...


Seen: TypeAlias = (
    "tuple[Reader, int, float, float, Any, Any, SeenError | None, Correlation | None, Any, bool, Caller | None]"
)
"""A finished call as its thread left it: who can read it, its number, start (seconds since the epoch), duration (s),
arguments, value (of a stream what it yielded), error, correlation, arguments again (or whether they changed), called on
an heir, inside which call it began.

A plain tuple, because making anything else takes a microsecond of the caller's time.
"""


class _Made(NamedTuple):
    """An observation as it is sent: redacted, encoded and addressed."""

    observation: Observation
    kind: str
    subject: str
    emit: Emitter
    extensions: dict[str, str]
    data: bytes


_Done: TypeAlias = tuple[str, str, bool, bool]
"""A call that was dealt with: its seam, its kind, whether it was sent, and whether all of it was there."""


class Observer:
    """Buffers observations and publishes them from the background loop."""

    def __init__(self, bus: Publisher, subjects: Subjects, redactor: Redactor, *, instance: str) -> None:
        self._bus = bus
        self._subjects = subjects
        self._redactor = redactor
        self._instance = instance
        self.tally = Tally()
        self._buffer: deque[Seen] = deque()
        self._bytes = 0  # changed by many threads without a lock: a bound, not an account, and set to 0 when empty
        self._numbers: dict[str, itertools.count[int]] = {}
        # The first in the buffer and what is sent of it, made once however often it is tried.
        self._next: _Made | None = None
        self._emitters: dict[str, tuple[int, Emitter]] = {}  # by seam: of its last revision
        self._complained: set[str] = set()

    def numbers(self, seam: str) -> itertools.count[int]:
        """The numbers of the eligible calls of ``seam``, from 1, without gaps in this process."""
        return self._numbers.setdefault(seam, itertools.count(1))

    def offer(self, seen: Seen) -> None:
        """Keep it for publishing, or count it as dropped when the buffer is full. Never waits."""
        if len(self._buffer) < BUFFER and self._bytes <= BUFFER_BYTES:
            self._bytes += size(seen)
            self._buffer.append(seen)
        else:
            self._lose(seen, "buffer-full")

    def failed(self, seam: str, error: Exception) -> None:
        """Count a failure of our own while observing; the caller never sees it. Logged once per seam and class."""
        reason = "unserialisable" if isinstance(error, UnserialisableError) else "internal"
        report.count("skipped", seam=seam, reason=reason)
        key = f"{seam}:{type(error).__name__}"
        if key not in self._complained:
            self._complained.add(key)
            text = self._redactor.text(str(error))
            _log.warning("seam %s: a call could not be observed (%s); counted from now on", seam, text)

    async def run(self) -> None:
        """Drain now and then, until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            await self.drain()

    async def drain(self) -> None:
        """Publish what is buffered, all of it or until the bus takes no more for now."""
        while self._buffer and self._publish_some():  # noqa: ASYNC110 - a yield between batches, not a poll
            await asyncio.sleep(0)

    async def flush(self, seconds: float) -> None:
        """Publish what is buffered within ``seconds``; the rest is counted as dropped (``exit``)."""
        end = asyncio.get_running_loop().time() + seconds
        while self._buffer and self._publish_some() and asyncio.get_running_loop().time() < end:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while self._buffer:
            self._lose(self._buffer.popleft(), "exit")
        self._bytes = 0

    def _lose(self, seen: Seen, reason: str) -> None:
        report.count("dropped", seam=seen[0].seam.name, reason=reason)
        self.tally.add(seen[0].seam.name, kind(seen), observed=False)

    def _publish_some(self) -> bool:
        """Publish a batch; ``False`` when the bus takes no more for now."""
        done: list[_Done] = []
        end = monotonic() + _SLICE
        try:
            for at in range(min(_BATCH, len(self._buffer))):
                if at and monotonic() > end:
                    break
                seen, sent = self._buffer[at], False
                name = seen[0].seam.name
                try:
                    made = self._next = self._next or self._made(seen[0].read(seen))
                    made.emit(made.subject, made.observation.callid, made.extensions, made.data)
                except BusUnavailableError:
                    return False  # it stays in the buffer, which is bounded
                except BusError as error:
                    report.count("dropped", seam=name, reason=type(error).__name__)
                except Exception as error:
                    self.failed(name, error)
                else:
                    sent = True
                done.append(_done(seen, self._next, sent=sent))
                self._next = None
        finally:
            self._settle(done)
        return True

    def _settle(self, done: list[_Done]) -> None:
        """Take a batch out of the buffer and count it, together because each counting takes a lock."""
        for (seam, kind, sent, whole), n in Counter(done).items():
            if sent:
                report.count("observed", seam=seam, n=n)
            self.tally.add(seam, kind, observed=sent and whole, n=n)
        for _ in done:
            self._bytes -= size(self._buffer.popleft())
        if not self._buffer:
            self._bytes = 0

    def _made(self, observation: Observation) -> _Made:
        seam, correlation = observation.seam, observation.correlation
        kind = observation.kind
        run = extensions(correlation)
        return _Made(
            observation,
            kind,
            self._subjects.observation(
                seam.name, tenant=correlation.tenant if correlation else None, shadow=observation.shadow
            ),
            self._emitter(seam, observation.revision),
            {"callid": observation.callid, "obsseq": str(observation.n), **run, **told_by(observation.outer, run)},
            self._payload(observation, kind),
        )

    def _emitter(self, seam: Seam, revision: int) -> Emitter:
        """What sends the seam's observations under this revision of its policy."""
        found = self._emitters.get(seam.name)
        if found is None or found[0] != revision:
            alike = Event(
                type=observed_type(seam.domain),
                source=f"urn:crossfade:{self._instance}",
                subject=seam.name,
                extensions={"seam": seam.name, "path": "legacy", "policyrev": str(revision)},
            )
            found = self._emitters[seam.name] = (revision, self._bus.emitter(alike))
        return found[1]

    def _payload(self, observation: Observation, kind: str) -> bytes:
        """Joined from JSON that is there already: parsing and writing it again would be a third of the whole work."""
        started = datetime.fromtimestamp(observation.started, UTC).isoformat()
        about = f'{observation.n},"kind":"{kind}","started":"{started}","duration_ms":{observation.duration * 1000:.3f}'
        ours = f'{{"instance":"{self._instance}","redaction":"{self._redactor.fingerprint}","n":'
        parts = [(ours + about).encode()]
        arguments, value = observation.arguments, observation.value
        if not self._redactor.passes((arguments or b"") + (value or b"")):  # one look, because it is a third of this
            arguments, value = self._redacted(arguments), self._redacted(value)
        if arguments is not None:
            hidden = {name: self._redactor.digest(value) for name, value in observation.secrets.items()}
            parts += b',"arguments":', _merged(arguments, hidden)
        if observation.stream is not None:
            parts += b',"stream":', _streamed(observation.stream, value, failed=observation.error is not None)
            value = None
        if observation.error is not None:
            record = observation.error.record(redact=self._redactor.text).to_json()
            parts += b',"outcome":"error","error":', _json(record), b"}"
        elif value is not None:
            parts += b',"outcome":"value",', value[1:]  # `{"value": ...}` without its brace
        else:
            parts.append(b',"outcome":"value"}')
        return b"".join(parts)

    def _redacted(self, data: bytes | None) -> bytes | None:
        return data if data is None or self._redactor.passes(data) else _json(self._redactor.value(json.loads(data)))


def _streamed(stream: Yielded, value: bytes | None, *, failed: bool) -> bytes:
    """What is told of a stream; ``value`` is ``{"value": [...]}``, its items, redacted."""
    end = "error" if failed else "closed" if stream.closed else "finished"
    about: dict[str, Any] = {"count": stream.count, "end": end}
    if value is None or not value.startswith(b'{"value":['):  # or they were too much to be redacted
        return _json({**about, "cut": stream.cut or LIMIT})
    about["offsets_ms"] = [round(seconds * 1000, 3) for seconds in stream.came]
    return _json(about)[:-1] + b',"items":' + value[value.index(b":") + 1 :]


def _done(seen: Seen, made: _Made | None, *, sent: bool) -> _Done:
    if made is None:
        return seen[0].seam.name, kind(seen), sent, False
    return made.observation.seam.name, made.kind, sent, made.observation.whole


def _merged(members: bytes, more: Mapping[str, Any]) -> bytes:
    """The JSON object ``members`` with ``more`` behind them."""
    if not more:
        return members
    comma = b"" if members == b"{}" else b","
    return members[:-1] + comma + _json(more)[1:]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def kind(seen: Seen) -> str:
    """The bucket of coverage that a call belongs to, by the size of the copy of its arguments."""
    return kind_of_call(len(seen[4]) if seen[4] else None, seen[3], error=seen[6] is not None)


def size(seen: Seen) -> int:
    """Bytes of arguments and value."""
    return (len(seen[4]) if seen[4] else 0) + (len(seen[5]) if seen[5] else 0)
