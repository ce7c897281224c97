"""Sides of a call for tests of the ledger: callers and workers, each with a connection and nonces of its own.

Several sides live in this process, since a side is a ``Runtime``; one that gets killed or stopped is a real process
(``member.py``). Starts are counted from a journal: one line per start, appended and synced before anything else.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pytest

from crossfade.shim import _calls, claims, reaping, worker
from crossfade.shim._runtime import Runtime
from crossfade.shim._wrapper import SeamFunction
from crossfade.shim.buses import open_bus
from crossfade.shim.claims import CallPlace, ClaimRecord
from crossfade.shim.config import Config
from crossfade.shim.hooks import report
from crossfade.shim.outcomes import read_answer
from crossfade.shim.policy import Policy
from crossfade.shim.ports import BusSettings
from crossfade.shim.redaction import Redactor
from crossfade.shim.seam import Registry, Seam
from crossfade.shim.stages import Stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from crossfade.shim.outcomes import Answer
    from crossfade.shim.ports import Stored

SOON = 20.0  # seconds in which something that must happen has happened, on a busy machine
GRACE = timedelta(seconds=1)  # ten in earnest; nothing but the length of these tests depends on it
_numbers = itertools.count(1)


def shorten_grace() -> None:
    """Let silent owners be given up after a second."""
    for module in (claims, _calls, reaping):
        module.GRACE = GRACE


def until(condition: Callable[[], Any], what: str = "", *, timeout: float = SOON) -> Any:
    """The first true result of ``condition``, for what offers no event."""
    end = time.monotonic() + timeout
    while not (result := condition()):
        assert time.monotonic() < end, what or f"not within {timeout} s"
        time.sleep(0.01)
    return result


class Journal:
    """The effect of a body: one synced line per start."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def start(self, who: str) -> None:
        descriptor = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{who}\n".encode())
        os.fsync(descriptor)
        os.close(descriptor)

    @property
    def lines(self) -> list[str]:
        return self.file.read_text().split() if self.file.exists() else []


def journalling(journal: Journal) -> Callable[[str], str]:
    """The usual body."""

    def body(arg: str) -> str:
        journal.start(arg)
        return f"{arg} done"

    return body


class Side:
    """One connected process, as far as the protocol can tell."""

    def __init__(self, world: World, url: str, policy: Policy, body: Callable[[str], str], domain: str) -> None:
        self.world = world
        self.registry = Registry()
        self.seam = Seam(world.seam, body, domain=domain, policy=policy)
        self.registry.add(self.seam)
        self.call = SeamFunction(self.seam, body)
        self.runtime = Runtime(
            bus=open_bus(url, BusSettings(prefix=world.prefix, connect_timeout=30), report),
            url=url,
            config=Config(prefix=world.prefix),
            registry=self.registry,
            redactor=Redactor.from_environment(),
            sealer=None,
            off=False,
        )
        self.runtime.thread.run(self.runtime.start())
        self.run(self.runtime.settled(patient=True), 40)
        assert self.runtime.ready.is_set(), self.runtime.failure
        self._worker: worker.Worker | None = None
        self._thread: threading.Thread | None = None

    def run(self, coroutine: Any, timeout: float = SOON) -> Any:
        """Run ``coroutine`` where the bus lives."""
        return self.runtime.thread.run(coroutine, timeout=timeout)

    @property
    def bus(self) -> Any:
        return self.runtime.bus

    def serve(self, **options: Any) -> Self:
        """Be a worker, too."""
        chosen = {"spool": self.world.folder / "spool", "grace": 2.0, "ack_wait": 2.0, "shadows": 0, **options}
        self._worker = worker.Worker(self.runtime, worker.WorkerOptions(**chosen))
        self._thread = threading.Thread(target=self._worker.run)
        self._thread.start()
        return self

    @property
    def in_flight(self) -> int:
        assert self._worker
        return self._worker.in_flight

    def close(self) -> None:
        if self._worker and self._thread:
            self._worker.stop()
            self._thread.join(SOON)
            assert not self._thread.is_alive(), "a worker did not stop"
        self.run(self.runtime.stop(flush=0.1))
        self.runtime.thread.stop()


