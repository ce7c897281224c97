"""Paths into what is compared.

    $               the value that the call returned
    $error          the error that it raised: $error.type, $error.message, $error.args[0]
    .name  ["a b"]  a member of an object; ['a b'] is the same, without escapes
    [3]             an item of a list
    .*     [*]      any member, any item
    ..name ..[3]    at any depth, here included

A rule at a path holds for everything below it as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, cast

from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

Root = Literal["$", "$error"]
"""The two documents of a comparison: the value and the error."""

ERROR_MEMBERS: Final = ("type", "message", "args")

_MAX_PATH: Final = 1000  # characters
_MAX_SEGMENTS: Final = 24  # of a path shown to people; deeper ones lose their middle
_MAX_NAME: Final = 80  # characters of a name shown to people

_root = re.compile(r"\$(?:error(?![^.\[]))?").match
_segment = re.compile(
    r"(?P<deep>\.\.)?(?:"
    r"""(?P<any_name>(?(deep)|\.)\*)|(?P<any_item>\[\*\])|\[(?P<index>[0-9]{1,9})\]|\[(?P<json>"(?:[^"\\]|\\.)*")\]"""
    r"""|\['(?P<plain>[^'\\]*)'\]|(?(deep)|\.)(?P<name>[^\s.\[\]*"'\\]+))"""
).match
_bare = re.compile(r"[\w-]+").fullmatch


class Wild(Enum):
    """What a path's segment may be beside a name or an index."""

    NAME = ".*"
    ITEM = "[*]"
    DEEP = ".."


Segment = str | int | Wild
"""A name, an index, or a wildcard."""


@dataclass(frozen=True, slots=True)
class Path:
    """A path taken apart. ``Wild.DEEP`` stands before the segment that may be at any depth."""

    root: Root
    segments: tuple[Segment, ...]

    @property
    def named(self) -> int:
        """How many names and indexes it has: what makes a path specific."""
        return sum(not isinstance(segment, Wild) for segment in self.segments)

    @property
    def deep(self) -> int:
        """How often it skips levels."""
        return self.segments.count(Wild.DEEP)


def parse_path(text: str, *, where: str = "") -> Path:
    """Read a path. Raises ``ConfigurationError`` at ``where`` saying what a path looks like."""
    start = _root(text)
    if start is None or len(text) > _MAX_PATH:
        raise _no_path(text, where)
    segments: list[Segment] = []
    at = start.end()
    while at < len(text):
        found = _segment(text, at)
        if found is None:
            raise _no_path(text, where)
        segments += _read(found, text, where)
        at = found.end()
    root: Root = "$error" if start[0] == "$error" else "$"
    if root == "$error" and segments and isinstance(segments[0], str | int) and segments[0] not in ERROR_MEMBERS:
        raise ConfigurationError(f"an error has {', '.join(ERROR_MEMBERS)}, not {segments[0]!r}", where=where)
    return Path(root, tuple(segments))


def _read(found: re.Match[str], text: str, where: str) -> list[Segment]:
    deep: list[Segment] = [Wild.DEEP] if found["deep"] else []
    if found["any_name"]:
        return [*deep, Wild.NAME]
    if found["any_item"]:
        return [*deep, Wild.ITEM]
    if found["index"]:
        return [*deep, int(found["index"])]
    if found["json"]:
        try:
            return [*deep, cast("str", json.loads(found["json"]))]
        except ValueError:
            raise _no_path(text, where) from None
    return [*deep, found["plain"] if found["name"] is None else found["name"]]


def _no_path(text: str, where: str) -> ConfigurationError:
    shown = text if len(text) <= _MAX_NAME else f"{text[:_MAX_NAME]}…"
    return ConfigurationError(
        f"{shown!r} is no path: write it like $.user.name, $.hits[*].score, $..request_id, "
        f'$["a name"] or $error.message, {_MAX_PATH} characters at most',
        where=where,
    )


def show_path(root: Root, place: Sequence[str | int]) -> str:
    """A place in a document as text; ``parse_path`` reads it back unless it was shortened with ``…``."""
    if len(place) <= _MAX_SEGMENTS:
        return root + "".join(map(_show, place))
    half = _MAX_SEGMENTS // 2
    return f"{root}{''.join(map(_show, place[:half]))}…{''.join(map(_show, place[-half:]))}"


def _show(segment: str | int) -> str:
    if isinstance(segment, int):
        return f"[{segment}]"
    if len(segment) > _MAX_NAME:
        return f"[{json.dumps(segment[:_MAX_NAME])}…]"
    return f".{segment}" if _bare(segment) else f"[{json.dumps(segment)}]"
