"""What a settings file may hold, as data: its reader, its JSON Schema and the check of its page use the same table.

A shape says what a value looks like; a ``Key`` says what a setting is for, its default and its danger. Values that look
right and mean nothing (an upstream nobody named) are the business of whoever builds something of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A line of text that is not empty; ``like`` is an example of one, for messages."""

    like: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Number:
    """A number from ``least`` to ``most``, both included; ``whole``: without a fraction."""

    least: float
    most: float
    whole: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Flag:
    """``true`` or ``false``."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """One word of ``options``."""

    options: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ListOf:
    """A list whose items have one shape."""

    item: Shape


@dataclass(frozen=True, kw_only=True, slots=True)
class MapOf:
    """A mapping from names of the writer's choice to values of one shape; ``of`` says what it holds."""

    item: Shape
    of: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Section:
    """A mapping with known keys; with ``short``, a text alone stands for a mapping that holds this key only."""

    keys: Mapping[str, Key]
    short: str = ""


Shape: TypeAlias = Text | Number | Flag | Choice | ListOf | MapOf | Section


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A setting: its shape, what it is, its default in words (empty: there is none), and what can go wrong."""

    shape: Shape
    what: str
    default: str = ""
    danger: str = ""
    required: bool = False


def describe(shape: Shape) -> str:
    """The shape in words, as the end of "must be"."""
    match shape:
        case Text():
            words = f"text like {shape.like}"
        case Number():
            words = f"{'a whole number' if shape.whole else 'a number'} from {shape.least:,g} to {shape.most:,.16g}"
        case Flag():
            words = "true or false"
        case Choice():
            words = " or ".join(shape.options)
        case ListOf():
            words = f"a list, each item {describe(shape.item)}"
        case MapOf():
            words = f"a mapping of {shape.of}"
        case Section():
            words = f"a mapping with keys of {', '.join(shape.keys)}"
            words = f"{describe(shape.keys[shape.short].shape)}, or {words}" if shape.short else words
    return words


def json_schema(shape: Shape) -> dict[str, Any]:
    """The shape as JSON Schema (2020-12)."""
    match shape:
        case Text():
            schema = {"type": "string", "minLength": 1, "examples": [shape.like]}
        case Number():
            schema = {"type": "integer" if shape.whole else "number", "minimum": shape.least, "maximum": shape.most}
        case Flag():
            schema = {"type": "boolean"}
        case Choice():
            schema = {"enum": list(shape.options)}
        case ListOf():
            schema = {"type": "array", "items": json_schema(shape.item)}
        case MapOf():
            schema = {"type": "object", "additionalProperties": json_schema(shape.item)}
        case Section():
            schema = _section_schema(shape)
            if shape.short:
                schema = {"anyOf": [json_schema(shape.keys[shape.short].shape), schema]}
    return schema


def _section_schema(section: Section) -> dict[str, Any]:
    required = [name for name, key in section.keys.items() if key.required]
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            name: {
                **json_schema(key.shape),
                **({"description": f"{key.what} {key.danger}".strip()} if key.what else {}),
            }
            for name, key in section.keys.items()
        },
        **({"required": required} if required else {}),
    }
