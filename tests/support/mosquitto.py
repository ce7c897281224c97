"""A real mosquitto on loopback, owned by the test that started it; sessions survive its restart."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING, Self

from support.nats_server import free_port
from support.needs import locate

if TYPE_CHECKING:
    from pathlib import Path


class Mosquitto:
    """One broker. ``config`` holds further lines."""

    def __init__(self, directory: Path, *, config: str = "allow_anonymous true") -> None:
        self.directory = directory
        self.port = free_port()
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> Mosquitto:
        """Start and wait until it listens."""
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = [
            f"listener {self.port} 127.0.0.1",
            "persistence true",
            f"persistence_location {self.directory}/",
            "user root",  # else it gives its rights up, and the folder is the test's
            self._config,
        ]
        path = self.directory / "mosquitto.conf"
        path.write_text("\n".join(lines) + "\n")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(locate("mosquitto")), "-c", str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        end = time.monotonic() + 10
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"mosquitto did not start:\n{(self.directory / 'log').read_text()}")
            time.sleep(0.01)
        return self

    def stop(self) -> None:
        """SIGTERM and wait; it writes its sessions down."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)
            self._process = None

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
