"""May this connection be used again, may this request be sent again: two questions, answered from facts alone.

RFC 9112, 9.3.1 and RFC 9110, 9.2.2: a proxy repeats on its own only what cannot have had an effect. A request of
which no byte was written may always be sent; one that was written to a *reused* connection which then closed without a
byte of answer has most likely met the upstream's idle close, and is repeated when its method is idempotent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .heads import ResponseHead

IDEMPOTENT = frozenset({b"DELETE", b"GET", b"HEAD", b"OPTIONS", b"PUT"})


def may_reuse(*, head: ResponseHead, request_sent: bool, left_over: bool, logs_in: bool) -> bool:
    """Whether the connection that brought this whole response may take another request.

    ``request_sent``: the request was written to its end. ``left_over``: bytes came behind the response's end.
    ``logs_in``: the request authenticated the connection itself (NTLM), so nobody else may have it.
    """
    if head.framing.kind in {"until-close", "tunnel"}:
        return False
    return head.keep_alive and request_sent and not left_over and not logs_in and not head.logs_in


def may_resend(*, method: bytes, reused: bool, written: bool, read: bool, replayable: bool) -> bool:
    """Whether a request whose connection failed may be sent over another one.

    ``reused``: the connection had answered before. ``written``: a byte of the request was handed to it. ``read``: a
    byte came back. ``replayable``: all of the body so far is still here.
    """
    if read or not replayable:
        return False
    return not written or (reused and method in IDEMPOTENT)
