"""Which path a call takes: a pure decision over the policy and who the call is for.

Rule 1: a share is sticky: ``bucket(seam, key)`` is the same in every process and never changes; raising the
percentage only ever adds keys.
Rule 2: the seam's name salts the hash, so that not the same users try everything first.
Rule 3: no key, no canary: legacy.
Rule 4: a run keeps the path it first took per seam, unless the seam was rolled back to abort.
"""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Final, Literal

from .stages import TABLE

if TYPE_CHECKING:
    from .correlate import Correlation
    from .policy import Policy

Path = Literal["legacy", "bus"]

BUCKETS: Final = 10_000  # a hundredth of a percent


def bucket(seam: str, key: str) -> int:
    """The bucket of ``key`` at ``seam``, 0 to 9999."""
    digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8, person=b"cf", salt=_salt(seam))
    return int.from_bytes(digest.digest(), "big") % BUCKETS


def sticky_key(correlation: Correlation | None) -> str | None:
    """What keeps a caller on one path: the user, else the session, else the run; ``None`` when nobody said."""
    if correlation is None:
        return None
    return correlation.user or correlation.session or correlation.run


def in_share(seam: str, key: str | None, percent: float) -> bool:
    """Whether ``key`` is among the ``percent`` of keys that take the bus."""
    return key is not None and bucket(seam, key) < percent * BUCKETS / 100


def choose(seam: str, policy: Policy, correlation: Correlation | None, *, pinned: Path | None = None) -> Path:
    """The path of the next call."""
    answers = TABLE[policy.stage].answers
    if answers == "bus":
        return "bus"
    if pinned is not None and (answers == "split" or policy.draining):
        return pinned
    if answers == "split" and in_share(seam, sticky_key(correlation), policy.percent):
        return "bus"
    return "legacy"


class Pins:
    """The path each run first took per seam, in this process; the oldest are forgotten beyond ``limit`` runs."""

    def __init__(self, limit: int = 50_000) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._runs: dict[str, dict[str, Path]] = {}

    def get(self, run: str, seam: str) -> Path | None:
        """The path ``run`` took at ``seam``, or ``None``."""
        seams = self._runs.get(run)
        return seams.get(seam) if seams else None

    def pin(self, run: str, seam: str, path: Path) -> None:
        """Remember the path, unless one is remembered."""
        with self._lock:
            if run not in self._runs and len(self._runs) >= self._limit:
                del self._runs[next(iter(self._runs))]
            self._runs.setdefault(run, {}).setdefault(seam, path)

    def forget(self, seam: str) -> None:
        """Break every pin of ``seam``: it was rolled back."""
        with self._lock:
            for seams in self._runs.values():
                seams.pop(seam, None)

    def to_text(self, run: str) -> str:
        """The pins of a run as they travel in a command: ``web.search=bus,mail.send=legacy``."""
        with self._lock:
            return ",".join(f"{seam}={path}" for seam, path in self._runs.get(run, {}).items())

    def adopt(self, run: str, text: str) -> None:
        """Take over the pins of a command; only commands carry them, and only trusted peers can send commands."""
        for part in text.split(",")[:_MOST_PINS]:
            seam, _, path = part.partition("=")
            if seam and path in ("legacy", "bus"):
                self.pin(run, seam, "bus" if path == "bus" else "legacy")


_MOST_PINS: Final = 64
_salts: dict[str, bytes] = {}


def _salt(seam: str) -> bytes:
    """BLAKE2's own salt takes 16 bytes; a seam's name is hashed down to that, once."""
    found = _salts.get(seam)
    if found is None:
        found = _salts[seam] = hashlib.sha256(seam.encode()).digest()[:16]
    return found
