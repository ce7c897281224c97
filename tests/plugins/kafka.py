"""A real Apache Kafka for the whole run, shared by its processes; tests are kept apart by prefix.

``CROSSFADE_TEST_KAFKA=host:port`` names a broker to use instead; tests that take a broker away are skipped there.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.needs import needs
from support.tcp_link import TcpLink

if TYPE_CHECKING:
    from collections.abc import Iterator

OUTSIDE = os.environ.get("CROSSFADE_TEST_KAFKA")  # read before the environment is scrubbed
NEEDED = [] if OUTSIDE else [needs("java"), needs("mvn")]  # marks for a test that uses the broker
_READY = 500.0  # seconds: the first run on a machine fetches the jars

_keepers: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True)
class SharedKafka:
    """Where the run's broker is. ``link``: the way of this process to it, which a test may cut; ``None`` outside."""

    port: int
    link: TcpLink | None
    server: str

    @property
    def url(self) -> str:
        """By the way that may be cut."""
        return f"kafka://{self.server}"

    @property
    def direct(self) -> str:
        """By the way that stays."""
        return f"127.0.0.1:{self.port}" if self.link else self.server


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedKafka]:
    """One broker on loopback for all processes of the run; tests must not stop it, but may cut their own link."""
    if OUTSIDE:
        yield SharedKafka(port=0, link=None, server=OUTSIDE)
        return
    folder = _folder(tmp_path_factory)
    (folder / "users").mkdir(parents=True, exist_ok=True)
    user = folder / "users" / str(os.getpid())
    user.touch()
    try:
        found = _started(folder)
        with _own_link(folder, found["links"]) as link:
            yield SharedKafka(port=found["port"], link=link, server=f"127.0.0.1:{link.port}")
    finally:
        user.unlink()


def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = tmp_path_factory.getbasetemp()
    return (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "kafka"


def _started(folder: Path) -> dict[str, object]:
    """Start the keeper, unless another process has; where the broker listens."""
    ready = folder / "ready.json"
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
            _keepers.append(keeper)  # nobody waits for it: it ends by itself, after us
            deadline = time.monotonic() + _READY
            while not ready.exists():
                if keeper.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError((folder / "keeper.log").read_text())
                time.sleep(0.05)
    return json.loads(ready.read_text())


def _own_link(folder: Path, links: list[tuple[int, int]]) -> TcpLink:
    """A listener of the broker's that no other process of the run uses, behind a link."""
    for told, real in links:
        try:
            (folder / f"link{told}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return TcpLink(real, port=told)
    raise RuntimeError("more processes than links: raise LINKS in support/kafka_keeper.py")
