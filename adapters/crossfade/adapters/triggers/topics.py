"""Which topics are read, and whose facts their messages become. Pure.

``plants/{tenant}/+/{user}/#`` reads what ``plants/+/+/+/#`` does; two of the levels say whose a message is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from crossfade.shim.errors import ConfigurationError

_NAMED: Final = ("{tenant}", "{user}")


@dataclass(frozen=True, slots=True)
class Topics:
    """A pattern of topics. Raises ``ConfigurationError`` naming what is wrong in it."""

    pattern: str
    _levels: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        levels = tuple(self.pattern.split("/"))
        for at, level in enumerate(levels):
            if level == "#" and at == len(levels) - 1:
                continue
            if level not in ("+", *_NAMED) and set("+#{}\x00") & set(level):
                raise ConfigurationError(
                    f"{self.pattern!r}: {level!r} is no level; use a word, +, {{tenant}} or {{user}}, and a last #",
                    where="topics",
                )
        if not self.pattern or any(levels.count(name) > 1 for name in _NAMED) or self.pattern.startswith("$"):
            raise ConfigurationError(
                f"{self.pattern!r} is no pattern of topics: write one like devices/{{tenant}}/#", where="topics"
            )
        object.__setattr__(self, "_levels", levels)

    @property
    def filter(self) -> str:
        """What the broker is asked for."""
        return "/".join("+" if level in _NAMED else level for level in self._levels)

    def match(self, topic: str) -> dict[str, str] | None:
        """What ``topic`` says of ``tenant`` and ``user``, ``None`` when it is none of these."""
        given = topic.split("/")
        found: dict[str, str] = {}
        for at, level in enumerate(self._levels):
            if level == "#":
                return found
            if at >= len(given) or level not in ("+", *_NAMED, given[at]):
                return None
            if level in _NAMED:
                found[level[1:-1]] = given[at]
        return found if len(given) == len(self._levels) else None
