"""Bodies of several parts (RFC 2046 5.1, RFC 7578), split in one pass; a part's own parts are left together."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MOST_PARTS: Final = 10_000

_parameter = re.compile(r""";[ \t]*([\w*-]+)=(?:"((?:[^"\\]|\\.)*+)"|([^\s;"]*+))""").findall
_escaped = re.compile(r"\\(.)").sub


@dataclass(frozen=True, slots=True)
class Part:
    """One part; ``filename`` is ``None`` where none was given, ``kind`` its media type as it was said."""

    name: str
    filename: str | None
    kind: str
    data: bytes


def read_parts(data: bytes, said: str) -> list[Part] | None:
    """The parts of a body whose ``Content-Type`` is ``said``; ``None`` for what is no such body."""
    boundary = parameters(said).get("boundary", "")
    _, *pieces = (b"\r\n" + data).split(b"\r\n--" + boundary.encode("utf-8", "replace"), _MOST_PARTS)
    if not boundary or not pieces or not pieces[-1].startswith(b"--"):
        return None
    return [_part(piece) for piece in pieces[:-1]]


def parameters(said: str) -> dict[str, str]:
    """What stands behind the first word of a header's value, by lower-case name."""
    return {name.lower(): _escaped(r"\1", quoted) if quoted else plain for name, quoted, plain in _parameter(said)}


def _part(piece: bytes) -> Part:
    head, _, data = piece.lstrip(b" \t").partition(b"\r\n\r\n")
    fields = dict[str, str]()
    for line in head.decode("utf-8", "replace").split("\r\n"):
        name, _, value = line.partition(":")
        fields[name.strip().lower()] = value.strip()
    disposition = parameters(fields.get("content-disposition", ""))
    kind = fields.get("content-type") or "text/plain"
    return Part(disposition.get("name", ""), disposition.get("filename"), kind, data)
