"""Ids that today's code makes anew, matched with those it made then, so that what they chain still matches. Pure.

An id is a UUID (with or without dashes) or a ULID, alone or inside a text; nothing else is taken for one. What was
learnt from one pair holds for the rest of the call, and for later calls of the same run.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ID: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}|[0-9a-fA-F]{32}|[0-7][0-9A-HJKMNP-TV-Z]{25})"
    r"(?![0-9A-Za-z])"
)

Pairs: TypeAlias = "list[tuple[str, str]]"


class IdMap:
    """Which recorded id each id of the replay stands for; one to one."""

    def __init__(self) -> None:
        self._recorded: dict[str, str] = {}  # by the replay's
        self._replayed: dict[str, str] = {}  # by the recorded

    def __len__(self) -> int:
        return len(self._recorded)

    def fits(self, recorded: Any, replayed: Any) -> Pairs | None:
        """The pairs of ids in which the two differ; ``None`` when they differ in anything else."""
        pairs: Pairs = []
        if not _pair(recorded, replayed, pairs):
            return None
        chosen, taken = dict(self._replayed), dict(self._recorded)
        for old, new in pairs:
            if chosen.setdefault(old, new) != new or taken.setdefault(new, old) != old:
                return None
        return pairs

    def learn(self, pairs: Pairs) -> None:
        """Remember what ``fits`` found."""
        for old, new in pairs:
            if old != new:
                self._replayed[old] = new
                self._recorded[new] = old

    def to_replayed(self, value: Any) -> Any:
        """A JSON-like value of the record as the replay knows its ids."""
        return _translated(value, self._replayed) if self._replayed else value

    def to_recorded(self, value: Any) -> Any:
        """A JSON-like value of the replay with the ids of the record."""
        return _translated(value, self._recorded) if self._recorded else value


def _pair(old: Any, new: Any, pairs: Pairs) -> bool:
    """Whether two JSON-like values are the same but for ids; those, and equal ones, are added to ``pairs``."""
    if isinstance(old, str) and isinstance(new, str):
        if _ID.split(old) != _ID.split(new):
            return False
        pairs += zip(_ID.findall(old), _ID.findall(new), strict=True)
        return True
    if isinstance(old, dict) and isinstance(new, dict):
        before, after = cast("dict[str, Any]", old), cast("dict[str, Any]", new)
        return before.keys() == after.keys() and all(_pair(before[name], after[name], pairs) for name in before)
    if isinstance(old, list) and isinstance(new, list):
        first, second = cast("Sequence[Any]", old), cast("Sequence[Any]", new)
        return len(first) == len(second) and all(_pair(a, b, pairs) for a, b in zip(first, second, strict=True))
    return bool(old == new) and isinstance(old, bool) is isinstance(new, bool)


def _translated(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _ID.sub(lambda found: ids.get(found[0], found[0]), value)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {name: _translated(member, ids) for name, member in members.items()}
    return [_translated(item, ids) for item in cast("Sequence[Any]", value)] if isinstance(value, list) else value
