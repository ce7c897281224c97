"""Calls over the bus to a worker process, one after the other and many at once, beside the floor of each."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import nats

from crossfade.shim import connect
from crossfade.shim.config import Config, switched_off
from crossfade.shim.errors import ConfigurationError

from . import seams
from .floor import Floor
from .measuring import Side, awaited, each, in_flight, in_turns, row
from .processes import cpu_of, ours
from .question import HEADERS, PAYLOAD, QUESTION

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from .brokers import Broker
    from .measuring import Row

MANY: Final = 64
ROUNDS: Final = 10
EACH: Final = 40
_TWO: Final = "bare nats-py: two acked publishes, a pull, a core message"
_THREE: Final = "bare nats-py: three acked publishes, a pull, a core message"
_WAIT: Final = 20.0  # seconds for a broker that has just started
# So that nobody is warned of the seam that is not called where a power cut could lose a claim.
_ACCEPTED: Final = {"bench.unsafe": {"unsafe_storage": True}}
_nats: Final[Any] = nats  # partly annotated


class Calls:
    """Calls from this process, which is connected to ``broker``, to a worker process that serves ``seams``."""

    def __init__(self, broker: Broker, runner: asyncio.Runner, cpu: Callable[[], float]) -> None:
        self._broker = broker
        self._runner = runner
        self._cpu = cpu

    def reads(self) -> Iterator[Row]:
        """Calls that may run twice, one after the other."""
        with self._floor() as (floor, cpu):
            theirs = Side(run=awaited(self._runner, floor), cpu=cpu)
            for what, side, goal in (("async", self.async_reads(), 1.3), ("sync", self.sync_reads(), 1.5)):
                taken = in_turns(side, theirs, rounds=ROUNDS, batch=EACH)
                yield row(f"bus call, {what}{self.where}", _TWO, taken, unit="ms", goal=goal, tail=True)

    def unsafe(self) -> Iterator[Row]:
        """Calls that must not run twice, one after the other and ``MANY`` at once."""
        with self._floor("--claim") as (floor, cpu):
            taken = in_turns(
                Side(run=awaited(self._runner, _unsafe), cpu=self._cpu),
                Side(run=awaited(self._runner, floor), cpu=cpu),
                rounds=ROUNDS,
                batch=EACH,
            )
            yield row(f"unsafe call, async{self.where}", _THREE, taken, unit="ms", goal=1.2)
            taken = in_turns(
                Side(run=in_flight(self._runner, _unsafe, MANY), cpu=self._cpu),
                Side(run=in_flight(self._runner, floor, MANY), cpu=cpu),
                rounds=5,
                batch=5 * MANY,
            )
            yield row(f"unsafe calls, {MANY} in flight{self.where}", _THREE, taken, unit="/s")

    def async_reads(self) -> Side:
        """A coroutine's calls."""
        return Side(run=awaited(self._runner, lambda: seams.abus(QUESTION)), cpu=self._cpu)

    def sync_reads(self) -> Side:
        """Plain code's calls."""
        return Side(run=each(lambda: seams.bus(QUESTION)), cpu=self._cpu)

    @property
    def where(self) -> str:
        """What is durable when the broker acknowledges, for a row's name."""
        return f" ({self._broker.durability})"

    @contextmanager
    def _floor(self, *options: str) -> Generator[tuple[Callable[[], Any], Callable[[], float]]]:
        """The floor's call, and the CPU time of it and its responder, a process of its own as our worker is."""
        client: Any = self._runner.run(_nats.connect(self._broker.server))
        try:
            floor = Floor(client, HEADERS, replicas=self._broker.replicas)
            self._runner.run(floor.prepare())
            with ours("-m", "crossfade.migrations.bench.floor", self._broker.server, *options) as pid:
                yield lambda: floor.call(PAYLOAD), cpu_of(pid, *self._broker.pids)
        finally:
            self._runner.run(client.close())


@contextmanager
def calls(broker: Broker) -> Generator[Calls]:
    """Connect this process and start the worker, both without the user's own settings."""
    serve = ("-m", "crossfade", "worker", "crossfade.migrations.bench.seams", "--bus", broker.url)
    with connected(broker), ours(*serve) as pid, asyncio.Runner() as runner:
        yield Calls(broker, runner, cpu_of(pid, *broker.pids))


@contextmanager
def connected(broker: Broker) -> Generator[None]:
    """This process on ``broker``, whatever ``crossfade.toml`` says."""
    if switched_off():
        raise ConfigurationError("every seam is legacy: unset it to measure", where="CROSSFADE_OFF")
    with connect(broker.url, config=Config(seams=_ACCEPTED), required=True, wait=_WAIT):
        yield


async def _unsafe() -> int:
    return await seams.unsafe(QUESTION)