class World:
    """One seam on one broker, with everybody who has to do with it."""

    def __init__(self, url: str, prefix: str, folder: Path) -> None:
        self.url = url
        self.prefix = prefix
        self.folder = folder
        self.seam = f"ledger.s{next(_numbers)}_{os.getpid()}"
        self.journal = Journal(folder / "journal")
        self.pool = ThreadPoolExecutor(32)
        self._sides: list[Side] = []
        self._members: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for member in self._members:
            member.kill()
            member.wait()
        for side in self._sides:
            side.close()
        self.pool.shutdown()

    def side(
        self, body: Callable[[str], str] | None = None, *, url: str = "", domain: str = "tool", **policy: Any
    ) -> Side:
        """A process that declares the seam; its body journals its start and says on which path it ran."""
        settings = {"stage": Stage.BUS, "timeout": 1.0, **policy}
        side = Side(self, url or self.url, Policy(**settings), body or journalling(self.journal), domain)
        self._sides.append(side)
        return side

    def member(
        self, mode: str = "run", *, url: str = "", timeout: float = 1.0, environment: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """A process of its own with more ``environment``; ``member.py`` has the modes. It is connected on return."""
        number = len(self._members)
        arguments = [url or self.url, self.prefix, self.seam, str(self.folder), mode, str(number), str(timeout)]
        log = (self.folder / f"member{number}.log").open("wb")
        with log:
            process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("member.py")), *arguments],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), **(environment or {})},
            )
        self._members.append(process)
        until(lambda: self.mark("ready", number).exists() or process.poll() is not None, "no member")
        assert process.poll() is None, (self.folder / f"member{number}.log").read_text()
        return process

    def mark(self, name: str, number: int = 0) -> Path:
        """A file by which a member says where it is."""
        return self.folder / f"{name}.{number}"

    # -- the ledger --------------------------------------------------------------------------------------------

    def log(self, side: Side, callid: str = "*") -> list[Stored]:
        """What the ledger says, oldest first."""
        pattern = f"{self.prefix}.*.*.*.*.{self.seam.replace('.', '-')}.*.{callid}.*"

        async def collect() -> list[Stored]:
            return [stored async for stored in side.bus.read(pattern)]

        return side.run(collect())

    def kinds(self, side: Side, callid: str = "*") -> list[str]:
        """The kinds of message in the ledger, oldest first."""
        return [stored.subject.rpartition(".")[2] for stored in self.log(side, callid)]

    def terminals(self, side: Side, callid: str = "*") -> list[Answer]:
        """Every terminal logged."""
        return [read_answer(found.event.data) for found in self.log(side, callid) if found.subject.endswith(".result")]

    def claims(self, side: Side) -> list[ClaimRecord]:
        """Every claim logged."""
        return [ClaimRecord.read(found.event) for found in self.log(side) if found.subject.endswith(".own")]

    def dead_letters(self, side: Side) -> list[str]:
        """The reasons of this seam's dead letters."""
        token = self.seam.replace(".", "-")

        async def collect() -> list[str]:
            return [letter.reason async for letter in side.bus.dead_letters() if token in letter.subject]

        return side.run(collect())

    def place(self, side: Side) -> CallPlace:
        """Where the only call's ledger lies."""
        return CallPlace.of(until(lambda: self.log(side))[0].subject)

    def delete(self, side: Side, kind: str) -> None:
        """Delete the messages of one kind from the broker, behind everybody's back."""
        stored = [found for found in self.log(side) if found.subject.endswith(kind)]
        for found in stored:
            side.run(
                self.on_nats(side)._connection.api(
                    f"STREAM.MSG.DELETE.{self.prefix.upper()}_CMD", {"seq": int(found.position)}
                )
            )
        assert stored

    def store_junk(self, side: Side, subject: str) -> None:
        """Store a message that is no event."""
        if self.url.startswith("kafka"):
            headers = [("ce_specversion", b"9"), ("cf_subject", subject.encode())]
            side.run(side.bus._producer.produce(f"{self.prefix}.cmd", None, b"junk", headers, timeout=5))
        else:
            side.run(side.bus._connection.request(subject, b"junk", {"ce-specversion": "9"}))

    def on_nats(self, side: Side) -> Any:
        """The side's bus, for what only NATS can do; the test ends here on Kafka."""
        self.only_nats()
        return side.bus

    def only_nats(self) -> None:
        """The test ends here on Kafka, where nobody can delete one record, look into a consumer or read the wire so."""
        if self.url.startswith("kafka"):
            pytest.skip("what it does to the broker can only be done to NATS")


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGSTOP, and it has stopped."""
    os.kill(process.pid, signal.SIGSTOP)
    os.waitpid(process.pid, os.WUNTRACED)


def resume(process: subprocess.Popen[bytes]) -> None:
    os.kill(process.pid, signal.SIGCONT)


def kill(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
