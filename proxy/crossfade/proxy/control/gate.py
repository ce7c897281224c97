"""What every request to the API passes first: host, size, who it is, and that no other site's page sent it.

Deny by default: what is not ``/healthz`` needs a caller before anything is routed, so a new route, and a path that
has none, is closed by being here. Which role a route needs is asked where it is known, in ``authorise``. A browser
that shows nothing is sent to the ``Entrance``, whose documents are bytes: no route leads from there to anything.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote, urlsplit

from fastapi import HTTPException
from fastapi.responses import RedirectResponse, Response
from starlette.requests import HTTPConnection  # noqa: TC002 - FastAPI reads the annotation

from crossfade.shim.hooks import report

from .auth import CERTIFICATE, CSRF_HEADER, Caller, needed_role
from .problems import problem
from .stream import read_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .auth import Gatekeeper
    from .settings import ControlSettings

HEALTH: Final = "/healthz"
BODY_LIMIT: Final = 256 * 1024  # bytes; the largest honest body is a set of comparison rules

_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_HEADERS: Final = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Entrance:
    """What anybody may see: the page that trades a credential for a session, and what that page shows itself with.

    ``documents``: media type and content by exact path. ``login``: the path of the page among them.
    """

    login: str
    documents: Mapping[str, tuple[str, bytes]]


class Gate:
    """ASGI middleware in front of the whole API."""

    def __init__(
        self, app: Any, *, gatekeeper: Gatekeeper, settings: ControlSettings, entrance: Entrance | None = None
    ) -> None:
        self._app = app
        self._gatekeeper = gatekeeper
        self._settings = settings
        self._entrance = entrance

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass it on, or answer."""
        if scope["type"] == "lifespan" or scope["path"] == HEALTH:
            await self._app(scope, receive, send)
            return
        headers, _ = read_head(scope)
        refused = self._refusal(scope, headers)
        status, detail = refused or (200, "")
        if status in (200, 401) and (shown := self._entry(scope, headers, known=status == 200)) is not None:
            await shown(scope, receive, _with_headers(send))
            return
        if refused is None:
            await self._app(scope, receive, _with_headers(send))
            return
        report.count("api-refused", reason=str(status))
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": detail[:100]})
            return
        more = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
        await problem(status, detail, headers=more)(scope, receive, _with_headers(send))

    def _refusal(self, scope: Any, headers: Mapping[str, str]) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._settings.allows(host):
            return 421, "this is not the host you asked for: name it with --allow-host if it shall be"
        caller = self._gatekeeper.identify(headers, certificate=scope.get(CERTIFICATE, ""))
        if caller is None:
            return 401, "send Authorization: Bearer with a credential (crossfade control access NAME makes one)"
        scope["crossfade.caller"] = caller
        reads = scope["type"] == "http" and scope["method"] in _READS
        if not reads and (foreign := _foreign(headers, host, caller, websocket=scope["type"] == "websocket")):
            return 403, foreign
        return _too_large(headers)

    def _entry(self, scope: Any, headers: Mapping[str, str], *, known: bool) -> Response | None:
        """A document of the entrance, or the way there for a browser that is nobody we know; else ``None``."""
        entrance = self._entrance
        if entrance is None or scope["type"] != "http" or scope["method"] not in _READS:
            return None
        if (document := entrance.documents.get(scope["path"])) is not None:
            return Response(document[1], media_type=document[0])
        if known or "authorization" in headers or "text/html" not in headers.get("accept", ""):
            return None
        return RedirectResponse(f"{entrance.login}?next={quote(scope['path'], safe='')}", 303)


def authorise(connection: HTTPConnection) -> Caller:
    """The caller, when their role is enough for the route; a dependency of every route of the API."""
    caller = cast("Caller", connection.scope["crossfade.caller"])
    needed = needed_role(connection.scope["endpoint"], connection.scope.get("method", "GET"))
    if not caller.may(needed):
        raise HTTPException(403, f"{caller.name} has the role {caller.role!r}, this needs {needed!r}")
    return caller


def _foreign(headers: Mapping[str, str], host: str, caller: Caller, *, websocket: bool) -> str:
    """Why a change cannot be taken for the caller's own wish; empty when it can."""
    origin = headers.get("origin")
    if headers.get("sec-fetch-site", "same-origin") == "cross-site" or (origin and urlsplit(origin).netloc != host):
        return "another site's page sent this"
    shown = headers.get(CSRF_HEADER, "")
    if caller.csrf and not websocket and not hmac.compare_digest(caller.csrf.encode(), shown.encode()):
        return f"a change by cookie needs the session's CSRF token in {CSRF_HEADER}"
    return ""


def _too_large(headers: Mapping[str, str]) -> tuple[int, str] | None:
    if "transfer-encoding" in headers:
        return 411, "send a Content-Length: chunked bodies are not read"
    length = headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > BODY_LIMIT:
        return 413, f"a body has {BODY_LIMIT} bytes at most"
    return None


def _with_headers(send: Any) -> Any:
    async def sending(message: Any) -> None:
        if message["type"] == "http.response.start":
            given = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(each for each in _HEADERS if each[0] not in given)]
        await send(message)

    return sending
