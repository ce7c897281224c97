"""Correlation for ASGI applications: Starlette, FastAPI, Django and whatever else speaks ASGI 3.

    app.add_middleware(CorrelationMiddleware, user="header:X-User", trusted=["10.0.0.0/8"])
    application = CorrelationMiddleware(get_asgi_application())

Needs no framework and no extra.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.correlate import correlated

from ._correlating import Correlating, answered

if TYPE_CHECKING:
    from ._correlating import Source

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_ANSWERS: Final = frozenset({"http.response.start", "websocket.accept"})


class CorrelationMiddleware:
    """Has every call that a request makes carry whose it is and of which run, as inside ``shim.correlate``.

    That holds while the application answers, streams and runs its background tasks, in its threads too. The answer gets
    ``X-Correlation-Id``, and the ``traceparent`` that the request had, unless the application gives its own.

    Args:
        app: The application.
        user: Where the user's name is: ``header:NAME``, believed of trusted peers only, or a callable that is given the
            scope. Default: nowhere. Danger: what a callable answers is believed; have it check.
        tenant: Where the tenant's name is, likewise.
        session: Where the session's name is, likewise.
        trusted: Peers whose headers are believed: addresses, networks, or ``unix`` for a socket without addresses.
            Default: nobody. Danger: a server or middleware that takes the peer's address from ``X-Forwarded-For``
            decides who that is.

    Raises ``ConfigurationError`` for a source or a peer that is none; no request ever fails for what it came with.
    """

    def __init__(
        self,
        app: Application,
        *,
        user: Source | None = None,
        tenant: Source | None = None,
        session: Source | None = None,
        trusted: Iterable[str] = (),
    ) -> None:
        self.app = app
        self._correlating = Correlating(user=user, tenant=tenant, session=session, trusted=trusted)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification, version 3."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        fields: list[tuple[bytes, bytes]] = list(scope["headers"])

        def values(name: str) -> list[bytes]:
            wanted = name.lower().encode()
            return [value for key, value in fields if key.lower() == wanted]

        client = scope.get("client")
        correlation = self._correlating.correlation(scope, client[0] if client else None, values)

        async def answer(message: Message) -> None:
            if message["type"] in _ANSWERS:
                given: list[tuple[bytes, bytes]] = list(message.get("headers") or ())
                told = answered(correlation, [name.decode("latin-1").lower() for name, _ in given])
                added = [(name.lower().encode(), value.encode()) for name, value in told]
                message = {**message, "headers": [*given, *added]}
            await send(message)

        with correlated(correlation):
            await self.app(scope, receive, answer)
