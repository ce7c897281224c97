"""Hundreds of unsafe calls while workers are killed and stopped and the broker is killed and stopped.

Starts are counted from a journal that each body appends to and syncs before anything else. Afterwards everything is
healed, and every number that must be zero is printed with those that show that the faults did happen.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from crossfade.shim import _calls, claims, hooks, reaping
from crossfade.shim.errors import NotExecutedError, OutcomeUnknownError
from integration.ledger.world import GRACE, World, kill, resume, stop, until
from plugins.kafka import NEEDED
from support.kafka_broker import KafkaBroker
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

    def __init__(self, server: NatsServer | KafkaBroker, world: World, seed: int, mode: str) -> None:
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

    def play(self, faults: int) -> None:
        threads = [threading.Thread(target=self.keep_calling, args=(number,)) for number in range(CALLERS)]
        for thread in threads:
            thread.start()
        acts = [self.kill_worker, self.kill_worker, self.stop_worker, self.stop_broker, self.kill_broker]
        try:
            for number in range(faults):
                act = acts[number % len(acts)]
                act()
                self.toll.faults[act.__name__] += 1
                time.sleep(self.random.uniform(0.05, 0.3))
        finally:
            self.over.set()
            for thread in threads:
                thread.join(30)
        assert not any(thread.is_alive() for thread in threads), "a caller was never told"

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


KINDS = {"nats": lambda folder: NatsServer(folder, sync_always=True), "kafka": KafkaBroker}


@pytest.fixture(params=["nats", pytest.param("kafka", marks=[pytest.mark.slow, pytest.mark.timeout(400), *NEEDED])])
def storm(request, tmp_path, monkeypatch):
    """Makes a storm over a server of its own."""
    monkeypatch.setattr(hooks.report, "hooks", hooks.Counters())
    for module in (claims, _calls, reaping):
        monkeypatch.setattr(module, "GRACE", GRACE)
    with contextlib.ExitStack() as stack:

        def make(seed, mode="run"):
            server = stack.enter_context(KINDS[request.param](tmp_path / request.param))
            world = stack.enter_context(World(f"{server.url}?sync=always", "storm", tmp_path))
            return Storm(server, world, seed, mode)

        yield make


def test_nothing_starts_twice_and_everything_ends(storm, note):
    """20 faults on workers and broker: no double start, no false "not executed", no call without an end."""
    played = storm(seed=7)
    played.play(20)
    toll = played.judge()
    note(f"ledger under faults (seed 7): {toll}")
    assert toll.wrong == {}
    assert len(toll.told) > 100
    assert Counter(toll.told.values())["value"] > 50
    assert min(toll.faults.values()) >= 4


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_other_seeds(storm, note, seed):
    """The same with other seeds, longer."""
    played = storm(seed=seed)
    played.play(60)
    toll = played.judge()
    note(f"ledger under faults (seed {seed}): {toll}")
    assert toll.wrong == {}


def test_without_the_nonce_it_is_noticed(storm, note):
    """Vacuity guard: with workers that take every claim for their own, stopped ones start calls a second time."""
    played = storm(seed=3, mode="no-nonce")
    for _ in range(4):
        played.stop_a_busy_worker()
        if "started twice" in played.judge().wrong:
            break
    note(f"ledger under faults without nonces: {played.toll}")
    assert "started twice" in played.toll.wrong
