"""Webhooks: signed POSTs become ``webhook.received``, and are answered 202 once that is durable.

    answer    when
    202       the fact is durable (again, for a repetition)
    200       a greeting that says nothing happened: GitHub's ping, Slack's url_verification
    401       the signature is missing, malformed, stale or another's; the reason is counted, the body is not looked at
    404, 405  no webhook lives there; another method than POST and OPTIONS
    408, 413  the body did not come in time; it is larger than ``max_bytes``
    429, 503  with Retry-After: too many at once; the bus cannot take it. The sender tries again

``OPTIONS`` answers the handshake of CloudEvents' webhook binding (section 4). A body that is JSON travels as
``data``, other text as ``text``, anything else in base64 as ``body``.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import BusError, BusFullError, ConfigurationError, MissingExtraError
from crossfade.shim.hooks import report

from .bodies import carried, read_json, text_of
from .intake import Arrival
from .signatures import TOLERANCE, Scheme, SignatureError, delivery_parts, verify

try:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtraError("triggers", needed_for="a webhook trigger") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from .intake import Intake

REMEMBERED: Final = 4 * 86_400.0
"""Seconds a delivery's id is known: Stripe goes on trying for three days."""

_BODY_PATIENCE: Final = 30.0  # seconds for a whole body
_DRAINED: Final = 1024 * 1024  # bytes beyond the limit that are read and thrown away
_GRACE: Final = 10  # seconds for requests in flight when asked to stop
_RETRY_AFTER: Final = "5"
_AT_ONCE: Final = 200  # requests of one process
_WARN_EVERY: Final = 60.0  # seconds between two log lines about one kind of refusal

_log = logging.getLogger("crossfade")

_SHOWN: Final = frozenset({"user-agent", "x-github-event", "x-github-hook-id", "x-slack-retry-num"})
"""Headers that travel with the body; none holds a secret."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """One sender's webhook.

    ``path`` is where it lives; ``secrets`` are keys as ``read_secret`` makes them, several while they are rotated;
    ``max_bytes`` bounds a body; ``tolerance`` is how many seconds a signed time may be off; ``remember`` how long a
    delivery's id is known; facts are ``tenant``'s and ``user``'s.
    """

    path: str
    scheme: Scheme
    secrets: tuple[bytes, ...] = field(repr=False)
    max_bytes: int = 1024 * 1024
    tolerance: float = TOLERANCE
    remember: float = REMEMBERED
    tenant: str | None = None
    user: str | None = None

    def __post_init__(self) -> None:
        if not self.path.startswith("/") or not self.path.isprintable() or set("?#{}") & set(self.path):
            raise ConfigurationError(f"{self.path!r} is no path: write one like /github", where="path")
        if not self.secrets or not all(self.secrets):
            raise ConfigurationError("a webhook needs a secret: anybody could send to it", where="secret")


class Receiver:
    """Takes the requests of one webhook."""

    def __init__(self, settings: Webhook, intake: Intake, *, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._intake = intake
        self._clock = clock
        self._warned: dict[str, float] = {}  # reason -> when it was last logged

    async def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if request.method == "OPTIONS":
            return _handshake(request.headers)
        try:
            async with asyncio.timeout(_BODY_PATIENCE):
                body = await self._body(request)
        except TimeoutError:
            return self._refuse(408, "slow", "the body did not come in time")
        except ClientDisconnect:
            return self._refuse(400, "gone", "the body ended early")
        if body is None:
            return self._refuse(413, "size", f"more than {self._settings.max_bytes} bytes")
        return await self._take(dict(request.headers), body)

    async def _body(self, request: Request) -> bytes | None:
        """The raw body, ``None`` when it is too large; some more is read then, or the answer is lost in a reset."""
        most = self._settings.max_bytes
        body, size = bytearray(), 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= most:
                body += chunk
            elif size > most + _DRAINED:
                break
        return bytes(body) if size <= most else None

    async def _take(self, headers: Mapping[str, str], body: bytes) -> Response:
        settings = self._settings
        try:
            signed = verify(
                settings.scheme, headers, body, settings.secrets, now=self._clock(), tolerance=settings.tolerance
            )
        except SignatureError as error:
            return self._refuse(401, error.reason, str(error))
        greeting = _greeting(settings.scheme, headers, body)
        if greeting is not None:
            return JSONResponse(greeting)
        parts = delivery_parts(settings.scheme, signed, headers, body)
        arrival = Arrival(
            type="webhook.received",
            parts=parts,
            data=_data(self._intake.trigger, settings, headers, body, "" if parts[1] == "sha256" else parts[-1]),
            subject=headers.get("x-github-event") or headers.get("ce-type"),
            tenant=settings.tenant,
            user=settings.user,
        )
        try:
            taken = await self._intake.take(arrival, remember=settings.remember)
        except BusError as error:
            reason = "bus-full" if isinstance(error, BusFullError) else "bus"
            return self._refuse(503, reason, "not taken: try again", **{"Retry-After": _RETRY_AFTER})
        return JSONResponse({"id": taken.id, "duplicate": taken.duplicate}, status_code=202)

    def _refuse(self, status: int, reason: str, why: str, **headers: str) -> Response:
        report.count("trigger-refused", seam=self._intake.trigger, reason=reason)
        now = self._clock()
        if now - self._warned.get(reason, 0.0) >= _WARN_EVERY:
            self._warned[reason] = now
            _log.warning("%s: refused with %d, %s (said once a minute)", self._intake.trigger, status, why)
        if status in (408, 413):
            headers["Connection"] = "close"  # what is left of the body is not read
        return JSONResponse({"error": why, "reason": reason}, status_code=status, headers=headers)


def application(receivers: Mapping[str, Receiver]) -> Starlette:
    """An ASGI application of receivers by path, to be served by itself or mounted in another."""
    routes = [Route(path, receiver, methods=["POST", "OPTIONS"]) for path, receiver in _endpoints(receivers)]
    return Starlette(routes=routes)


class WebhookServer:
    """Serves webhooks on an address of their own."""

    def __init__(self, listen: tuple[str, int], receivers: Mapping[str, Receiver], *, name: str) -> None:
        self.name = name
        self._listen = listen
        self._application = application(receivers)
        self._paths = sorted(receivers)

    async def run(self, stopping: asyncio.Event, ready: Callable[[str], None]) -> None:
        """See ``Trigger``."""
        with _listening(*self._listen) as listening:
            config = uvicorn.Config(
                self._application,
                http="h11",  # bounds a request's head; the faster parser does not
                loop="none",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                limit_concurrency=_AT_ONCE,
                timeout_graceful_shutdown=_GRACE,
            )
            server = _Server(config)
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            host, port = listening.getsockname()[:2]
            ending = asyncio.create_task(stopping.wait())
            try:
                while not server.started and not serving.done():  # noqa: ASYNC110 - uvicorn offers no event
                    await asyncio.sleep(0.01)
                ready(f"http://{host}:{port}{self._paths[0] if len(self._paths) == 1 else ''}")
                await asyncio.wait({serving, ending}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                ending.cancel()
                server.should_exit = True
                await serving


class _Server(uvicorn.Server):
    """uvicorn on a loop that is not its own: signals are whoever's who started it."""

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        """None of them."""
        yield


