"""Where the marks of a chart lie: coordinates for SVG, from numbers. Pure; the template draws.

Attributes only, no ``style``: the page's policy allows none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import numbers, saying

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossfade.migrations.evidence import PathName, Traffic
    from crossfade.migrations.gates import Finding

WIDTH: Final = 240
_PAD: Final = 1.15  # the scale ends a little beyond what it shows


@dataclass(frozen=True, kw_only=True, slots=True)
class BoundBar:
    """A number within its bounds, beside the limit it must keep to; all of it x coordinates from 0 to ``WIDTH``."""

    low: float
    high: float
    seen: float
    limit: float | None
    left: str
    right: str


def bound_bar(finding: Finding) -> BoundBar | None:
    """How a finding is drawn; ``None`` for one without a number."""
    if finding.seen is None:
        return None
    low = finding.seen if finding.low is None else finding.low
    high = finding.seen if finding.high is None else finding.high
    ends = [value for value in (low, high, finding.seen, finding.limit) if value is not None and value != float("inf")]
    if finding.metric in ("match", "coverage"):
        start, end = max(0.0, 1 - (1 - min(ends)) * _PAD), 1.0
    else:
        start, end = 0.0, max(ends) * _PAD
        end = min(1.0, end) if finding.metric in saying.SHARES else end
    size = (end - start) or 1.0

    def place(value: float) -> float:
        return round(WIDTH * min(1.0, max(0.0, (value - start) / size)), 1)

    return BoundBar(
        low=place(low if finding.low is not None else start),
        high=place(high),
        seen=place(finding.seen),
        limit=None if finding.limit is None else place(finding.limit),
        left=saying.shown(finding.metric, start),
        right=saying.shown(finding.metric, end),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class LatencyBar:
    """One path's latency: a bar from its median to its p99. x coordinates from 0 to ``WIDTH``."""

    path: PathName
    calls: str
    median: float
    tail: float
    p50: str
    p99: str


def latency_bars(paths: Mapping[PathName, Traffic]) -> list[LatencyBar]:
    """Every path that has calls, on one scale from 0."""
    found: dict[PathName, tuple[int, float, float]] = {
        path: (traffic.latency.count, traffic.latency.quantile(0.5) or 0.0, traffic.latency.quantile(0.99) or 0.0)
        for path, traffic in paths.items()
        if traffic.latency.count
    }
    end = max((p99 for _, _, p99 in found.values()), default=1.0) or 1.0
    return [
        LatencyBar(
            path=path,
            calls=numbers.count(calls),
            median=round(WIDTH * p50 / end, 1),
            tail=round(WIDTH * p99 / end, 1),
            p50=numbers.seconds(p50),
            p99=numbers.seconds(p99),
        )
        for path, (calls, p50, p99) in found.items()
    ]


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One path's p99 by minute: ``points`` of an SVG polyline, and its last point."""

    path: PathName
    points: str
    x: float
    y: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """Lines over the minutes shown; ``top`` is what the upper edge stands for."""

    lines: list[Line]
    top: str
    minutes: int


CHART_HEIGHT: Final = 96
CHART_WIDTH: Final = 560
_INSET: Final = 6


def latency_chart(minutes: Mapping[int, Mapping[PathName, Traffic]], shown: Sequence[PathName]) -> Chart | None:
    """p99 minute by minute; ``None`` below two minutes, which make no line."""
    if len(minutes) < 2:
        return None
    first, last = min(minutes), max(minutes)
    series: dict[PathName, list[tuple[int, float]]] = {}
    for minute, paths in sorted(minutes.items()):
        for path in shown:
            p99 = paths[path].latency.quantile(0.99) if path in paths else None
            if p99 is not None:
                series.setdefault(path, []).append((minute, p99))
    top = max((value for points in series.values() for _, value in points), default=0.0) * _PAD
    if not top:
        return None

    def place(minute: int, value: float) -> tuple[float, float]:
        x = _INSET + (CHART_WIDTH - 2 * _INSET) * (minute - first) / (last - first)
        return round(x, 1), round(CHART_HEIGHT - (CHART_HEIGHT - _INSET) * value / top, 1)

    lines: list[Line] = []
    for path, points in series.items():
        placed = [place(*point) for point in points]
        lines.append(Line(path=path, points=" ".join(f"{x},{y}" for x, y in placed), x=placed[-1][0], y=placed[-1][1]))
    return Chart(lines=lines, top=numbers.seconds(top), minutes=last - first)
