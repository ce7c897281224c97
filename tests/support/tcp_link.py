"""A TCP link between a client and a server on loopback that a test can cut, freeze and mend; its port stays."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self


class TcpLink:
    """Forwards a port of its own, ``port`` or any, to ``target`` of ``host``.

    ``cut``: every connection breaks and none is accepted. ``freeze``: connections stay, and nothing passes.
    """

    def __init__(self, target: int, *, port: int = 0, host: str = "127.0.0.1") -> None:
        self._target = (host, target)
        self._flows = threading.Event()
        self._flows.set()
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = int(self._listener.getsockname()[1])
        self._accepting(self._listener)

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Break it."""
        _end(self._listener)
        with self._lock:
            for end in self._sockets:
                _end(end)
            self._sockets.clear()

    def freeze(self) -> None:
        """Let nothing pass, and nobody notice."""
        self._flows.clear()

    def mend(self) -> None:
        """Undo ``cut`` or ``freeze``."""
        if not self._flows.is_set():
            self._flows.set()
            return
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._accepting(self._listener)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._flows.set()

    def _accepting(self, listener: socket.socket) -> None:
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # cut
            while True:
                near, _ = listener.accept()
                far = socket.create_connection(self._target)
                with self._lock:
                    self._sockets += [near, far]
                for source, sink in ((near, far), (far, near)):
                    threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):  # cut, or the other end went
            while data := source.recv(65536):
                self._flows.wait()
                sink.sendall(data)
        _end(sink)


def _end(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()
