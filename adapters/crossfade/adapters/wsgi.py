"""Correlation for WSGI applications: Flask, Django and whatever else speaks PEP 3333.

    app.wsgi_app = CorrelationMiddleware(app.wsgi_app, user="header:X-User", trusted=["10.0.0.0/8"])
    application = CorrelationMiddleware(get_wsgi_application())

Needs no framework and no extra.
"""

from __future__ import annotations

from contextlib import ExitStack
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any

from crossfade.shim.correlate import correlated

from ._correlating import Correlating, answered

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

    from crossfade.shim.correlate import Correlation

    from ._correlating import Source


class CorrelationMiddleware:
    """Has every call that a request makes carry whose it is and of which run, as inside ``shim.correlate``.

    That holds while the application answers and while the server takes what it streams. The application runs in a copy
    of the thread's context, so nothing is left behind for the thread's next request. The answer gets
    ``X-Correlation-Id``, and the ``traceparent`` that the request had, unless the application gives its own.

    Args:
        app: The application.
        user: Where the user's name is: ``header:NAME``, believed of trusted peers only, or a callable that is given the
            environ. Default: nowhere. Danger: what a callable answers is believed; have it check.
        tenant: Where the tenant's name is, likewise.
        session: Where the session's name is, likewise.
        trusted: Peers whose headers are believed: addresses, networks, or ``unix`` for a socket without addresses.
            Default: nobody. Danger: a server or middleware that takes the peer's address from ``X-Forwarded-For``
            decides who that is.

    Raises ``ConfigurationError`` for a source or a peer that is none; no request ever fails for what it came with.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        user: Source | None = None,
        tenant: Source | None = None,
        session: Source | None = None,
        trusted: Iterable[str] = (),
    ) -> None:
        self.app = app
        self._correlating = Correlating(user=user, tenant=tenant, session=session, trusted=trusted)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """See PEP 3333."""

        def values(name: str) -> list[bytes]:
            value = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
            return [value.encode("latin-1")] if value is not None else []

        correlation = self._correlating.correlation(environ, environ.get("REMOTE_ADDR"), values)

        def start(status: str, headers: list[tuple[str, str]], *failed: Any) -> Callable[[bytes], object]:
            return start_response(status, [*headers, *answered(correlation, _names(headers))], *failed)

        context = copy_context()
        body = context.run(self._answer, environ, start, correlation)
        return body if _is_done(body, environ) else _Streamed(body, context)

    def _answer(self, environ: WSGIEnvironment, start: StartResponse, correlation: Correlation) -> Iterable[bytes]:
        ExitStack().enter_context(correlated(correlation))  # for good: the context is this request's own
        return self.app(environ, start)


def _names(headers: list[tuple[str, str]]) -> list[str]:
    return [name.lower() for name, _ in headers]


def _is_done(body: Iterable[bytes], environ: WSGIEnvironment) -> bool:
    """Whether no code of the application runs any more: servers send such a body, a file above all, faster."""
    wrapper: object = environ.get("wsgi.file_wrapper")
    return type(body) in (list, tuple) or (isinstance(wrapper, type) and isinstance(body, wrapper))


class _Streamed:
    """A body whose every step runs in the context in which the application began it."""

    def __init__(self, body: Iterable[bytes], context: Context) -> None:
        self._body = body
        self._context = context
        self._steps: Iterator[bytes] | None = None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._steps is None:
            self._steps = self._context.run(iter, self._body)
        return self._context.run(next, self._steps)

    def close(self) -> None:
        """See PEP 3333."""
        close = getattr(self._body, "close", None)
        if close is not None:
            self._context.run(close)
