"""What a rule may say of a place: a name, and one method that judges the two values there.

A matcher is asked at its path and at every place below, until it decides. Laws, which the engine relies on:
``judge(x, x)`` is never ``different``, and swapping the sides changes nothing. Equal scalars are equal under any rule:
no matcher is asked about them.

    exact      no opinion: what holds where there is no rule
    ignore     no opinion: what differs is counted as ignored
    present    whatever is there on both sides
    type       scalars of one type; objects and lists are looked into
    approx     numbers within ``abs``, or within ``rel`` of the larger
    regex      texts that both match ``pattern`` as a whole
    timestamp  times at most ``within`` seconds apart: ISO 8601 texts, or numbers of seconds
    uuid       texts that are both UUIDs
    set        lists of the same items in any order, however often
    unordered  lists of the same items in any order; with ``key``, items that differ are paired by these members
    semantic   texts that an installed comparator calls equal
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from crossfade.shim.errors import ConfigurationError

from .options import number, only, text, words
from .patterns import Pattern
from .semantic import declared, semantic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Judgement = Literal["same", "different", "descend"]
"""What a matcher says of two values.

``same`` settles all that no stronger rule compares; ``different`` ends the matter there. ``descend``: no opinion, so
members are compared one by one and scalars exactly.
"""

IGNORE: Final = "ignore"
"""The matcher under which whatever differs is counted as ignored."""


SEMANTIC: Final = "semantic"
"""The matcher that leaves the word to a comparator of texts."""


class Absent(Enum):
    """The type of ``MISSING``: there is no member or item here, which is not ``null``."""

    MISSING = "missing"


MISSING: Final = Absent.MISSING


class Matcher(Protocol):
    """Judges two values that are not equal scalars; never sees a redacted one."""

    def judge(self, old: Any, new: Any, /) -> Judgement:
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
class _Plain:
    """A matcher without options, and its own factory."""

    name: str
    judge: Callable[[Any, Any], Judgement]

    def __call__(self, options: Mapping[str, Any], *, where: str) -> Matcher:
        only(options, (), matcher=self.name, where=where)
        return self


def _no_opinion(_old: Any, _new: Any) -> Judgement:
    return "descend"


def _same_type(old: Any, new: Any) -> Judgement:
    """Containers are looked into: an object has a shape."""
    was, now = _kind(old), _kind(new)
    return "same" if was == now and was not in ("list", "object") else "descend"


def _both_there(old: Any, new: Any) -> Judgement:
    return "descend" if old is MISSING or new is MISSING else "same"


def _both_uuids(old: Any, new: Any) -> Judgement:
    if not (isinstance(old, str) and isinstance(new, str)):
        return "descend"
    return "same" if _uuid(old) and _uuid(new) else "different"


@dataclass(frozen=True, slots=True)
class _Approx:
    """Numbers at most ``absolute`` apart, or ``relative`` of the larger one."""

    absolute: float
    relative: float

    def judge(self, old: Any, new: Any) -> Judgement:
        if not (_kind(old) == _kind(new) == "number"):
            return "descend"
        try:
            close = math.isclose(old, new, rel_tol=self.relative, abs_tol=self.absolute)
        except OverflowError:  # an integer beyond what a float holds
            return "descend"
        return "same" if close else "different"


def _approx(options: Mapping[str, Any], *, where: str) -> Matcher:
    only(options, ("abs", "rel"), matcher="approx", where=where)
    absolute, relative = number(options, "abs", where=where), number(options, "rel", where=where, most=1)
    if not (absolute or relative):
        raise ConfigurationError("say abs = 0.01 (how far apart) or rel = 0.05 (a share), or both", where=where)
    return _Approx(absolute or 0.0, relative or 0.0)


@dataclass(frozen=True, slots=True)
class _Regex:
    """Texts that both match."""

    pattern: Pattern

    def judge(self, old: Any, new: Any) -> Judgement:
        if not (isinstance(old, str) and isinstance(new, str)):
            return "descend"
        return "same" if self.pattern.matches(old) and self.pattern.matches(new) else "different"


def _regex(options: Mapping[str, Any], *, where: str) -> Matcher:
    only(options, ("pattern",), matcher="regex", where=where)
    said = text(options, "pattern", where=where, what="the regular expression that the whole text must match")
    try:
        return _Regex(Pattern(said))
    except ValueError as error:
        raise ConfigurationError(f"{said!r} cannot be used: {error}", where=f"{where}.pattern") from None


@dataclass(frozen=True, slots=True)
class _Timestamp:
    """Times of which the later is at most ``within`` seconds after the other."""

    within: float

    def judge(self, old: Any, new: Any) -> Judgement:
        was, now = _seconds(old), _seconds(new)
        if was is None or now is None:
            return "descend" if was is now else "different"
        if was[1] != now[1]:
            return "different"
        return "same" if abs(was[0] - now[0]) <= self.within else "different"


def _timestamp(options: Mapping[str, Any], *, where: str) -> Matcher:
    only(options, ("within",), matcher="timestamp", where=where)
    within = number(options, "within", where=where)
    if within is None:
        raise ConfigurationError("must be the seconds that two times may be apart", where=f"{where}.within")
    return _Timestamp(within)


@dataclass(frozen=True, slots=True)
class AnyOrder:
    """Lists whose order says nothing; the walk pairs their items (see ``unordered``).

    ``key``: the members by which items that differ are paired. Not ``repeats``: how often says nothing either.
    """

    key: tuple[str, ...] = ()
    repeats: bool = True

    def judge(self, old: Any, new: Any) -> Judgement:  # noqa: ARG002 - the protocol's
        """No opinion: the items have one."""
        return "descend"


def _set(options: Mapping[str, Any], *, where: str) -> Matcher:
    only(options, (), matcher="set", where=where)
    return AnyOrder(repeats=False)


def _unordered(options: Mapping[str, Any], *, where: str) -> Matcher:
    only(options, ("key",), matcher="unordered", where=where)
    if "key" not in options:
        return AnyOrder()
    return AnyOrder(key=words(options["key"], where=f"{where}.key", what="a member's name, or a list of names"))


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    for kind, name in ((str, "text"), (list, "list"), (dict, "object"), (type(None), "null")):
        if isinstance(value, kind):
            return name
    return "missing"


def _seconds(value: Any) -> tuple[float, str] | None:
    """A time as seconds on a scale of its own kind; ``None`` for what is none."""
    if _kind(value) == "number":
        return (float(value), "number") if abs(value) < _LAST_SECOND else None
    if not isinstance(value, str) or len(value) > _LONGEST_TIME:
        return None
    try:
        read = datetime.fromisoformat(value.strip().upper())
        zoned = read if read.tzinfo else read.replace(tzinfo=UTC)
        return (zoned - _EPOCH).total_seconds(), "zoned" if read.tzinfo else "local"
    except (ValueError, OverflowError):
        return None


_uuid = re.compile(
    r"(?:urn:uuid:)?[0-9a-fA-F]{8}(-?)[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{4}\1[0-9a-fA-F]{12}"
).fullmatch
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_SECOND: Final = 1e15
_LONGEST_TIME: Final = 64  # characters

_MATCHERS: Final[dict[str, MatcherFactory]] = {
    "approx": _approx,
    "exact": _Plain("exact", _no_opinion),
    IGNORE: _Plain(IGNORE, _no_opinion),
    "present": _Plain("present", _both_there),
    "regex": _regex,
    "set": _set,
    "timestamp": _timestamp,
    "type": _Plain("type", _same_type),
    "unordered": _unordered,
    "uuid": _Plain("uuid", _both_uuids),
}

MATCHERS: Final[Mapping[str, MatcherFactory]] = MappingProxyType({**_MATCHERS, SEMANTIC: semantic})
"""The matchers every rule may name."""

WELL_FORMED: Final[Mapping[str, MatcherFactory]] = MappingProxyType({**_MATCHERS, SEMANTIC: declared})
"""The same for who keeps rules and does not compare: it needs no comparator installed."""
