"""What an observed request leaves behind: a tap that keeps a bounded part of it and never slows it.

A body longer than the route's capture limit is not kept at all: half a body proves nothing. Everything but the keeping
(hygiene, decoding, redaction) happens on the background loop.
"""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from crossfade.shim.correlate import correlated
from crossfade.shim.diverting import Later
from crossfade.shim.hooks import report
from crossfade.shim.http import Kept, arguments, is_secret_field
from crossfade.shim.outcomes import SeenError

from .http_calls import request_of, response_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.shim.correlate import Correlation
    from crossfade.shim.diverting import Observing
    from crossfade.shim.http import HttpResponse

    from .config import Capture
    from .exchange import Exchange
    from .heads import ResponseHead


class UpstreamFailedError(Exception):
    """The upstream brought no whole answer; the text is the failure's name."""


class Capturing:
    """See ``exchange.Tap``: keeps a request and its answer for an observation. ``started``: loop time in seconds."""

    __slots__ = (
        "_answer",
        "_authority",
        "_correlation",
        "_exchange",
        "_full",
        "_head",
        "_n",
        "_observing",
        "_request",
        "_started",
    )

    def __init__(
        self,
        observing: Observing,
        exchange: Exchange,
        *,
        capture: Capture,
        correlation: Correlation,
        authority: bytes,
        started: float,
    ) -> None:
        self._n, self._full = observing.begin()
        self._observing = observing
        self._exchange = exchange
        self._correlation = correlation
        self._authority = authority
        self._started = started
        self._request = Kept(capture.request if self._full else 0)
        self._answer = Kept(capture.response if self._full else 0)
        self._head: ResponseHead | None = None

    def request_data(self, data: bytes) -> None:
        """See ``Tap``."""
        self._request.add(data)

    def response_head(self, head: ResponseHead) -> None:
        """See ``Tap``."""
        self._head = head

    def response_data(self, data: bytes) -> None:
        """See ``Tap``."""
        self._answer.add(data)

    def finished(self, *, whole: bool) -> None:
        """See ``Tap``; a client that left early says nothing about the upstream, so nothing is told of it."""
        exchange = self._exchange
        if exchange.outcome == "left":
            report.count("skipped", seam=exchange.seam, reason="client-left")
            return
        duration = asyncio.get_running_loop().time() - self._started
        head, failure = self._head, exchange.failure
        error = SeenError(UpstreamFailedError(failure or "cut")) if failure or not whole or head is None else None
        with correlated(self._correlation):
            self._observing.saw(
                self._n,
                started=time.time() - duration,
                duration=duration,
                arguments=self._arguments(),
                value=self._value(head) if error is None and head is not None else None,
                error=error,
            )

    def _arguments(self) -> Later | None:
        if not self._full:
            return None
        if not self._request.is_whole:
            report.count("skipped", seam=self._exchange.seam, reason="capture-limit")
            return None
        return Later(self._request.size, self._make_arguments)

    def _make_arguments(self) -> Mapping[str, Any]:
        exchange = self._exchange
        request = request_of(
            exchange.head, b"".join(self._request.parts), peer=exchange.peer, authority=self._authority
        )
        return arguments(request, is_secret_field)

    def _value(self, head: ResponseHead) -> Later | None:
        if not self._full:
            return None
        if not self._answer.is_whole:
            report.count("skipped", seam=self._exchange.seam, reason="capture-limit")
            return None
        return Later(self._answer.size, partial(self._make_value, head))

    def _make_value(self, head: ResponseHead) -> HttpResponse:
        answer = response_of(head, b"".join(self._answer.parts))
        if any(is_secret_field(name) for name, _ in answer.headers):
            self._observing.told_credentials()
        return answer
