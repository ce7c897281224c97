"""Windows of requests: proxies take turns on one core while their callers have another, as in ``measuring``."""

from __future__ import annotations

import math
import os
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from crossfade.shim.errors import CrossfadeError

from . import wrk
from .environments import PeerUnavailableError
from .measuring import Figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .fronts import Front
    from .wrk import Load, Window

_SHORT: Final = 2  # seconds of a window
_LONG: Final = 10
_EACH: Final = 8  # answers per connection that a window shall hold


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Where the proxies run, and where callers and service do."""

    proxy: int
    load: int


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One window of a proxy: what its callers saw, and CPU seconds per answer."""

    seen: Window
    cpu: float


def cores() -> Cores:
    """Two cores of those that this process may use. Raises ``CrossfadeError``."""
    usable = sorted(os.sched_getaffinity(0)) if sys.platform == "linux" else []
    if len(usable) < 2:
        raise CrossfadeError(
            "bench proxy needs Linux and two cores: the proxies get one, callers and service the other"
        )
    return Cores(proxy=usable[-1], load=usable[0])


def in_turns(running: Sequence[Front], load: Load, cores: Cores, *, rounds: int) -> dict[str, list[Taken] | str]:
    """What each took in windows that alternate, or why that means nothing; the first round is thrown away.

    That round says how fast each is: a window holds eight answers per connection, or ten seconds.
    """
    taken: dict[str, list[Taken] | str] = {front.name: [] for front in running}
    seconds = dict.fromkeys(taken, first_window(load))
    for number in range(rounds + 1):
        for front in running:
            series = taken[front.name]
            if isinstance(series, str):
                continue
            try:
                one = _window(front, load, cores, seconds[front.name])
            except PeerUnavailableError as error:
                taken[front.name] = str(error)
                continue
            if number:
                series.append(one)
            else:
                seconds[front.name] = window_for(one.seen, load)
    return taken


def first_window(load: Load) -> int:
    """How many seconds most proxies need for one answer on each connection: a quarter of a gigabyte in each."""
    return min(_LONG, max(_SHORT, math.ceil(load.size * load.connections / 250e6)))


def window_for(seen: Window, load: Load) -> int:
    """How many seconds give what is seen like this enough answers."""
    return min(_LONG, max(_SHORT, math.ceil(_EACH * load.connections / seen.rate)))


def _window(front: Front, load: Load, cores: Cores, seconds: int) -> Taken:
    before = front.cpu()
    seen = wrk.window(load, port=front.port, core=cores.load, seconds=seconds)
    return Taken(seen=seen, cpu=(front.cpu() - before) / seen.answers)


def cpu(taken: Sequence[Taken]) -> Figures:
    """CPU time per answer in microseconds: the median window."""
    used = statistics.median(one.cpu for one in taken) * 1e6
    return Figures(p50=used, p99=None, cpu=used)


def rate(taken: Sequence[Taken]) -> Figures:
    """Answers per second: the median window."""
    return Figures(p50=statistics.median(one.seen.rate for one in taken), p99=None, cpu=None)


def latency(taken: Sequence[Taken]) -> Figures:
    """The windows' median and 99th percentile in milliseconds: of each, the median window."""
    p50, p99 = (statistics.median(getattr(one.seen, name) for one in taken) * 1e3 for name in ("p50", "p99"))
    return Figures(p50=p50, p99=p99, cpu=None)
