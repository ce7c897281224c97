"""How many requests a data-plane process has answered, for whom, by which path, and how long they took.

Counted where the access log is told, on the event loop: a dictionary's entry and a list's are all that a request costs.
Read by another thread, which tells the bus (``Instance.requests``); what it reads may lack the newest.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .exchange import Exchange
    from .framing import Refusal
    from .headers import Peer

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the buckets, the last but ``+Inf``."""

_NAMES: Final = (*map(str, SECONDS), "+Inf")
_CLASSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")


class Requests:
    """Counts exchanges that are over, and requests that were refused before they became one."""

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str, int], list[int]] = {}
        self._times = {path: [0.0] * (len(_NAMES) + 1) for path in ("legacy", "bus", "local")}  # buckets, and the sum

    def exchange(self, exchange: Exchange, now: float) -> None:
        """Count one that is over at loop time ``now``; a client that left first is 4xx, as in the access log."""
        path, status = exchange.path, 499 if exchange.outcome == "left" else exchange.status
        try:
            self._counts[exchange.seam, path, status][0] += 1
        except KeyError:
            self._counts[exchange.seam, path, status] = [1]
        if status == 101:
            return  # a tunnel lasts as long as its ends like
        seconds, times = now - exchange.started, self._times[path]
        times[bisect_left(SECONDS, seconds)] += 1
        times[-1] += seconds

    def refusal(self, _peer: Peer, refusal: Refusal) -> None:
        """Count a request that never became an exchange."""
        self._counts.setdefault(("-", "local", refusal.status), [0])[0] += 1

    def counts(self) -> Mapping[str, int]:
        """By ``seam path class``: words of a configuration and ours, with spaces between."""
        found: Counter[str] = Counter()
        for (seam, path, status), (n,) in self._counts.copy().items():
            found[f"{seam} {path} {_class(status // 100)}"] += n
        return found

    def seconds(self) -> Mapping[str, Mapping[str, float]]:
        """By path: how many took at most so long (each counted once), and the ``sum`` of all."""
        return {
            path: dict(zip((*_NAMES, "sum"), times, strict=True)) for path, times in self._times.items() if any(times)
        }


def _class(hundreds: int) -> str:
    return _CLASSES[hundreds] if hundreds < len(_CLASSES) else "none"
