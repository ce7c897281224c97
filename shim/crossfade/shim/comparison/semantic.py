"""Texts compared by meaning: by a comparator that a package brings under the entry points ``crossfade.comparators``.

    {matcher = "semantic", by = "local", at_least = 0.8}

A comparator is ``(old_text, new_text, options) -> bool | float``: a verdict, or a score from 0 to 1. It must say the
same with the texts swapped, and 1 or ``True`` of equal ones. ``options`` are the rule's others. No budget bounds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

from crossfade.shim.errors import ConfigurationError

from .options import number, text

if TYPE_CHECKING:
    from .matchers import Judgement, Matcher

GROUP: Final = "crossfade.comparators"

TextComparator = Callable[[str, str, Mapping[str, Any]], bool | float]
"""Judges two texts: equal or not, or how alike from 0 to 1."""

_ENOUGH: Final = 0.8


@dataclass(frozen=True, slots=True)
class _Semantic:
    """Asks a comparator about texts."""

    ask: TextComparator
    options: Mapping[str, Any]
    at_least: float

    def judge(self, old: Any, new: Any) -> Judgement:
        if not (isinstance(old, str) and isinstance(new, str)):
            return "descend"
        answer: Any = self.ask(old, new, self.options)
        if isinstance(answer, bool):
            return "same" if answer else "different"
        if not isinstance(answer, int | float) or not 0 <= answer <= 1:
            raise TypeError(f"a comparator answered {answer!r}, neither a bool nor a score from 0 to 1")
        return "same" if answer >= self.at_least else "different"


@dataclass(frozen=True, slots=True)
class _Declared:
    """A rule that is kept and not asked."""

    def judge(self, old: Any, new: Any) -> Literal["descend"]:  # noqa: ARG002 - the protocol's
        raise ConfigurationError("this rule was read to be kept: read it with MATCHERS to compare by it")


def semantic(options: Mapping[str, Any], *, where: str) -> Matcher:
    """The matcher. Raises ``ConfigurationError`` when no installed package has the comparator."""
    name, at_least, others = _read(options, where)
    return _Semantic(_load(name, where), others, at_least)


def declared(options: Mapping[str, Any], *, where: str) -> Matcher:
    """A stand-in for who keeps rules and does not compare; checks all but the comparator itself."""
    _read(options, where)
    return _Declared()


def _read(options: Mapping[str, Any], where: str) -> tuple[str, float, Mapping[str, Any]]:
    name = text(options, "by", where=where, what="the name of a comparator")
    at_least = number(options, "at_least", where=where, most=1)
    others = {option: value for option, value in options.items() if option not in ("by", "at_least")}
    return name, _ENOUGH if at_least is None else at_least, MappingProxyType(others)


def _load(name: str, where: str) -> TextComparator:
    found = _installed()
    if name not in found:
        known = f"installed are {', '.join(sorted(found))}" if found else "none is installed"
        raise ConfigurationError(
            f"no comparator {name!r}; {known}: install a package with the entry point {name!r} in {GROUP!r} "
            "where comparisons run",
            where=f"{where}.by",
        )
    try:
        loaded: TextComparator = found[name]()
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"the comparator {name!r} cannot be loaded: {type(error).__name__}: {error}", where=f"{where}.by"
        ) from error
    return loaded


@cache
def _installed() -> dict[str, Callable[[], Any]]:
    """How to load each comparator; looking for them reads every installed package's metadata, so once."""
    return {entry.name: entry.load for entry in entry_points(group=GROUP)}
