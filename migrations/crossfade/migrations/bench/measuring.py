"""Interleaved timing: machines are noisy, so rivals take turns and only ratios are compared."""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: ours beside its floor, in ``unit``, and what the ratio shall not exceed."""

    what: str
    floor: str
    ours_p50: float
    floor_p50: float
    ours_p99: float
    floor_p99: float
    unit: str
    goal: float

    @property
    def ratio(self) -> float:
        """Median against median."""
        return self.ours_p50 / self.floor_p50

    @property
    def reached(self) -> bool:
        """Whether the goal is."""
        return self.ratio <= self.goal


def in_turns(ours: Callable[[], object], floor: Callable[[], object], *, rounds: int, batch: int) -> list[list[float]]:
    """Seconds per call of each, in batches that alternate; the first round of both is thrown away."""
    taken: list[list[float]] = [[], []]
    for number in range(rounds + 1):
        for which, run in enumerate((ours, floor)):
            began = time.perf_counter()
            for _ in range(batch):
                run()
            if number:
                taken[which].append((time.perf_counter() - began) / batch)
    return taken


def quantiles(seconds: Sequence[float], scale: float) -> tuple[float, float]:
    """Median and 99th percentile, times ``scale``."""
    ordered = sorted(seconds)
    return statistics.median(ordered) * scale, ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))] * scale


def row(what: str, floor: str, taken: list[list[float]], *, unit: str, goal: float) -> Row:
    """A row of two series of seconds, shown in ``ns``, ``us`` or ``ms``."""
    scale = {"ns": 1e9, "us": 1e6, "ms": 1e3}[unit]
    (ours_p50, ours_p99), (floor_p50, floor_p99) = (quantiles(series, scale) for series in taken)
    return Row(
        what=what,
        floor=floor,
        ours_p50=ours_p50,
        floor_p50=floor_p50,
        ours_p99=ours_p99,
        floor_p99=floor_p99,
        unit=unit,
        goal=goal,
    )
