"""Requests and answers as the values a seam's call carries, and back. Pure.

What travels is what the upstream would have been sent: hop-by-hop fields are gone, ``Via`` and ``X-Forwarded-*`` are
there. Bytes over 0x7F in field values become the characters of the same number and come back as they were.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from crossfade.shim.http import HttpRequest, HttpResponse

from .framing import Framing
from .headers import to_upstream
from .heads import fields_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.shim.http import Fields

    from .headers import Peer
    from .heads import Field, RequestHead, ResponseHead

# What one hop's message says of itself, and whoever sends the next says anew.
_OF_THE_HOP: Final = frozenset(
    b"connection content-length expect host keep-alive proxy-connection te trailer transfer-encoding upgrade".split()
)

_LENGTH: Final = frozenset({b"content-length"})
_FIRST_FINAL: Final = 200
_LAST: Final = 999
# What a field may be made of (RFC 9110, 5.1 and 5.5); what comes over the bus is believed no more than a client.
_is_name = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch
_is_value = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch


def request_of(
    head: RequestHead, body: bytes, *, peer: Peer, authority: bytes, added: Sequence[Field] = ()
) -> HttpRequest:
    """A request with its whole body, and the fields that it was ``added``.

    Raises ``RefusedError`` when it has come through this proxy before.
    """
    lines = to_upstream(head, peer=peer, authority=authority).split(b"\r\n")[1:-2]
    headers = readable([*fields_of(lines), *added])
    return HttpRequest(
        method=head.method.decode("latin-1"),
        target=head.target.decode("latin-1"),
        headers=headers,
        body=body,
        authority=(head.host or authority).decode("latin-1"),
    )


def response_of(head: ResponseHead, body: bytes) -> HttpResponse:
    """A whole answer."""
    return HttpResponse.of(head.status, readable(head.headers, keep=_LENGTH, connection=head.connection), body)


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
    fields = raw(answer.headers, keep=_LENGTH)
    said = [value for name, value in fields if name.lower() in _LENGTH]
    others = [field for field in fields if field[0].lower() not in _LENGTH]
    right = b"%d" % len(answer.content)
    if _is_bodyless(answer, method):
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


def framing_of(answer: HttpResponse, method: bytes) -> Framing:
    """How an answer's whole body is framed for the client."""
    return Framing("none") if _is_bodyless(answer, method) else Framing("length", len(answer.content))


def _is_bodyless(answer: HttpResponse, method: bytes) -> bool:
    """Whether no body follows, nor a length that could be told from it."""
    return answer.status in {204, 304} or (method == b"HEAD" and not answer.content)


def request_head(request: HttpRequest) -> bytes:
    """The head of a request that a handler sends on, its empty line included. Raises ``ValueError`` as ``raw``."""
    target = request.target.encode("latin-1")
    method, authority = request.method.encode("latin-1"), request.authority.encode("latin-1")
    if any(byte <= 0x20 or byte == 0x7F for byte in method + target + authority) or not (method and target):
        raise ValueError(f"{request.method!r} {request.target!r} is no request line")
    lines = [b"%b %b HTTP/1.1" % (method, target), b"Host: " + authority]
    lines += [b"%b: %b" % field for field in raw(request.headers)]
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        lines.append(b"Content-Length: %d" % len(request.body))
    return b"\r\n".join([*lines, b"\r\n"])
