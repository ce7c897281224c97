"""How long a message's body is, and every way in which a message may not say so.

The rules are those of RFC 9112, section 6, read strictly: where two readers could disagree, nobody is asked to guess
and the message is refused. A request is refused with the status of the refusal, a response always as a 502.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from crossfade.shim.errors import CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["none", "length", "chunked", "until-close", "tunnel"]


@dataclass(frozen=True, slots=True)
class Framing:
    """Where a body ends: ``length`` is its bytes and means something for the kind of that name only."""

    kind: Kind
    length: int = 0


NO_BODY = Framing("none")
CHUNKED = Framing("chunked")
UNTIL_CLOSE = Framing("until-close")
TUNNEL = Framing("tunnel")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a message is not passed on: a ``name`` for logs and counts, the sender's ``status``, what to do next."""

    name: str
    status: int
    detail: str


class RefusedError(CrossfadeError):
    """A message broke a rule; ``refusal`` says which."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.name)
        self.refusal = refusal


LENGTH_AND_CODING = Refusal("length-and-coding", 400, "Content-Length and Transfer-Encoding: send one of them.")
LENGTHS_DIFFER = Refusal("lengths-differ", 400, "More than one Content-Length: send it once.")
LENGTH_MALFORMED = Refusal("length-malformed", 400, "Content-Length is digits only, 18 at most.")
CODING_UNKNOWN = Refusal("coding-unknown", 501, "Transfer-Encoding: only 'chunked' is understood.")
CODING_MALFORMED = Refusal("coding-malformed", 400, "Transfer-Encoding must be exactly 'chunked', once.")
CODING_IN_1_0 = Refusal("coding-in-1.0", 400, "Transfer-Encoding has no meaning in HTTP/1.0: send Content-Length.")

_LENGTH = re.compile(rb"0|[1-9][0-9]{0,17}")
# Lengths seen before: reading and making one anew takes a microsecond.
_measures: dict[bytes, Framing] = {}
_MEASURES = 4096
_CODING = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")


def length(size: int) -> Framing:
    """The framing of a body of ``size`` bytes."""
    return Framing("length", size)


def request_framing(minor: int, lengths: Sequence[bytes], codings: Sequence[bytes]) -> Framing:
    """The framing of a request by its ``Content-Length`` and ``Transfer-Encoding``; ``RefusedError`` when in doubt.

    ``minor`` is 0 or 1, of HTTP/1.x (RFC 9112, 6.3).
    """
    if codings:
        return _coded(minor, lengths, codings)
    if lengths:
        return _only(lengths)
    return NO_BODY


def response_framing(
    method: bytes, status: int, minor: int, lengths: Sequence[bytes], codings: Sequence[bytes]
) -> Framing:
    """The framing of a final response to ``method``; ``RefusedError`` when in doubt (RFC 9112, 6.3).

    A response to HEAD, and any 204 or 304, has no body whatever its fields say; the fields are judged all the same.
    """
    if codings:
        framing = _coded(minor, lengths, codings)
    elif lengths:
        framing = _only(lengths)
    else:
        framing = UNTIL_CLOSE
    if method == b"HEAD" or status in {204, 304}:
        return NO_BODY
    return framing


def _coded(minor: int, lengths: Sequence[bytes], codings: Sequence[bytes]) -> Framing:
    if minor == 0:
        raise RefusedError(CODING_IN_1_0)
    if lengths:
        raise RefusedError(LENGTH_AND_CODING)
    if len(codings) == 1:
        coding = codings[0].lower()
        if coding == b"chunked":
            return CHUNKED
        if coding != b"identity" and _CODING.fullmatch(coding):
            raise RefusedError(CODING_UNKNOWN)
    raise RefusedError(CODING_MALFORMED)


def _only(lengths: Sequence[bytes]) -> Framing:
    if len(lengths) != 1:
        raise RefusedError(LENGTHS_DIFFER)
    return measured_framing(lengths[0])


def measured_framing(value: bytes) -> Framing:
    """The framing by the only ``Content-Length``'s ``value``; ``RefusedError`` when it is no length."""
    framing = _measures.get(value)
    if framing is None:
        if _LENGTH.fullmatch(value) is None:
            raise RefusedError(LENGTH_MALFORMED)
        framing = Framing("length", int(value))
        if len(_measures) < _MEASURES:
            _measures[value] = framing
    return framing
