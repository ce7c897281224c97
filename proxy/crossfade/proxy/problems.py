"""Answers of the proxy itself: RFC 9457 problems that name the seam and the phase, and never an address."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .framing import Refusal
    from .heads import Field

_TYPE = b"application/problem+json"


def problem(
    status: int, *, name: str, phase: str, seam: str, detail: str, retry_after: int = 1
) -> tuple[bytes, list[Field], bytes]:
    """The reason phrase, the fields and the body of a problem.

    ``name`` is what a program switches on (``upstream-silent``), ``phase`` the step that failed (``connect``), and
    ``retry_after`` what a 503 says: seconds.
    """
    phrase = reason(status)
    content = {
        "type": f"urn:crossfade:problem:{name}",
        "title": phrase.decode(),
        "status": status,
        "detail": detail,
        "phase": phase,
        "seam": seam,
    }
    body = json.dumps(content).encode()
    fields = [(b"Content-Type", _TYPE), (b"Content-Length", b"%d" % len(body)), (b"Cache-Control", b"no-store")]
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        fields.append((b"Retry-After", b"%d" % retry_after))
    if status == HTTPStatus.UPGRADE_REQUIRED:
        fields += [(b"Upgrade", b"websocket"), (b"Sec-WebSocket-Version", b"13")]
    return phrase, fields, body


def refused(refusal: Refusal, *, seam: str = "-") -> tuple[bytes, list[Field], bytes]:
    """The problem of a refused request; its phase is ``request``."""
    return problem(refusal.status, name=refusal.name, phase="request", seam=seam, detail=refusal.detail)


def reason(status: int) -> bytes:
    """The usual phrase for ``status``."""
    try:
        return HTTPStatus(status).phrase.encode()
    except ValueError:
        return b"Unknown"
