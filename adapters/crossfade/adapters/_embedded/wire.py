"""The few words of the NATS protocol that starting and watching a server take, on a blocking socket.

The keeper lives on for hours beside every embedded server; a full client would cost it tens of megabytes.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Literal, Self

from .store import HOST

if TYPE_CHECKING:
    from .store import Record

USER = "crossfade"
SYSTEM_USER = "crossfade-system"

Presence = Literal["ours", "stranger", "silent", "absent"]


class Line:
    """A connection to whatever listens on a loopback port; ``info`` is what it said first.

    ``timeout`` bounds each step, in seconds. Raises ``OSError``, and ``ValueError`` when it is no NATS server.
    """

    def __init__(self, port: int, *, timeout: float) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=timeout)
        self._file = self._socket.makefile("rb")
        try:
            self.info: dict[str, Any] = json.loads(self._words("INFO"))
        except BaseException:
            self.close()
            raise

    def login(self, user: str, password: str) -> None:
        """Log in; returns when the server accepted it. Raises ``PermissionError`` when it does not."""
        hello = {"user": user, "pass": password, "verbose": False, "pedantic": False, "lang": "crossfade"}
        self._socket.sendall(f"CONNECT {json.dumps(hello)}\r\nPING\r\n".encode())
        self._words("PONG")

    def request(self, subject: str, question: object) -> Any:
        """Ask once and return the answer's ``data``."""
        body = json.dumps(question).encode()
        self._socket.sendall(b"SUB answer 1\r\nPUB %s answer %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        length = int(self._words("MSG").split()[-1])
        return json.loads(self._file.read(length + 2))["data"]

    def _words(self, verb: str) -> str:
        """What follows ``verb``, past anything the server says in between."""
        while True:
            words = self._file.readline(65_536).decode("ascii", "replace").strip()
            found, _, rest = words.partition(" ")
            if found == verb:
                return rest
            if found == "PING":
                self._socket.sendall(b"PONG\r\n")
            elif found == "-ERR" and "Authorization" in rest:
                raise PermissionError(rest)
            elif not words:
                raise ConnectionResetError("the server ended the connection")
            elif found not in ("INFO", "+OK"):
                raise ValueError(f"not a NATS server: {words[:80]!r}")

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def probe(record: Record, *, timeout: float) -> Presence:
    """Who answers on the stored port; no secret is sent to a server that does not show the stored name."""
    try:
        with Line(record.port, timeout=timeout) as line:
            if line.info.get("server_name") != record.name:
                return "stranger"
            line.login(USER, record.token)
            return "ours"
    except (ConnectionError, PermissionError) as error:
        return "stranger" if isinstance(error, PermissionError) else "absent"
    except TimeoutError:
        return "silent"
    except ValueError:
        return "stranger"


def connections(record: Record, *, timeout: float) -> int:
    """How many clients are connected, those of the system account (ours) not counted. Raises ``OSError``."""
    with _system_line(record, timeout) as line:
        found = line.request("$SYS.REQ.ACCOUNT.PING.STATZ", {"accounts": ["$G"], "include_unused": True})
        return int(found["account_statz"][0]["conns"])


def facts(record: Record, *, timeout: float) -> dict[str, Any]:
    """What the server says of itself (``VARZ``). Raises ``OSError``, also for a server that is still starting."""
    with _system_line(record, timeout) as line:
        found: dict[str, Any] = line.request("$SYS.REQ.SERVER.PING.VARZ", {})
    if not {"version", "connections", "start", "now"} <= found.keys():
        raise OSError(f"the server's answer lacks what it says of itself: {sorted(found)}")
    return found


def _system_line(record: Record, timeout: float) -> Line:
    line = Line(record.port, timeout=timeout)
    try:
        if line.info.get("server_name") != record.name:
            raise ConnectionRefusedError("another server listens on the stored port")  # noqa: TRY301 - closed below
        line.login(SYSTEM_USER, record.system_token)
    except BaseException:
        line.close()
        raise
    return line
