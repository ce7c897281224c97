"""Unsafe calls while things are done to workers and brokers, and what it came to.

Starts are counted from a journal that each body appends to and syncs before anything else. Afterwards everything is
healed, and every number that must be zero is there with those that show that the faults did happen.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from crossfade.shim.errors import NotExecutedError, OutcomeUnknownError
from integration.ledger.world import kill, resume, stop, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from integration.ledger.world import World
    from support.kafka_broker import KafkaBroker
    from support.kafka_cluster import KafkaCluster
    from support.nats_server import NatsServer

MEMBERS = 3
CALLERS = 8


@dataclass(kw_only=True)
class Toll:
    """What a run came to."""

    told: dict[str, str] = field(default_factory=dict)
    starts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    endless: list[str] = field(default_factory=list)

    @property
    def wrong(self) -> dict[str, list[str]]:
        """Every broken promise by name; empty when all were kept."""
        found = {
            "started twice": [name for name, n in self.starts.items() if n > 1],
            "told 'not executed', and started": [n for n, told in self.told.items() if told == "no" and self.starts[n]],
            "told a value, and never started": [
                n for n, told in self.told.items() if told == "value" and not self.starts[n]
            ],
            "another's value": [name for name, told in self.told.items() if told == "wrong"],
            "without terminal": self.endless,
        }
        return {name: calls for name, calls in found.items() if calls}

    def __str__(self) -> str:
        return (
            f"{len(self.told)} calls, told {dict(Counter(self.told.values()))}, {self.starts.total()} starts, "
            f"faults {dict(self.faults)}, wrong {dict(self.wrong)}"
        )


class Storm:
    """The callers, the workers and what is done to them."""

    def __init__(self, server: NatsServer | KafkaBroker | KafkaCluster, world: World, seed: int, mode: str) -> None:
        self.server, self.world, self.mode = server, world, mode
        self.random = random.Random(seed)
        self.toll = Toll()
        self.members = [world.member(mode, timeout=2.0) for _ in range(MEMBERS)]
        self.callers = [world.side(timeout=2.0, fallback="raise") for _ in range(2)]
        self.over = threading.Event()

    def call(self, name: str) -> None:
        try:
            value = self.callers[hash(name) % 2].call(name)
            self.toll.told[name] = "value" if value.startswith(f"{name} by ") else "wrong"
        except OutcomeUnknownError:
            self.toll.told[name] = "unknown"
        except NotExecutedError:
            self.toll.told[name] = "no"

    def keep_calling(self, number: int) -> None:
        n = 0
        while not self.over.is_set():
            self.call(f"c{number}x{n}")
            n += 1

    @contextlib.contextmanager
    def calling(self) -> Iterator[None]:
        """Callers that call until the end, each as soon as it was told."""
        threads = [threading.Thread(target=self.keep_calling, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.over.set()
            for thread in threads:
                thread.join(30)
        assert not any(thread.is_alive() for thread in threads), "a caller was never told"

    def play(self, faults: int) -> None:
        acts = [self.kill_worker, self.kill_worker, self.stop_worker, self.stop_broker, self.kill_broker]
        with self.calling():
            for number in range(faults):
                act = acts[number % len(acts)]
                act()
                self.toll.faults[act.__name__] += 1
                time.sleep(self.random.uniform(0.05, 0.3))

    def kill_worker(self) -> None:
        kill(self.members.pop(self.random.randrange(len(self.members))))
        self.members.append(self.world.member(self.mode, timeout=2.0))

    def stop_worker(self) -> None:
        member = self.random.choice(self.members)
        stop(member)
        time.sleep(self.random.uniform(0.5, 2.5))
        resume(member)

    def stop_broker(self) -> None:
        self.server.pause()
        time.sleep(self.random.uniform(0.5, 2.5))
        self.server.resume()

    def kill_broker(self) -> None:
        self.server.restart(kill=True)

    def stop_a_busy_worker(self) -> None:
        """Stop a worker with calls in its hands until others have been handed them."""
        calls = [threading.Thread(target=self.call, args=(f"s{self.random.random()}",)) for _ in range(40)]
        for thread in calls:
            thread.start()
        began = len(self.world.journal.lines)
        until(lambda: len(self.world.journal.lines) > began + 8)
        stop(self.members[0])
        time.sleep(1.6)
        resume(self.members[0])
        for thread in calls:
            thread.join(30)

    def judge(self) -> Toll:
        """Heal, wait until every claimed call has ended, count."""
        side = self.world.side()
        with contextlib.suppress(AssertionError):
            until(lambda: not self.endless(side), timeout=25)
        self.toll.endless = self.endless(side)
        self.toll.starts = Counter(line.rpartition("-")[0] for line in self.world.journal.lines)
        return self.toll

    def endless(self, side) -> list[str]:
        """Ledgers whose last event is a claim."""
        last = {found.subject.rpartition(".")[0]: found.subject for found in self.world.log(side)}
        return [subject for subject in last.values() if subject.endswith(".own")]
