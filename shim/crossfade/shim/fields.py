"""Header fields of HTTP messages: which of them end at a hop, which may be sent, and what an answer needs. Pure.

Bytes over 0x7F in field values become the characters of the same number and come back as they were.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .http import Fields, HttpResponse

Field: TypeAlias = tuple[bytes, bytes]
"""Name and value, as they travel."""

# What one hop's message says of itself, and whoever sends the next says anew.
_OF_THE_HOP: Final = frozenset(
    b"connection content-length expect host keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)

LENGTH: Final = frozenset({b"content-length"})
_FIRST_FINAL: Final = 200
_LAST: Final = 999
# What a field may be made of (RFC 9110, 5.1 and 5.5); what comes over the bus is believed no more than a client.
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_value = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch


def readable(
    fields: Sequence[Field], *, keep: frozenset[bytes] = frozenset(), connection: Sequence[bytes] = ()
) -> Fields:
    """End-to-end fields as text, and those in ``keep``; ``connection``: what Connection lists, which ends here too."""
    gone = _OF_THE_HOP.union(connection) - keep
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields if name.lower() not in gone]


def raw(fields: Fields, *, keep: frozenset[bytes] = frozenset()) -> list[Field]:
    """``readable`` undone. Raises ``ValueError`` for what no field can hold."""
    pairs = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]
    for name, value in pairs:
        if not (_is_name(name) and _is_value(value)):
            raise ValueError(f"{name!r} is no header field")
    gone = _OF_THE_HOP - keep
    return [(name, value) for name, value in pairs if name.lower() not in gone]


def answer_fields(answer: HttpResponse, method: bytes) -> list[Field]:
    """An answer's fields for its client, ``Content-Length`` where it stood; one that is wrong or missing is mended.

    The length of a body that is not sent (HEAD, 304) is the service's to say, or nobody's. Raises ``ValueError`` as
    ``raw``.
    """
    fields = raw(answer.headers, keep=LENGTH)
    said = [value for name, value in fields if name.lower() in LENGTH]
    others = [field for field in fields if field[0].lower() not in LENGTH]
    right = b"%d" % len(answer.content)
    if is_bodyless(answer, method):
        return fields if len(said) == 1 and said[0].isdigit() else others
    return fields if said == [right] else [*others, (b"Content-Length", right)]


def reason_of(status: int) -> bytes:
    """The reason phrase of a final status; empty for one that nobody has named. ``ValueError``: it is no such."""
    if not _FIRST_FINAL <= status <= _LAST:
        raise ValueError(f"{status} is no status of an answer")
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b""


def is_bodyless(answer: HttpResponse, method: bytes) -> bool:
    """Whether no body follows, nor a length that could be told from it."""
    return answer.status in {204, 304} or (method == b"HEAD" and not answer.content)
