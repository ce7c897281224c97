"""Three Kafka brokers on loopback, each a controller, too; what is acknowledged lies on two of them."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import TYPE_CHECKING, Self

from support.kafka_broker import KafkaBroker, free_ports

if TYPE_CHECKING:
    from pathlib import Path

_SETTINGS = {
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
    "offsets.topic.replication.factor": "3",
    "broker.session.timeout.ms": "3000",  # nine in earnest: how long a dead leader is waited for
    "broker.heartbeat.interval.ms": "500",
}


class KafkaCluster:
    """Three brokers that elect leaders among themselves; ``brokers`` by node id, from 1."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        ports = free_ports(6)
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(ports[3:], 1))
        self.brokers: dict[int, KafkaBroker] = {}
        for node, (port, controller) in enumerate(zip(ports[:3], ports[3:], strict=True), 1):
            settings = {**_SETTINGS, "node.id": str(node), "controller.quorum.voters": voters}
            broker = self.brokers[node] = KafkaBroker(directory / f"k{node}", settings=settings)
            broker.port, broker.controller = port, controller
        self._turn = cycle(self.brokers)
        self._paused: KafkaBroker | None = None

    @property
    def server(self) -> str:
        """All three, for a client."""
        return ",".join(f"127.0.0.1:{broker.port}" for broker in self.brokers.values())

    @property
    def url(self) -> str:
        """All three, for a bus."""
        return f"kafka://{self.server}"

    def pause(self) -> None:
        """SIGSTOP to one of them, each in its turn."""
        self._paused = self.brokers[next(self._turn)]
        self._paused.pause()

    def resume(self) -> None:
        """Undo ``pause``."""
        if self._paused:
            self._paused.resume()

    def restart(self, *, kill: bool = False) -> None:
        """Stop or kill one of them, each in its turn, and start it again."""
        self.brokers[next(self._turn)].restart(kill=kill)

    def __enter__(self) -> Self:
        with ThreadPoolExecutor() as pool:  # none answers before two are there
            list(pool.map(KafkaBroker.start, self.brokers.values()))
        return self

    def __exit__(self, *_: object) -> None:
        for broker in self.brokers.values():
            broker.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
