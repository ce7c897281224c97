"""Which differences count: an ordered set of rules, each a path and a matcher.

    [compare]
    "$..request_id" = "ignore"
    "$.meta" = "ignore"
    "$.meta.version" = "exact"
    "$.hits[*].title" = {matcher = "exact", normalise = ["strip", "casefold"]}

Rule 1: a rule holds at its path and below it.
Rule 2: where several hold, the one that names more (names and indexes) wins; then the one with fewer ``..``;
then the longer; then the earlier. So ``$.meta.version`` beats ``$.meta``, which beats ``$..id``, which beats ``$``.
Rule 3: where none holds, values are compared exactly.
Rule 4: how a call ended (value or error) is under no rule.
"""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import ConfigurationError

from .matchers import IGNORE, MATCHERS, SEMANTIC, AnyOrder, Matcher, MatcherFactory
from .normalising import Step, read_steps
from .options import meant
from .paths import Path, parse_path

if TYPE_CHECKING:
    from collections.abc import Mapping

_NORMALISE: Final = "normalise"


@dataclass(frozen=True, slots=True)
class Rule:
    """One path and what is said of it. Raises ``ConfigurationError`` when built, under ``where``.

    ``matcher`` is a name in ``matchers``; ``options`` are its own, beside ``normalise``. ``place``, ``steps`` and
    ``judge`` are made of them.
    """

    path: str
    matcher: str
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    where: InitVar[str] = ""
    matchers: InitVar[Mapping[str, MatcherFactory]] = MATCHERS
    place: Path = field(init=False, repr=False, compare=False)
    steps: tuple[Step, ...] = field(init=False, repr=False, compare=False)
    judge: Matcher = field(init=False, repr=False, compare=False)

    def __post_init__(self, where: str, matchers: Mapping[str, MatcherFactory]) -> None:
        where = where or f'"{self.path}"'
        place = parse_path(self.path, where=where)
        factory = matchers.get(self.matcher)
        if factory is None:
            known = sorted(matchers)
            raise ConfigurationError(
                f"there is no matcher {self.matcher!r}; {meant(self.matcher, known)}known are {', '.join(known)}",
                where=where,
            )
        own = dict(self.options)
        object.__setattr__(self, "place", place)
        object.__setattr__(self, "options", MappingProxyType(dict(own)))
        object.__setattr__(self, "steps", self._read_steps(own, where))
        object.__setattr__(self, "judge", factory(MappingProxyType(own), where=where))

    def _read_steps(self, own: dict[str, Any], where: str) -> tuple[Step, ...]:
        """Take ``normalise`` out of a matcher's ``own`` options."""
        if _NORMALISE not in own or self.matcher == IGNORE:
            return ()
        return read_steps(own.pop(_NORMALISE), where=f"{where}.{_NORMALISE}")

    @property
    def ignores(self) -> bool:
        """Whether what differs under it is only counted."""
        return self.matcher == IGNORE

    @property
    def has_opinion(self) -> bool:
        """Whether scalars that differ may be the same under it."""
        return not (self.ignores or self.matcher == "exact" or isinstance(self.judge, AnyOrder))

    @property
    def is_semantic(self) -> bool:
        """Whether a comparator of texts decides under it."""
        return self.matcher == SEMANTIC

    @property
    def settles(self) -> bool:
        """Whether it settles objects and lists as a whole."""
        return self.matcher == "present"


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one comparison, in order. A path may stand there once, else ``ConfigurationError``."""

    rules: tuple[Rule, ...] = ()

    def __post_init__(self) -> None:
        seen: set[Path] = set()
        for rule in self.rules:
            if rule.place in seen:
                raise ConfigurationError("this path has a rule already", where=f'"{rule.path}"')
            seen.add(rule.place)

    @classmethod
    def parse(cls, data: object, *, where: str = "compare", matchers: Mapping[str, MatcherFactory] = MATCHERS) -> Rules:
        """Read a table of paths, as TOML or JSON give it.

        A path's value is a matcher's name or a table of ``matcher`` and its options. Raises
        ``ConfigurationError`` that names the dotted place: ``compare."$.hits[*].score".matcher``.
        """
        rules = [
            _rule(path, said, where=f'{where}."{path}"', matchers=matchers)
            for path, said in _table(data, where=where).items()
        ]
        return cls(tuple(rules))

    def with_semantic_as(self, matcher: str) -> Rules:
        """The same rules, where those that a comparator of texts decides say ``matcher``, which takes no options."""
        return Rules(tuple(Rule(rule.path, matcher) if rule.is_semantic else rule for rule in self.rules))

    def to_json(self) -> dict[str, Any]:
        """What ``parse`` reads back."""
        return {
            rule.path: {"matcher": rule.matcher, **rule.options} if rule.options else rule.matcher
            for rule in self.rules
        }


def _rule(path: str, said: object, *, where: str, matchers: Mapping[str, MatcherFactory]) -> Rule:
    if isinstance(said, str):
        return Rule(path, said, where=where, matchers=matchers)
    table = dict(_table(said, where=where, what="a matcher's name or a table"))
    name = table.pop("matcher", None)
    if not isinstance(name, str):
        known = ", ".join(sorted(matchers))
        raise ConfigurationError(f"must be the name of a matcher: {known}", where=f"{where}.matcher")
    return Rule(path, name, table, where=where, matchers=matchers)


def _table(data: object, *, where: str, what: str = "a table of paths") -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ConfigurationError(f"must be {what}, not {data!r}", where=where)
    for key in cast("dict[object, object]", data):
        if not isinstance(key, str):
            raise ConfigurationError(f"has a key that is no text: {key!r}", where=where)
    return cast("dict[str, Any]", data)