def _endpoints(receivers: Mapping[str, Receiver]) -> Sequence[tuple[str, Any]]:
    def endpoint(receiver: Receiver) -> Any:
        async def answer(request: Request) -> Response:
            return await receiver(request)

        return answer

    return [(path, endpoint(receiver)) for path, receiver in receivers.items()]


def _listening(host: str, port: int) -> socket.socket:
    """Raises ``ConfigurationError`` when the address cannot be had."""
    made = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
    except OSError as error:
        made.close()
        reason = os.strerror(error.errno) if error.errno else error
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {reason}; choose another address", where="listen"
        ) from error
    return made


def _handshake(headers: Mapping[str, str]) -> Response:
    """CloudEvents' HTTP webhook, section 4: who asks whether it may send here, may. Signatures decide, not origins."""
    allowed = {"Allow": "POST"}
    if origin := headers.get("webhook-request-origin"):
        allowed |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": headers.get("webhook-request-rate", "*")}
    return Response(headers=allowed)


def _greeting(scheme: Scheme, headers: Mapping[str, str], body: bytes) -> dict[str, str] | None:
    """What to answer when the provider only asks whether somebody is there."""
    if scheme == "github" and headers.get("x-github-event") == "ping":
        return {"pong": "crossfade"}
    if scheme == "slack" and b"url_verification" in body:
        value = read_json(body)
        if text_of(value, "type") == "url_verification":
            return {"challenge": text_of(value, "challenge") or ""}
    return None


def _data(trigger: str, settings: Webhook, headers: Mapping[str, str], body: bytes, delivery: str) -> bytes:
    shown = [(name, text) for name, text in headers.items() if name in _SHOWN or name.startswith("ce-")]
    payload = {
        "endpoint": trigger,
        "scheme": settings.scheme,
        "delivery": delivery,
        "headers": shown,
        "content_type": headers.get("content-type", ""),
        **carried(body),
    }
    return json.dumps(payload, separators=(",", ":")).encode()
