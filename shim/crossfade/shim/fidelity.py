"""Whether what arrived is what was sent: stricter than ``==``, which takes True for 1 and sees what a class lets it.

A bus must not change a value silently, so in doubt two values are not the same.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
from collections import defaultdict, deque
from datetime import datetime, time
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

_ABSENT: Final = object()


def is_same(arrived: Any, sent: Any, *, set_fields: bool = False) -> bool:
    """Whether ``arrived`` may stand for ``sent``: equal and of the same types, all the way in.

    A whole number is a float to whoever asks for one. A moment has its offset, too, and a zone whose offset changes
    with the season is not an offset. ``set_fields``: models were given the same fields (``model_fields_set``), too.
    """
    if type(arrived) is not type(sent):
        return type(arrived) is float and type(sent) is int and arrived == sent
    for kinds, compare in _COMPARE:
        if isinstance(arrived, kinds):
            return compare(arrived, sent, set_fields)
    if dataclasses.is_dataclass(arrived):
        return _is_same_mapping(_in_dataclass(arrived), _in_dataclass(sent), set_fields)
    return _is_same_leaf(arrived, sent)


def _is_same_leaf(arrived: Any, sent: Any) -> bool:
    if isinstance(arrived, float) and math.isnan(arrived):
        return math.isnan(sent)
    try:
        equal = bool(arrived == sent)
    except Exception:
        return False  # a type that cannot be compared cannot be known to arrive unchanged
    if isinstance(arrived, datetime | time) and sent.tzinfo is not None:
        return equal and arrived.utcoffset() == sent.utcoffset() and sent.tzinfo.utcoffset(None) is not None
    return equal


def _are_same(arrived: Iterable[Any], sent: Iterable[Any], set_fields: bool) -> bool:  # noqa: FBT001
    return all(is_same(left, right, set_fields=set_fields) for left, right in zip(arrived, sent, strict=True))


def _is_same_row(arrived: Any, sent: Any, set_fields: bool) -> bool:  # noqa: FBT001
    bounded = getattr(arrived, "maxlen", None) == getattr(sent, "maxlen", None)
    return bounded and len(arrived) == len(sent) and _are_same(arrived, sent, set_fields)


def _is_same_set(arrived: Any, sent: Any, set_fields: bool) -> bool:  # noqa: FBT001
    found = {item: item for item in arrived}
    return len(found) == len(sent) and all(
        is_same(found.get(item, _ABSENT), item, set_fields=set_fields) for item in sent
    )


def _is_same_mapping(arrived: Mapping[Any, Any], sent: Mapping[Any, Any], set_fields: bool) -> bool:  # noqa: FBT001
    if isinstance(arrived, defaultdict) and arrived.default_factory is not cast("Any", sent).default_factory:
        return False
    return _is_same_set(arrived.keys(), sent.keys(), set_fields) and all(
        is_same(arrived[key], value, set_fields=set_fields) for key, value in sent.items()
    )


def _is_same_model(arrived: BaseModel, sent: BaseModel, set_fields: bool) -> bool:  # noqa: FBT001
    if set_fields and arrived.model_fields_set != sent.model_fields_set:
        return False
    return _are_same(_in_model(arrived), _in_model(sent), set_fields)


def _in_model(value: BaseModel) -> Iterator[Any]:
    """Fields, extra fields and private attributes; not what it caches."""
    held = vars(value)
    yield {name: held[name] for name in type(value).model_fields if name in held}
    yield value.model_extra
    yield value.__pydantic_private__


def _in_dataclass(value: Any) -> dict[str, Any]:
    """Fields, those that ``==`` passes over among them, and what else it was given; not what it caches."""
    kind: Any = cast("Any", type(value))
    fields = {field.name: getattr(value, field.name, _ABSENT) for field in dataclasses.fields(kind)}
    others = {
        name: held
        for name, held in getattr(value, "__dict__", {}).items()
        if not isinstance(inspect.getattr_static(kind, name, None), cached_property)
    }
    return {**fields, **others}


_COMPARE: Final[tuple[tuple[Any, Callable[[Any, Any, bool], bool]], ...]] = (
    (dict, _is_same_mapping),
    ((list, tuple, deque), _is_same_row),
    ((set, frozenset), _is_same_set),
    (BaseModel, _is_same_model),
)
