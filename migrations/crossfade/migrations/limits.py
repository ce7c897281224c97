"""What a gate or an abort rule says of one number: ``>= 0.99``, ``> legacy + 1%``, ``<= legacy * 1.5``, ``< 800ms``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, cast

from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

Sign = Literal[">=", ">", "<=", "<"]
Kind = Literal["share", "time"]

_UNITS: Final = {"": 1.0, "%": 0.01, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_NUMBER: Final = r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>%|ms|s|m|h|d)?"
_TEXT: Final = re.compile(rf"(?P<sign>>=|<=|>|<)\s*(?:(?P<legacy>legacy)\s*(?:(?P<by>[*+])\s*)?)?(?:{_NUMBER})?\s*\Z")
_WANTED: Final[Mapping[Kind, str]] = {
    "share": "a number, like {0} 0.99, {0} 99% or {0} legacy + 1%",
    "time": "a time, like {0} 80ms, {0} 2s or {0} legacy * 1.5",
}
_DURATION: Final = re.compile(rf"{_NUMBER}\s*\Z")


@dataclass(frozen=True, slots=True)
class Limit:
    """``sign`` and a number: a share from 0 to 1 or seconds; with ``legacy``, ``legacy * factor + plus``."""

    sign: Sign
    plus: float = 0.0
    legacy: bool = False
    factor: float = 1.0

    def __str__(self) -> str:
        """As a playbook writes it, a share as a plain number."""
        return self.text()

    def text(self, unit: str = "") -> str:
        """As a playbook writes it, with the ``unit`` of its number: a time is one of seconds."""
        if not self.legacy:
            return f"{self.sign} {self.plus:g}{unit}"
        by = f" * {self.factor:g}" if self.factor != 1 else f" + {self.plus:g}{unit}" if self.plus else ""
        return f"{self.sign} legacy{by}"

    def of(self, legacy: float = 0.0) -> float:
        """The number, where legacy's is ``legacy``."""
        return legacy * self.factor + self.plus if self.legacy else self.plus


def parse_limit(text: object, *, signs: Collection[Sign], kind: Kind, where: str) -> Limit:
    """Read a limit of a ``kind`` whose sign is one of ``signs``. Raises ``ConfigurationError`` at ``where``."""
    found = _TEXT.match(text.strip()) if isinstance(text, str) else None
    wanted = f"write {' or '.join(signs)} and {_WANTED[kind].format(next(iter(signs)))}"
    if found is None or found["sign"] not in signs:
        raise ConfigurationError(f"{text!r} is no limit: {wanted}", where=where)
    legacy, by = bool(found["legacy"]), found["by"]
    if not legacy and not found["number"]:
        raise ConfigurationError(f"{text!r} names no number: {wanted}", where=where)
    if legacy and (by is None) != (found["number"] is None):
        raise ConfigurationError(f"{text!r} is no limit: {wanted}", where=where)
    number = float(found["number"] or 0) * _UNITS[found["unit"] or ""]
    if wrong := _misfit("share" if by == "*" else kind, number, found["unit"], factor=by == "*"):
        raise ConfigurationError(f"{text!r} {wrong}: {wanted}", where=where)
    sign = cast("Sign", found["sign"])
    return Limit(sign, 0.0, legacy=True, factor=number) if by == "*" else Limit(sign, number, legacy=legacy)


def _misfit(kind: Kind, number: float, unit: str | None, *, factor: bool) -> str:
    """Why a number is none of ``kind``, or nothing. A guessed unit would be a gate that asks for nothing."""
    if kind == "share":
        if unit not in (None, "%"):
            return "is a time where a share is meant"
        return "" if factor or number <= 1 else "is above 1, which is all calls"
    if not number:
        return ""
    return "is a share where a time is meant" if unit == "%" else "says no unit of time" if unit is None else ""


def parse_duration(text: object, *, where: str) -> float:
    """Seconds from ``90s``, ``5m``, ``1h`` or ``7d``. Raises ``ConfigurationError`` at ``where``."""
    found = _DURATION.match(text.strip()) if isinstance(text, str) else None
    if found is None or found["unit"] == "%":
        raise ConfigurationError(f"{text!r} is no time: write 90s, 5m, 1h or 7d", where=where)
    if found["unit"] is None:
        number = found["number"]
        raise ConfigurationError(
            f"{text!r} says no unit of time: did you mean {number}m? Write 90s, 5m, 1h or 7d", where=where
        )
    return float(found["number"]) * _UNITS[found["unit"] or ""]
