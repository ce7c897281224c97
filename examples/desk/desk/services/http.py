"""What every service shares: routes, JSON in and out, limits on what is read, a clean stop on SIGTERM.

Errors are JSON, too: ``{"error": {"code": "missing_question", "message": "..."}}``.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import FrameType
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from desk import journal
from desk.http_client import SHADOW

BODY_LIMIT = 512 * 1024
"""Bytes; the largest honest body is a report with its sections."""

DRAIN_LIMIT = 8 * 1024 * 1024
"""Bytes of a refused body that are read and thrown away, so that the client gets to read the refusal."""


class Refusal(Exception):  # noqa: N818 - it is an answer, not an accident
    """A request that is answered with an error; ``details`` are further fields of the error's JSON."""

    def __init__(self, status: int, code: str, message: str, **details: Any) -> None:
        self.status = status
        self.body = {"error": {"code": code, "message": message, **details}}
        super().__init__(message)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a route sees: ``rest`` is the path behind the route, ``query`` the first value of each parameter."""

    rest: str
    query: Mapping[str, str]
    body: Mapping[str, Any]
    cookies: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a route answers; ``str`` content is sent as ``content_type``, anything else as JSON."""

    content: Any
    status: int = 200
    content_type: str = "text/html; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


Route = Callable[[Request], Reply]
Routes = Mapping[tuple[str, str], Route]


class Service(ThreadingHTTPServer):
    """A named set of routes on 127.0.0.1; a path ending in ``/*`` takes everything below it."""

    daemon_threads = True  # idle keep-alive connections must not hold up the end
    request_queue_size = 128

    def __init__(self, name: str, routes: Routes, *, port: int = 0, verbose: bool = False) -> None:
        self.name = name
        self.routes: Routes = {("GET", "/healthz"): _health, **routes}
        self.verbose = verbose
        self.stopping = False
        self._busy = 0
        self._idle = threading.Condition()
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        """Where the service listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def run(self) -> None:
        """Print one JSON line with the address, serve until SIGTERM or SIGINT, then end what is in flight (10 s)."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        print(json.dumps({"service": self.name, "url": self.url, "pid": os.getpid()}), flush=True)
        self.serve_forever(poll_interval=0.1)
        self.server_close()
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, timeout=10)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=self.stop).start()  # shutdown waits for the loop that this handler interrupts

    def stop(self) -> None:
        """Take no new connection; ``run`` returns when the calls in flight are answered."""
        self.stopping = True
        self.shutdown()

    def begin(self) -> None:
        """One more call is in flight."""
        with self._idle:
            self._busy += 1

    def end(self) -> None:
        """One call fewer is in flight."""
        with self._idle:
            self._busy -= 1
            self._idle.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is its own business; anything else is printed with its traceback."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


def _health(_: Request) -> Reply:
    return Reply(content={"status": "ok"})


class _Handler(BaseHTTPRequestHandler):
    server: Service  # pyright: ignore[reportIncompatibleVariableOverride] - the one that made us
    protocol_version = "HTTP/1.1"
    server_version = "desk"
    sys_version = ""
    timeout = 60  # seconds a silent connection is kept
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    do_HEAD = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_POST  # noqa: N815 - refused below, in JSON

    def _answer(self) -> None:
        self.server.begin()
        try:
            self._send(self._reply())
        finally:
            self.server.end()

    def _reply(self) -> Reply:
        try:
            raw = self._read_body()
            route, rest, query = self._find()
            body = _decoded(raw) if self.command == "POST" else {}
            request = Request(rest=rest, query=query, body=body, cookies=_cookies(self.headers.get("Cookie", "")))
            with journal.shadow(on=self.headers.get(SHADOW) == "?1"):
                return route(request)
        except Refusal as refusal:
            return Reply(content=refusal.body, status=refusal.status)
        except Exception as error:
            self.log_error("%s %s failed: %r", self.command, self.path, error)
            body = {"error": {"code": "internal", "message": "the service failed, its log says why"}}
            return Reply(content=body, status=500)

    def _find(self) -> tuple[Route, str, dict[str, str]]:
        parts = urlsplit(self.path)
        path = parts.path
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        parent, _, last = path.rpartition("/")
        for wanted, rest in ((path, ""), (f"{parent}/*", unquote(last))):
            route = self.server.routes.get((self.command, wanted))
            if route:
                return route, rest, query
            if any(known == wanted for _, known in self.server.routes):
                raise Refusal(405, "wrong_method", f"{self.command} is not answered at {path}")
        raise Refusal(404, "unknown_path", f"there is nothing at {path}")

    def _read_body(self) -> bytes:
        if "Transfer-Encoding" in self.headers:
            self.close_connection = True
            raise Refusal(411, "length_required", "send a Content-Length; chunked bodies are not read")
        text = self.headers.get("Content-Length", "0")
        if not (text.isascii() and text.isdigit()):
            self.close_connection = True
            raise Refusal(400, "bad_length", "Content-Length must be a number")
        length = int(text)
        if length > BODY_LIMIT:
            self.close_connection = True
            self._drain(min(length, DRAIN_LIMIT))
            raise Refusal(413, "too_large", f"the body has {length} bytes, {BODY_LIMIT} are taken")
        return self.rfile.read(length)

    def _drain(self, left: int) -> None:
        while left > 0:
            read = len(self.rfile.read(min(left, 65536)))
            left = left - read if read else 0

    def _send(self, reply: Reply) -> None:
        is_text = isinstance(reply.content, str)
        body = reply.content.encode() if is_text else json.dumps(reply.content).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type if is_text else "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if self.server.stopping or self.close_connection:
            self.close_connection = True
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        if self.server.verbose:
            super().log_request(code, size)


def _cookies(header: str) -> dict[str, str]:
    pairs = (each.strip().partition("=") for each in header.split(";"))
    return {name: value for name, _, value in pairs if name}


def _decoded(raw: bytes) -> dict[str, Any]:
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "invalid_json", f"the body is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise Refusal(400, "invalid_json", "the body must be a JSON object")
    return cast("dict[str, Any]", body)


# -- reading a body ----------------------------------------------------------------------------------------------


def text(body: Mapping[str, Any], name: str, *, limit: int = 2000) -> str:
    """The string ``name`` of ``body``, at most ``limit`` characters; refuses with 400 or 413."""
    value = body.get(name)
    if not isinstance(value, str) or not value.strip():
        raise Refusal(400, f"missing_{name}", f'the body needs a text "{name}"')
    if len(value) > limit:
        raise Refusal(413, "too_large", f'"{name}" has {len(value)} characters, {limit} are taken')
    return value.strip()


def number(body: Mapping[str, Any], name: str, default: int, *, most: int) -> int:
    """The whole number ``name`` of ``body``, 1 to ``most``; refuses with 400."""
    value = body.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise Refusal(400, f"bad_{name}", f'"{name}" must be a whole number from 1 to {most}')
    return value


def request_id(body: Mapping[str, Any], name: str = "request_id") -> str:
    """The identifier ``name`` of ``body``, ``""`` when it was left out; refuses with 400."""
    value = body.get(name, "")
    if not isinstance(value, str) or len(value) > 80 or not all(char.isalnum() or char in "-_." for char in value):
        raise Refusal(400, f"bad_{name}", f'"{name}" must be up to 80 letters, digits, "-", "_" or "."')
    return value
