"""What crossfade reports about itself: one protocol, so that telemetry is plugged in and never imported.

Nothing is dropped silently: every skip, drop, retry and late result goes through ``count`` with a reason.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from typing import Protocol

_log = logging.getLogger("crossfade")


class Hooks(Protocol):
    """Receives counts; implementations must be quick, thread-safe and must not raise."""

    def count(self, name: str, *, seam: str = "-", reason: str = "-", n: int = 1) -> None:
        """``n`` more of ``name`` (``skipped``, ``dropped``, ``late`` ...) for ``seam`` because of ``reason``."""
        ...


class Counters:
    """The default hooks: counts kept in this process, readable by tests, ``doctor`` and the metrics page."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, str]] = Counter()

    def count(self, name: str, *, seam: str = "-", reason: str = "-", n: int = 1) -> None:
        """See ``Hooks.count``."""
        with self._lock:
            self._counts[name, seam, reason] += n

    def get(self, name: str, *, seam: str | None = None, reason: str | None = None) -> int:
        """The sum of all counts of ``name``, narrowed by ``seam`` and ``reason`` when given."""
        with self._lock:
            return sum(
                n
                for (counted, at, why), n in self._counts.items()
                if counted == name and seam in (None, at) and reason in (None, why)
            )

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent process may have held; call it in the child, first thing."""
        self._lock = threading.Lock()

    def snapshot(self) -> dict[tuple[str, str, str], int]:
        """A copy of all counts by ``(name, seam, reason)``."""
        with self._lock:
            return dict(self._counts)


class Guarded:
    """Wraps a user's hooks: an error in them is logged once per name and never reaches a call."""

    def __init__(self, hooks: Hooks) -> None:
        self.hooks = hooks
        self._complained: set[str] = set()

    def count(self, name: str, *, seam: str = "-", reason: str = "-", n: int = 1) -> None:
        """See ``Hooks.count``."""
        try:
            self.hooks.count(name, seam=seam, reason=reason, n=n)
        except Exception:
            if name not in self._complained:
                self._complained.add(name)
                _log.exception("the hook for %r failed; further failures of it are not logged", name)


counters = Counters()
"""What this process has counted so far, unless ``use_hooks`` sent the counts elsewhere."""


class _Reporter:
    """Where crossfade's own code counts; forwards to the hooks in use."""

    def __init__(self) -> None:
        self.hooks: Hooks = counters
        self.others: tuple[Guarded, ...] = ()

    def count(self, name: str, *, seam: str = "-", reason: str = "-", n: int = 1) -> None:
        self.hooks.count(name, seam=seam, reason=reason, n=n)
        for other in self.others:
            other.count(name, seam=seam, reason=reason, n=n)


report = _Reporter()


def use_hooks(hooks: Hooks) -> None:
    """Send every count of this process to ``hooks`` from now on; errors in it are guarded."""
    report.hooks = Guarded(hooks)


def add_hooks(hooks: Hooks) -> None:
    """Tell ``hooks`` of every count from now on, beside those in use; errors in it are guarded."""
    report.others = (*report.others, Guarded(hooks))


def remove_hooks(hooks: Hooks) -> None:
    """Tell ``hooks``, which were added, nothing any more."""
    report.others = tuple(each for each in report.others if each.hooks is not hooks)


_: Hooks = report
