"""A plain synchronous web service for clients to call: echoes, redirects, streams, and breaks on demand."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class WebService:
    """``asked``: method, path, headers and body of each request; ``go`` lets a stream go on after its first part."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.go = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="web service")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def count(self, path: str) -> int:
        return sum(asked[1].startswith(path) for asked in self.asked)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.go.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - a method a path
        told = self

        class Handler(BaseHTTPRequestHandler):
            wbufsize = -1  # an answer is one packet, but for what is flushed

            def log_message(self, *_: Any) -> None:
                pass

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def _any(self) -> None:
                body = self._body()
                told.asked.append((self.command, self.path, dict(self.headers), body))
                name = self.path.split("?", maxsplit=1)[0].strip("/").split("/")[-1]
                getattr(self, f"_{name}", self._echo)(body)

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _any  # noqa: N815

            def _send(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
                self.send_response(status)
                for name, value in headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            def _echo(self, body: bytes) -> None:
                said = {"by": "service", "method": self.command, "path": self.path, "got": body.decode("latin-1")}
                self._send(200, json.dumps(said).encode(), ("Content-Type", "application/json"))

            def _missing(self, _body: bytes) -> None:
                self._send(404, b"no such thing", ("Content-Type", "text/plain"))

            def _moved(self, _body: bytes) -> None:
                self._send(302, b"", ("Location", "/v1/here"))

            def _cookie(self, _body: bytes) -> None:
                self._send(200, b"", ("Set-Cookie", "taste=sweet; Path=/"))

            def _login(self, _body: bytes) -> None:
                if self.headers.get("Authorization"):
                    self._echo(b"")
                else:
                    self._send(401, b"", ("WWW-Authenticate", 'Digest realm="r", nonce="n", algorithm=MD5, qop="auth"'))

            def _cut(self, _body: bytes) -> None:
                self.close_connection = True

            def _half(self, _body: bytes) -> None:
                self.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhalf")

            def _nonsense(self, _body: bytes) -> None:
                self.wfile.write(b"nonsense\r\n\r\n")

            def _slow(self, _body: bytes) -> None:
                told.go.wait(10)

            def _large(self, _body: bytes) -> None:
                self._send(200, b"x" * 300_000, ("Content-Type", "text/plain"))

            def _events(self, _body: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                self.wfile.write(b"data: first\n\n")
                self.wfile.flush()
                told.go.wait(10)
                self.wfile.write(b"data: second\n\n")

        return Handler
