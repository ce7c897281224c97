"""Reading a rule's options: each is named where it is wrong, with what it must be."""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, cast

from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


def only(options: Mapping[str, Any], known: Collection[str], *, matcher: str, where: str) -> None:
    """Raise ``ConfigurationError`` for the first option that ``matcher`` does not take."""
    for option in options:
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else f"{matcher!r} takes no options"
            raise ConfigurationError(f"{meant(option, known)}{takes}", where=f"{where}.{option}")


def meant(name: str, known: Collection[str]) -> str:
    """``did you mean ...? `` where something known is near."""
    near = get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}? " if near else ""


def number(options: Mapping[str, Any], name: str, *, where: str, most: float = math.inf) -> float | None:
    """A finite number from 0 to ``most``, ``None`` when it is not given."""
    value: object = options.get(name)
    if value is None and name not in options:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= min(most, 1e300):
        upto = "0 or more" if math.isinf(most) else f"between 0 and {most:g}"
        raise ConfigurationError(f"{value!r} is no number that is {upto}", where=f"{where}.{name}")
    return float(value)


def text(options: Mapping[str, Any], name: str, *, where: str, what: str) -> str:
    """A text that must be given."""
    value: object = options.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"must be {what}", where=f"{where}.{name}")
    return value


def words(value: object, *, where: str, what: str) -> tuple[str, ...]:
    """A word, or a list of words that is not empty."""
    items = cast("list[object]", value) if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, str) and item for item in items):
        raise ConfigurationError(f"must be {what}, not {value!r}", where=where)
    return tuple(cast("list[str]", items))
