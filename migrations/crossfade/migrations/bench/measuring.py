"""Interleaved timing: machines are noisy, so rivals take turns and only ratios are compared."""

from __future__ import annotations

import asyncio
import math
import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

Unit = Literal["ns", "us", "ms", "/s"]
_SCALES: Final[dict[Unit, float]] = {"ns": 1e9, "us": 1e6, "ms": 1e3}


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One side of a row: median and 99th percentile in the row's unit, CPU time per operation in us.

    ``p99`` is ``None`` where whole batches were timed, ``cpu`` where the system does not tell it.
    """

    p50: float
    p99: float | None
    cpu: float | None


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table: ours and what it is measured beside, which ``None`` in ``theirs`` leaves out.

    ``goal``: the ratio shall be at most this; for rates (``/s``) at least. ``None``: no goal, only reported.
    ``tail``: the 99th percentile shall reach it, too; without ``median``, it alone.
    """

    what: str
    beside: str
    unit: Unit
    ours: Figures
    theirs: Figures | None = None
    goal: float | None = None
    tail: bool = False
    median: bool = True

    @property
    def ratio(self) -> float | None:
        """Our median by theirs."""
        return self.ours.p50 / self.theirs.p50 if self.theirs else None

    @property
    def ratio_p99(self) -> float | None:
        """Our 99th percentile by theirs."""
        ours, theirs = self.ours.p99, self.theirs.p99 if self.theirs else None
        return ours / theirs if ours is not None and theirs is not None else None

    @property
    def reached(self) -> bool | None:
        """Whether the goal is; ``None`` without one."""
        if self.goal is None or self.ratio is None:
            return None
        if self.unit == "/s":
            return self.ratio >= self.goal
        return (not self.median or self.ratio <= self.goal) and (
            not self.tail or (self.ratio_p99 or math.inf) <= self.goal
        )


@dataclass(frozen=True, kw_only=True)
class Unmeasured:
    """A line of the table that has no figures: ``reason`` says what is missing and how to get it."""

    what: str
    beside: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of two rivals: ``run(n)`` does n operations, its seconds each; ``cpu()`` is what its processes used so far.

    ``run`` may time the whole batch and return one average.
    """

    run: Callable[[int], list[float]]
    cpu: Callable[[], float]


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one side took: seconds of operations, and CPU seconds per operation (nan: not known)."""

    seconds: Sequence[float]
    cpu: float


def in_turns(*sides: Side, rounds: int, batch: int) -> list[Taken]:
    """What each side took, in batches that alternate; the first round of each is thrown away."""
    seconds: list[list[float]] = [[] for _ in sides]
    spent = [0.0] * len(sides)
    for number in range(rounds + 1):
        for which, side in enumerate(sides):
            before = side.cpu()
            taken = side.run(batch)
            if number:
                seconds[which] += taken
                spent[which] += side.cpu() - before
    return [Taken(seconds=series, cpu=cpu / (rounds * batch)) for series, cpu in zip(seconds, spent, strict=True)]


def batched(call: Callable[[], object]) -> Callable[[int], list[float]]:
    """The average of the batch, for calls shorter than reading the clock."""

    def run(n: int) -> list[float]:
        began = time.perf_counter()
        for _ in range(n):
            call()
        return [(time.perf_counter() - began) / n]

    return run


def each(call: Callable[[], object]) -> Callable[[int], list[float]]:
    """Each call timed by itself."""

    def run(n: int) -> list[float]:
        taken: list[float] = []
        for _ in range(n):
            began = time.perf_counter()
            call()
            taken.append(time.perf_counter() - began)
        return taken

    return run


def awaited(runner: asyncio.Runner, call: Callable[[], Awaitable[Any]]) -> Callable[[int], list[float]]:
    """Each call timed by itself, one after the other on the runner's loop."""

    async def calls(n: int) -> list[float]:
        taken: list[float] = []
        for _ in range(n):
            began = time.perf_counter()
            await call()
            taken.append(time.perf_counter() - began)
        return taken

    return lambda n: runner.run(calls(n))


def in_flight(runner: asyncio.Runner, call: Callable[[], Awaitable[Any]], width: int) -> Callable[[int], list[float]]:
    """The batch's seconds by its calls, with ``width`` of them under way at any moment."""

    async def calls(n: int) -> list[float]:
        numbers = iter(range(n))

        async def one_after_the_other() -> None:
            for _ in numbers:
                await call()

        began = time.perf_counter()
        await asyncio.gather(*(one_after_the_other() for _ in range(width)))
        return [(time.perf_counter() - began) / n]

    return lambda n: runner.run(calls(n))


def row(
    what: str, beside: str, taken: Sequence[Taken], *, unit: Unit, goal: float | None = None, tail: bool = False
) -> Row:
    """A row of what ours took and, unless it stands alone, the other side."""
    ours, *theirs = (_figures(side, unit) for side in taken)
    return Row(
        what=what, beside=beside, unit=unit, ours=ours, theirs=theirs[0] if theirs else None, goal=goal, tail=tail
    )


def _figures(taken: Taken, unit: Unit) -> Figures:
    cpu = None if math.isnan(taken.cpu) else taken.cpu * 1e6
    middle = statistics.median(taken.seconds)
    if unit == "/s":
        return Figures(p50=1 / middle, p99=None, cpu=cpu)
    ordered = sorted(taken.seconds)
    p99 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]
    return Figures(p50=middle * _SCALES[unit], p99=p99 * _SCALES[unit], cpu=cpu)
