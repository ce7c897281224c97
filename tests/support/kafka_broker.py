"""A real Apache Kafka broker on loopback, owned by who started it: start, stop, kill, pause, restart."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Self

from support.kafka_jars import jars

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_READY = 60.0  # seconds until a broker that was just started must answer, on a busy machine
_CLUSTER = "Y3Jvc3NmYWRlLXRlc3RzIQ"  # any 16 bytes
_JAVA = ("java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto")


def free_ports(n: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(n)]
        return [int(probe.getsockname()[1]) for probe in probes]


class KafkaBroker:
    """One broker and controller in one process; its ports and its data survive restarts.

    ``settings`` are added to the broker's own, ``java`` to its process; ``users`` (name: password) may log in by SCRAM.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        settings: Mapping[str, str] | None = None,
        users: Mapping[str, str] | None = None,
        java: Sequence[str] = (),
    ) -> None:
        self.directory = directory or Path(tempfile.mkdtemp(prefix="crossfade-kafka-"))
        self.port, self.controller = free_ports(2)
        self.settings = dict(settings or {})
        self.users = dict(users or {})
        self.java = list(java)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"kafka://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The running broker's process."""
        assert self._process is not None, "the broker is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and not stopped since."""
        return self._process is not None

    def log(self) -> str:
        """What the broker has logged so far."""
        path = self.directory / "broker.log"
        return path.read_text() if path.exists() else ""

    def _write_settings(self) -> Path:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "MAIN",
            "listeners": f"MAIN://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller}",
            "advertised.listeners": f"MAIN://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "MAIN:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            "auto.create.topics.enable": "false",
            "default.replication.factor": "1",
            "offsets.topic.replication.factor": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "log.retention.check.interval.ms": "200",
            "log.initial.task.delay.ms": "200",
            "log.cleaner.enable": "false",  # 128 MB of memory for what no topic here wants
            "num.network.threads": "2",
            "num.io.threads": "4",
            "background.threads": "2",
            "controlled.shutdown.enable": "false",
            **self.settings,
        }
        path = self.directory / "server.properties"
        path.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
        return path

    def _command(self, *arguments: str) -> list[str]:
        return [*_JAVA, *self.java, "-Xmx384m", "-cp", f"{jars()}/*", *arguments]

    def start(self) -> KafkaBroker:
        """Start and wait until it answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        settings = str(self._write_settings())
        if not (self.directory / "data").exists():
            self._format(settings)
        with (self.directory / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command("kafka.Kafka", settings), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        deadline = time.monotonic() + _READY
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"Kafka did not start:\n{self.log()}")
            time.sleep(0.05)
        return self

    def _format(self, settings: str) -> None:
        command = self._command("kafka.tools.StorageTool", "format", "-t", _CLUSTER, "-c", settings)
        for name, password in self.users.items():
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512"):
                command += ["--add-scram", f"{mechanism}=[name={name},password={password}]"]
        subprocess.run(command, check=True, capture_output=True, timeout=_READY)

    def _answers(self) -> bool:
        """A broker accepts connections before it serves them, so ask: ApiVersions, version 0."""
        request = b"\x00\x12\x00\x00\x00\x00\x00\x01\xff\xff"
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as probe:
                probe.sendall(len(request).to_bytes(4, "big") + request)
                return bool(probe.recv(4))
        except OSError:
            return False

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
                self._process.send_signal(signal.SIGCONT)  # a paused broker has to run to hear it
            self._process.wait(30)
        self._process = None

    def pause(self) -> None:
        """SIGSTOP: the port still accepts, nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitpid(self.pid, os.WUNTRACED)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    def restart(self, *, kill: bool = False) -> None:
        """Stop (or kill) and start on the same ports and data."""
        self._end(signal.SIGKILL if kill else signal.SIGTERM)
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
