"""Values as short text for people, at a cost that does not grow with the value."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, cast

from .matchers import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from crossfade.shim.outcomes import ErrorRecord

LENGTH: Final = 200  # characters of one rendering

_LEVELS: Final = 3
_WIDTH: Final = 8  # members or items shown of one container
_BITS: Final = 1024  # beyond this Python may refuse to write an integer


def shorten(value: Any) -> str:
    """``value`` as JSON, cut with ``…``; empty for what is missing."""
    return "" if value is MISSING else cut(_render(value, _LEVELS))


def shorten_error(error: ErrorRecord | None) -> str:
    """An error's type and message, cut."""
    return cut(f"{error.type}: {error.message[:LENGTH]}") if error else ""


def cut(text: str) -> str:
    """``text`` of 200 characters at most."""
    return text if len(text) <= LENGTH else f"{text[: LENGTH - 1]}…"


def _render(value: Any, levels: int) -> str:
    if isinstance(value, str):
        return json.dumps(value if len(value) <= LENGTH else f"{value[:LENGTH]}…", ensure_ascii=False)
    if isinstance(value, list):
        items = cast("Sequence[Any]", value)
        return _container("[]", (_render(item, levels - 1) for item in items), len(items), levels)
    if isinstance(value, dict):
        members = cast("Mapping[Any, Any]", value)
        shown = (f"{_render(name, 0)}: {_render(member, levels - 1)}" for name, member in members.items())
        return _container("{}", shown, len(members), levels)
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"an integer of {value.bit_length()} bits"
    return json.dumps(value) if isinstance(value, int | float | None) else f"a Python {type(value).__name__}"


def _container(brackets: str, parts: Iterator[str], size: int, levels: int) -> str:
    if levels <= 0 and size:
        return f"{brackets[0]}…{brackets[1]}"
    shown = [*islice(parts, _WIDTH), *(["…"] if size > _WIDTH else [])]
    return f"{brackets[0]}{', '.join(shown)}{brackets[1]}"
