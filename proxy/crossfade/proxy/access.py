"""The access log: one JSON line per request, written by a thread of its own; a slow disk slows nobody.

The lines are made where the requests are: made by the thread, thousands at once, they held the interpreter for
milliseconds, which were the 99th percentile of latency (measured: 8 ms).
Query strings are left out, and JSON escapes every control character, so no client can forge a line (CR, LF).
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from crossfade.shim.errors import ConfigurationError
from crossfade.shim.hooks import report

if TYPE_CHECKING:
    from .exchange import Exchange
    from .framing import Refusal
    from .headers import Peer

_quoted = json.encoder.encode_basestring_ascii
_PENDING = 100_000
_PERIOD = 0.2

Record = tuple[float, str, str, str, int, float, int, int, str, str, str]


class AccessLog:
    """Appends to the file ``path`` (``-``: standard output), whole lines at a time, so that processes may share it.

    What does not fit in its memory, or on the disk, is counted (``dropped``, reason ``access-log``).
    Raises ``ConfigurationError`` for a file that cannot be opened.
    """

    def __init__(self, path: str) -> None:
        self._out = os.dup(1) if path == "-" else _opened(path)
        self._lines: deque[str] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="crossfade-access-log", daemon=True)
        self._thread.start()

    def exchange(self, exchange: Exchange, now: float) -> None:
        """Log an exchange that is over at loop time ``now``."""
        head = exchange.head
        self._add(
            (
                time.time(),
                exchange.peer.address,
                head.method.decode("latin-1"),
                head.path.decode("latin-1"),
                499 if exchange.outcome == "left" else exchange.status,
                now - exchange.started,
                exchange.received,
                exchange.sent,
                exchange.seam,
                exchange.outcome,
                exchange.breaker,
            )
        )

    def refusal(self, peer: Peer, refusal: Refusal) -> None:
        """Log a request that never became an exchange."""
        self._add((time.time(), peer.address, "-", "-", refusal.status, 0.0, 0, 0, "-", refusal.name, ""))

    def close(self) -> None:
        """Write what is pending and stop."""
        self._stop.set()
        self._thread.join()
        os.close(self._out)

    def _add(self, record: Record) -> None:
        if len(self._lines) >= _PENDING:
            report.count("dropped", reason="access-log")
            return
        self._lines.append(line_of(record))

    def _run(self) -> None:
        while not self._stop.wait(_PERIOD):
            self._write()
        self._write()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        data = "".join(lines).encode()
        try:
            while data:
                data = data[os.write(self._out, data) :]
        except OSError:
            report.count("dropped", reason="access-log", n=data.count(b"\n"))


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
    except OSError as error:
        why = error.strerror or str(error)
        remedy = "make its folder, let this user write there, or name another file"
        raise ConfigurationError(f"{path} cannot be written: {why}; {remedy}", where="access_log") from error


def line_of(record: Record) -> str:
    """One record as a line of JSON."""
    at, peer, method, path, status, seconds, received, sent, seam, outcome, breaker = record
    more = f', "breaker": {_quoted(breaker)}' if breaker else ""
    # By hand, half the time of building a dict for json.dumps; only these strings can hold what must be escaped.
    return (
        f'{{"time": "{_moment(int(at * 1000))}", "client": {_quoted(peer)}, '
        f'"method": {_quoted(method)}, "path": {_quoted(path)}, "status": {status}, "seconds": {seconds:.6f}, '
        f'"received": {received}, "sent": {sent}, "seam": {_quoted(seam)}, "outcome": {_quoted(outcome)}{more}}}\n'
    )


@lru_cache(maxsize=1)
def _moment(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds")
