"""What a rule may say of a place: a name, and one method that judges the two values there.

A matcher is asked at its path and at every place below, until it decides. Laws, which the engine relies on:
``judge(x, x)`` is never ``different``, and swapping the sides changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

Judgement = Literal["same", "different", "descend"]
"""What a matcher says of two values.

``same`` and ``different`` end the matter there. ``descend``: no opinion, so members are compared one by one and
scalars exactly.
"""

IGNORE: Final = "ignore"
"""The matcher under which whatever differs is counted as ignored."""


class Absent(Enum):
    """The type of ``MISSING``: there is no member or item here, which is not ``null``."""

    MISSING = "missing"


MISSING: Final = Absent.MISSING


class Matcher(Protocol):
    """Judges two values that are not equal scalars; never sees a redacted one."""

    def judge(self, old: Any, new: Any) -> Judgement:
        """What to make of ``old`` and ``new``, of which one may be ``MISSING``. Must not change them.

        Raising, or answering anything else, makes the comparison ``inconclusive(matcher)``.
        """
        ...


class MatcherFactory(Protocol):
    """Builds a matcher from a rule's options."""

    def __call__(self, options: Mapping[str, Any], *, where: str) -> Matcher:
        """The matcher. Raises ``ConfigurationError`` at ``where.<option>``."""
        ...


@dataclass(frozen=True, slots=True)
class _Descend:
    """Has no opinion anywhere; also its own factory, as it takes no options."""

    name: str

    def judge(self, old: Any, new: Any) -> Judgement:  # noqa: ARG002 - the protocol's parameters
        return "descend"

    def __call__(self, options: Mapping[str, Any], *, where: str) -> Matcher:
        for option in options:
            raise ConfigurationError(f"{self.name!r} takes no options", where=f"{where}.{option}")
        return self


MATCHERS: Final[Mapping[str, MatcherFactory]] = MappingProxyType({"exact": _Descend("exact"), IGNORE: _Descend(IGNORE)})
"""The matchers every rule may name."""
