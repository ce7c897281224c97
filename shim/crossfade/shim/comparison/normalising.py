"""What a rule may do to a value before it is judged, on both sides alike: ``normalise = ["strip", "casefold"]``.

    strip     a text without the white space around it
    collapse  a text whose runs of white space are one space each
    casefold  a text without case
    json      a text that holds a JSON object or list, read: rules then reach into it
    join      a list of texts, as one text: where a stream was cut does not matter

They are done in the order given, at the rule's place and below. What a step does not fit stays as it is.
"""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import ConfigurationError

from .options import meant, words

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Step = str
"""The name of one."""

_LONG: Final = 256  # characters that cost as much as a node


def read_steps(value: object, *, where: str) -> tuple[Step, ...]:
    """The steps of a rule's ``normalise``. Raises ``ConfigurationError`` naming what there is."""
    steps = words(value, where=where, what=f"one or more of {', '.join(STEPS)}")
    for step in steps:
        if step not in STEPS:
            raise ConfigurationError(
                f"there is no step {step!r}; {meant(step, STEPS)}known are {', '.join(STEPS)}", where=where
            )
    return steps


def normalised(value: Any, steps: tuple[Step, ...]) -> Any:
    """``value`` after every step; the value itself where none fits, never changed in place."""
    for step in steps:
        value = STEPS[step](value)
    return value


def weight(value: Any) -> int:
    """What looking through ``value`` costs beside its node."""
    if isinstance(value, str):
        return len(value) // _LONG
    return len(cast("Sequence[Any]", value)) if isinstance(value, list) else 0


def _of_text(change: Callable[[str], str]) -> Callable[[Any], Any]:
    return lambda value: change(value) if isinstance(value, str) else value


def _read_json(value: Any) -> Any:
    if not isinstance(value, str) or value.lstrip()[:1] not in ("{", "["):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _join(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    items = cast("Sequence[Any]", value)
    return "".join(items) if all(isinstance(item, str) for item in items) else items


STEPS: Final[Mapping[Step, Callable[[Any], Any]]] = MappingProxyType(
    {
        "strip": _of_text(str.strip),
        "collapse": _of_text(lambda text: " ".join(text.split())),
        "casefold": _of_text(str.casefold),
        "json": _read_json,
        "join": _join,
    }
)
"""What each step does."""
