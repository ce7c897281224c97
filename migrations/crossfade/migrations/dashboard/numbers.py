"""Numbers as a page shows them: rounded to what is known, always with their unit. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

NOTHING: Final = "\u2013"
SPACE: Final = "\u202f"  # narrow, unbroken: between a number and its unit
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def percent(share: float | None) -> str:
    """A share from 0 to 1, with more digits the nearer it is to either end: 99.98 % is not 99.9 %."""
    if share is None:
        return NOTHING
    distance = min(share, 1 - share)
    digits = 0 if distance == 0 else 2 if distance < 0.01 else 1
    return f"{100 * share:.{digits}f}{SPACE}%"


def seconds(value: float | None) -> str:
    """A latency, three digits of it."""
    if value is None:
        return NOTHING
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{_three(value / size)}{SPACE}{unit}"
    return f"{_three(value / 1e-6)}{SPACE}µs"


def count(value: float | None) -> str:
    """How many."""
    return NOTHING if value is None else f"{value:,.0f}"


def span(value: float | None) -> str:
    """How long something lasts, in the two largest units that matter."""
    if value is None:
        return NOTHING
    whole = max(0, int(value))
    if whole < _MINUTE:
        return f"{whole}{SPACE}s"
    if whole < _HOUR:
        return _two(whole, _MINUTE, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, _HOUR, "h", _MINUTE, "min")
    return _two(whole, _DAY, "d", _HOUR, "h")


def ago(moment: datetime | None, now: datetime) -> str:
    """How long ago that was."""
    if moment is None:
        return "never"
    return f"{span((now - moment) / timedelta(seconds=1))} ago"


def change(old: float | None, new: float | None) -> str:
    """By how much ``new`` differs from ``old``, in percent; empty when either is unknown."""
    if not old or new is None:
        return ""
    by = 100 * (new - old) / old
    sign = "+" if by > 0 else "\u2212"
    return "same" if abs(by) < 1 else f"{sign}{abs(by):,.0f}{SPACE}%"


def _three(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _two(value: int, large: int, large_unit: str, small: int, small_unit: str) -> str:
    rest = value % large // small
    return f"{value // large}{SPACE}{large_unit}" + (f" {rest}{SPACE}{small_unit}" if rest else "")
