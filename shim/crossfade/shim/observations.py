"""Observations: what a legacy call leaves behind, fail-open and bounded.

The caller appends to a buffer and goes on; one task on the background loop drains it. Whatever cannot be kept
is counted with its reason, and every eligible call carries a number, so the receiver sees the gap as well.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from .correlate import Correlation, extensions
from .coverage import Tally, kind_of_call
from .errors import BusError, BusUnavailableError, UnserialisableError
from .events import Event
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .outcomes import SeenError
    from .ports import Publisher
    from .redaction import Redactor
    from .seam import Seam
    from .subjects import Subjects

BUFFER: Final = 10_000  # calls; half a minute at 300 calls/s
BUFFER_BYTES: Final = 64 * 1024 * 1024  # of arguments and values, because calls may be large
_PAUSE: Final = 0.05  # seconds between drains: nobody waits, and waking the loop per call costs the caller 5-10 us
_BATCH: Final = 256  # events between two yields of the loop

_log = logging.getLogger("crossfade")


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """One finished legacy call, already detached from the caller's objects.

    ``arguments`` and ``value`` are JSON (``value`` is ``{"value": ...}``); ``arguments`` is ``None`` when they
    could not be serialised, or the call was sampled out. ``started`` is seconds since the epoch, ``duration`` seconds.
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
    shadow: bool = False

    @property
    def kind(self) -> str:
        """The bucket of coverage that the call belongs to."""
        size = None if self.arguments is None else len(self.arguments)
        return kind_of_call(size, self.duration, error=self.error is not None)

    @property
    def whole(self) -> bool:
        """Whether arguments and outcome are there, so that it could be compared."""
        return self.arguments is not None and (self.value is not None or self.error is not None)

    @property
    def size(self) -> int:
        """Bytes of arguments, secrets and value."""
        return len(self.arguments or b"") + len(self.value or b"") + sum(map(len, self.secrets.values()))


class Observer:
    """Buffers observations and publishes them from the background loop."""

    def __init__(self, bus: Publisher, subjects: Subjects, redactor: Redactor, *, instance: str) -> None:
        self._bus = bus
        self._subjects = subjects
        self._redactor = redactor
        self._instance = instance
        self.tally = Tally()
        self._buffer: deque[Observation] = deque()
        self._bytes = 0  # changed by many threads without a lock: a bound, not an account, and set to 0 when empty
        self._numbers: dict[str, itertools.count[int]] = {}
        self._next: Event | None = None  # the event of the first in the buffer, made once however often it is tried
        self._complained: set[str] = set()

    def number(self, seam: str) -> int:
        """The next number of an eligible call of ``seam``, from 1, without gaps in this process."""
        return next(self._numbers.setdefault(seam, itertools.count(1)))

    def offer(self, observation: Observation) -> None:
        """Keep it for publishing, or count it as dropped when the buffer is full. Never waits."""
        if len(self._buffer) >= BUFFER or self._bytes > BUFFER_BYTES:
            report.count("dropped", seam=observation.seam.name, reason="buffer-full")
            self.tally.add(observation.seam.name, observation.kind, observed=False)
        else:
            self._bytes += observation.size
            self._buffer.append(observation)

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
            observation = self._buffer.popleft()
            report.count("dropped", seam=observation.seam.name, reason="exit")
            self.tally.add(observation.seam.name, observation.kind, observed=False)
        self._bytes = 0

    def _publish_some(self) -> bool:
        """Publish a batch; ``False`` when the bus takes no more for now."""
        for _ in range(min(_BATCH, len(self._buffer))):
            observation, published = self._buffer[0], False
            try:
                self._next = self._next or self.event(observation)
                self._bus.emit(
                    self._subjects.observation(
                        observation.seam.name, tenant=_tenant(observation), shadow=observation.shadow
                    ),
                    self._next,
                )
            except BusUnavailableError:
                return False  # it stays in the buffer, which is bounded
            except BusError as error:
                report.count("dropped", seam=observation.seam.name, reason=type(error).__name__)
            except Exception as error:
                self.failed(observation.seam.name, error)
            else:
                published = True
                report.count("observed", seam=observation.seam.name)
            self.tally.add(observation.seam.name, observation.kind, observed=published and observation.whole)
            self._next = None
            self._bytes -= self._buffer.popleft().size
        if not self._buffer:
            self._bytes = 0
        return True

    def event(self, observation: Observation) -> Event:
        """The event of an observation, redacted."""
        return Event(
            type=f"{observation.seam.domain}.observed" if observation.seam.domain == "tool" else "agent.task.observed",
            source=f"urn:crossfade:{self._instance}",
            subject=observation.seam.name,
            extensions={
                "seam": observation.seam.name,
                "callid": observation.callid,
                "path": "legacy",
                "policyrev": str(observation.revision),
                "obsseq": str(observation.n),
                **extensions(observation.correlation),
            },
            data=self._payload(observation),
        )

    def _payload(self, observation: Observation) -> bytes:
        fields: dict[str, Any] = {
            "instance": self._instance,
            "redaction": self._redactor.fingerprint,
            "n": observation.n,
            "kind": observation.kind,
            "started": datetime.fromtimestamp(observation.started, UTC).isoformat(),
            "duration_ms": round(observation.duration * 1000, 3),
        }
        if observation.arguments is not None:
            clear = self._redactor.value(json.loads(observation.arguments))
            hidden = {name: self._redactor.digest(value) for name, value in observation.secrets.items()}
            fields["arguments"] = {**clear, **hidden}
        if observation.error is not None:
            fields["outcome"] = "error"
            fields["error"] = observation.error.record(redact=self._redactor.text).to_json()
        else:
            fields["outcome"] = "value"
            if observation.value is not None:
                fields |= self._redactor.value(json.loads(observation.value))
        return json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace")


def _tenant(observation: Observation) -> str | None:
    return observation.correlation.tenant if observation.correlation else None
