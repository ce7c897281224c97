"""Requests and answers as the values a seam's call carries, and back. Pure.

What travels is what the upstream would have been sent: hop-by-hop fields are gone, ``Via`` and ``X-Forwarded-*`` are
there. Bytes over 0x7F in field values become the characters of the same number and come back as they were.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from crossfade.shim.fields import LENGTH, is_bodyless, raw, readable
from crossfade.shim.http import HttpRequest, HttpResponse

from .framing import Framing
from .headers import to_upstream
from .heads import fields_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .headers import Peer
    from .heads import Field, RequestHead, ResponseHead


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
    return HttpResponse.of(head.status, readable(head.headers, keep=LENGTH, connection=head.connection), body)


def framing_of(answer: HttpResponse, method: bytes) -> Framing:
    """How an answer's whole body is framed for the client."""
    return Framing("none") if is_bodyless(answer, method) else Framing("length", len(answer.content))


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
