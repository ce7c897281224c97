"""The handler of a route whose service is still synchronous: it sends each request on to the service by HTTP.

So a seam can go over the bus, and gain its queue, its retries and its record, before anybody writes a new handler.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from crossfade.shim.calls import current_call
from crossfade.shim.errors import CrossfadeError
from crossfade.shim.fields import readable
from crossfade.shim.http import HttpResponse, StreamedResponse, add_http_handler

from .asking import Asking, swept
from .http_calls import request_head, response_of
from .limits import Limits
from .pool import Pool

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from crossfade.shim.http import HttpRequest
    from crossfade.shim.policy import Policy

    from .pool import Target

ANSWER_LIMIT: Final = 16 * 1024 * 1024
"""Bytes of an answer that is no stream of events; a larger one is an error, for the bus is no place for it."""

SHADOW: Final = ("Crossfade-Shadow", "?1")
"""The field of a request that is run again to be compared: nobody gets its answer."""

_STREAMED: Final = b"text/event-stream"


class AnswerTooLargeError(CrossfadeError):
    """The service's answer is too large for the bus: keep this route with its upstream."""


class ToService:
    """Answers requests by asking ``target``. Made for one event loop, on which its first request comes."""

    def __init__(self, target: Target, *, limits: Limits | None = None) -> None:
        self._target = target
        self._limits = limits or Limits()
        self._pool: Pool | None = None
        self._keeping: asyncio.Task[None] | None = None

    async def __call__(self, request: HttpRequest) -> HttpResponse | StreamedResponse:
        """See ``HttpHandler``. Raises ``UpstreamError``, ``AnswerTooLargeError``, and ``ValueError`` for no request."""
        call = current_call()
        if call is not None and call.shadow:
            request = replace(request, headers=[*request.headers, SHADOW])
        asking = Asking(self._open(), request_head(request), request.body, method=request.method.encode("latin-1"))
        try:
            head = await asking.head()
            if (head.get(b"content-type") or b"").startswith(_STREAMED):
                return StreamedResponse(
                    HttpResponse(head.status, readable(head.headers, connection=head.connection)), _pieces(asking)
                )
            body = await _whole(asking)
        except BaseException:
            asking.give_up()
            raise
        return response_of(head, body)

    def _open(self) -> Pool:
        if self._pool is None:
            self._pool = Pool("service", (self._target,), limits=self._limits)
            self._keeping = asyncio.create_task(_keep(self._pool))
        return self._pool


async def _keep(pool: Pool) -> None:
    """Enforce the pool's timeouts until the loop ends."""
    async with swept(pool):
        await asyncio.Event().wait()


async def _pieces(asking: Asking) -> AsyncGenerator[bytes]:
    try:
        async for piece in asking.pieces():
            yield piece
    finally:
        asking.give_up()


async def _whole(asking: Asking) -> bytes:
    parts: list[bytes] = []
    size = 0
    async with aclosing(asking.pieces()) as pieces:
        async for piece in pieces:
            parts.append(piece)
            size += len(piece)
            if size > ANSWER_LIMIT:
                raise AnswerTooLargeError(
                    f"an answer of over {ANSWER_LIMIT:,} bytes does not go over the bus: keep this route at observe"
                )
    return b"".join(parts)


def serve_by_http(seams: Mapping[str, Policy | None], target: Target, *, limits: Limits | None = None) -> None:
    """Declare handlers for ``seams`` that ask the service at ``target``; then run a worker.

    Each with its route's policy, where that is known: what running a request twice does is the route's to say.
    """
    service = ToService(target, limits=limits)
    for seam, policy in seams.items():
        add_http_handler(seam, service, policy=policy)
