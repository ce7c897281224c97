"""A real Apache Kafka for the whole run, shared by its processes; tests are kept apart by prefix.

``CROSSFADE_TEST_KAFKA=host:port`` (or several, with commas) names brokers to use instead.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from crossfade.adapters.kafka import _cluster
from support.needs import needs
from support.tcp_link import TcpLink

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTSIDE = os.environ.get("CROSSFADE_TEST_KAFKA")  # read before the environment is scrubbed
NEEDED = [] if OUTSIDE else [needs("java"), needs("mvn")]  # marks for a test that uses the broker
_READY = 500.0  # seconds: the first run on a machine fetches the jars


class Ways:
    """The ways of this process's buses to the brokers: a link for each address they dial, all cut and mended at once.

    A link in front of a broker would be passed by: clients go where the brokers say that they are.
    """

    def __init__(self) -> None:
        self._connect = _cluster.connect
        self._links: dict[tuple[str, int], TcpLink] = {}
        self.are_cut = False

    def link(self, host: str, port: int) -> TcpLink:
        """The way to one broker."""
        if (host, port) not in self._links:
            self._links[host, port] = TcpLink(port, host=host)
            if self.are_cut:
                self._links[host, port].cut()
        return self._links[host, port]

    async def connect(self, host: str, port: int, *rest: Any) -> Any:
        """What the bus makes its connections by."""
        return await self._connect("127.0.0.1", self.link(host, port).port, *rest)

    def cut(self) -> None:
        """Break every connection of a bus of this process, and let none be made."""
        self.are_cut = True
        for link in self._links.values():
            link.cut()

    def mend(self) -> None:
        """Undo ``cut``; without one, nothing."""
        if self.are_cut:
            self.are_cut = False
            for link in self._links.values():
                link.mend()


@dataclass(frozen=True)
class SharedKafka:
    """Where the run's broker is, ``host:port``, and this process's ways to it, which a test may cut."""

    server: str
    ways: Ways

    @property
    def url(self) -> str:
        """For a bus."""
        return f"kafka://{self.server}"


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedKafka]:
    """One broker for all processes of the run; tests must not stop it, but may cut their own ways to it."""
    with ExitStack() as stack:
        server = OUTSIDE or stack.enter_context(_kept(_folder(tmp_path_factory)))
        ways = Ways()
        stack.callback(ways.cut)
        for each in server.split(","):  # now, so that no test finds the threads of a link that it did not ask for
            host, _, port = each.rpartition(":")
            ways.link(host, int(port))
        stack.enter_context(pytest.MonkeyPatch.context()).setattr(_cluster, "connect", ways.connect)
        yield SharedKafka(server, ways)


@contextmanager
def _kept(folder: Path) -> Iterator[str]:
    """Where the broker of the run listens, started by the first process that asks."""
    user = folder / "users" / str(os.getpid())
    user.parent.mkdir(parents=True, exist_ok=True)
    user.touch()
    try:
        yield f"127.0.0.1:{_started(folder)}"
    finally:
        user.unlink()


def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kafka"


def _started(folder: Path) -> int:
    """Start the keeper, unless another process has; the broker's port."""
    ready = folder / "ready"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            with (folder / "keeper.log").open("wb") as log:
                keeper = subprocess.Popen(
                    [sys.executable, "-m", "support.kafka_keeper", str(folder)],
                    cwd=Path(__file__).parents[1],
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
            deadline = time.monotonic() + _READY
            while not ready.exists():
                if keeper.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "keeper.log").read_text())
                time.sleep(0.05)
            keeper.returncode = 0  # nobody waits for it, and no warning says so: it ends by itself, after us
    return int(ready.read_text())
