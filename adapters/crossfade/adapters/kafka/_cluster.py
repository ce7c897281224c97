"""The connections: made within a bound, watched, and built anew whenever one is lost.

A broker answers the requests of a connection in their order, so what waits long has a lane of its own: ``main`` for
quick questions, ``produce``, and one for each topic that is followed. Every loss takes one path, as on NATS: all
connections are let go, requests under way end as "unknown", brokers are found again, then everybody goes on.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka.errors import IncompatibleBrokerVersion, KafkaError

from crossfade.shim.errors import BusAmbiguousError, BusError, BusRefusedError, BusUnavailableError

from ._errors import connect_failure
from ._wire import MetadataRequest, connect, is_broken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    from crossfade.shim.hooks import Hooks
    from crossfade.shim.ports import BusSettings

    from ._endpoint import Endpoint

_log = logging.getLogger("crossfade.kafka")

TIMEOUT: Final = 5.0

_ATTEMPT: Final = 2.0  # seconds for one connection attempt: a listener that never greets
_PAUSES: Final = (0.0, 0.1, 0.2, 0.5)  # seconds before each further attempt; the last one repeats, with jitter
_PROBE_EVERY: Final = 4.0  # seconds between questions of ours; two without an answer and the connections are given up
_PROBE_TIMEOUT: Final = 3.0
_LET_GO: Final = 1.0


@dataclass(frozen=True, slots=True)
class Topic:
    """What the brokers say of a topic; ``id`` changes when it is made anew."""

    name: str
    error: int
    id: str
    leaders: Sequence[int]
    replicas: int


class Cluster:
    """All connections of one bus; every method belongs to one event loop."""

    def __init__(self, endpoint: Endpoint, settings: BusSettings, hooks: Hooks) -> None:
        self.hooks = hooks
        self.topics: dict[str, Topic] = {}
        # Called at once when connections are there again, and when the bus is closed for good.
        self.listeners: set[Callable[[], None]] = set()
        self._endpoint = endpoint
        self._settings = settings
        self._names: tuple[str, ...] = ()
        self._nodes: dict[int, tuple[str, int]] = {}
        self._controller = -1
        self._lanes: dict[tuple[int, str], Any] = {}
        self._locks: dict[tuple[int, str], asyncio.Lock] = {}
        self._lost = asyncio.Event()
        self._up = asyncio.Event()
        self._refusal: BusError | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._callbacks: list[Callable[[], Awaitable[None]]] = []
        self._closed = False

    # -- life cycle --------------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Connect within ``connect_timeout``; from then on stay connected. May be repeated after a failure."""
        if self._supervisor is not None:
            return
        self._closed = False
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await self._connect_once()
        except TimeoutError as error:
            raise self._refusal or connect_failure(error, "the Kafka broker") from error
        self._supervisor = asyncio.create_task(self._supervise())

    async def close(self) -> None:
        """Disconnect; idempotent."""
        self._closed = True
        self._notify()
        supervisor, self._supervisor = self._supervisor, None
        await _end([*self._tasks, *([supervisor] if supervisor else ())])
        await self._let_go()

    def check_open(self) -> None:
        """Raise ``BusUnavailableError`` once the bus is closed; who waits asks this when woken."""
        if self._closed or self._supervisor is None:
            raise BusUnavailableError("the bus is closed")

    @property
    def connected(self) -> bool:
        """Whether the brokers could be reached a moment ago."""
        return self._up.is_set()

    @property
    def away(self) -> str:
        """What to say while not connected."""
        text = "not connected to the bus, nothing was sent"
        return f"{text} ({self._refusal})" if self._refusal else text

    async def wait_connected(self, timeout: float) -> bool:
        """Wait until connected, at most ``timeout`` seconds."""
        try:
            async with asyncio.timeout(max(0.0, timeout)):
                await self._up.wait()
        except TimeoutError:
            return False
        return True

    def on_reconnect(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Run ``callback`` after each reconnect, beside everything else."""
        self._callbacks.append(callback)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run ``work`` until it ends or the bus is closed; its failure is counted and logged."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)
        return task

    def adopt(self, task: asyncio.Task[Any]) -> None:
        """End ``task`` with the bus; its failure is told to those who wait for it."""
        self._tasks.add(task)
        task.add_done_callback(self._let)

    def _let(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()

    def _finished(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.hooks.count("failed", reason=type(error).__name__)
            _log.error("background work on the bus failed", exc_info=error)

    def _notify(self) -> None:
        for listener in list(self.listeners):
            listener()

    # -- finding the brokers -----------------------------------------------------------------------------------

    async def _connect_once(self) -> None:
        """One attempt at each server, in random order; a refusal says more than a dead neighbour does."""
        known = [f"{host}:{port}" for host, port in self._nodes.values()]
        candidates = list(dict.fromkeys([*self._endpoint.servers, *known]))
        random.shuffle(candidates)
        failure: BusError | None = None
        for server in candidates:
            try:
                await self._connect_to(server)
            except BusError as error:
                failure = error if not isinstance(failure, BusRefusedError) else failure
            else:
                return
        self._refusal = failure
        raise failure or BusUnavailableError("no server to connect to")

    async def _connect_to(self, server: str) -> None:
        """Ask one server who is there, and open the way to a broker."""
        host, _, port = server.rpartition(":")
        try:
            async with asyncio.timeout(_ATTEMPT):
                first = await connect(host.strip("[]"), int(port), self._endpoint, self._settings.client_name, None)
                try:
                    self._read(await first.send(MetadataRequest(self._names)))
                finally:
                    await first.close()
                await self._lane(self._any_node(), "main")
        except (OSError, KafkaError, TimeoutError, NotImplementedError, ValueError) as error:
            raise connect_failure(error, server) from error
        self._refusal = None
        self._lost.clear()
        self._up.set()

    def _read(self, answer: Any) -> None:
        """Keep what the brokers say of themselves and of our topics."""
        if answer.brokers:
            self._nodes = {node: (host, port) for node, host, port, _, _ in answer.brokers}
        self._controller = answer.controller
        for error, name, topic_id, _, partitions, _, _ in answer.topics:
            leaders = [found[2] for found in sorted(partitions, key=lambda found: found[1])]
            copies = min((len(found[4]) for found in partitions), default=0)
            self.topics[name] = Topic(name, error, topic_id, leaders, copies)

    async def refresh(self, names: Sequence[str] | None = None, *, node: int | None = None) -> None:
        """Look again who leads our topics, in the eyes of ``node``; ``names`` are all that matter from now on."""
        if names is not None:
            self._names = tuple(names)
        self._read(await self.ask(self._any_node() if node is None else node, MetadataRequest(self._names)))

    def _any_node(self) -> int:
        if not self._nodes:
            raise BusUnavailableError("the Kafka server names no brokers")
        return random.choice(list(self._nodes))  # noqa: S311 - spreads load

    @property
    def nodes(self) -> Sequence[int]:
        """The brokers that are there."""
        return list(self._nodes)

    @property
    def controller(self) -> int:
        """Whom to ask for new topics."""
        return self._controller if self._controller in self._nodes else self._any_node()

    @property
    def servers(self) -> str:
        """The brokers, for people."""
        return ",".join(f"{host}:{port}" for host, port in self._nodes.values())

    @property
    def version(self) -> str:
        """The newest requests the brokers know, since they do not tell their own version."""
        lane = next(iter(self._lanes.values()), None)
        versions: dict[int, tuple[int, int]] = {} if lane is None else lane._versions  # noqa: SLF001 - not told otherwise
        newest = {"Produce": versions.get(0), "Fetch": versions.get(1)}
        return "Kafka protocol " + ", ".join(f"{name} {found[1]}" for name, found in newest.items() if found)

    def _called(self, node: int) -> str:
        return ":".join(map(str, self._nodes.get(node, (f"broker {node}",))))

    def leader(self, topic: str) -> int:
        """The broker that leads ``topic``. Raises ``BusUnavailableError`` when there is none now."""
        found = self.topics.get(topic)
        if found is None or not found.leaders or found.leaders[0] not in self._nodes:
            raise BusUnavailableError(f"nobody leads {topic} now; nothing was sent")
        return found.leaders[0]

    # -- watching ----------------------------------------------------------------------------------------------

    async def _supervise(self) -> None:
        while True:
            await self._watch()
            await self._let_go()
            await self._reconnect()
            self.hooks.count("reconnected")
            self._notify()
            for callback in self._callbacks:
                self.spawn(_run(callback))

    async def _watch(self) -> None:
        """Return when a connection is lost: it broke, or two questions in a row went unanswered."""
        missed = 0
        while missed < 2:
            try:
                async with asyncio.timeout(_PROBE_EVERY):
                    await self._lost.wait()
            except TimeoutError:
                missed = 0 if await self._probe() else missed + 1
            else:
                return

    async def _probe(self) -> bool:
        try:
            self._read(await self.ask(self._any_node(), MetadataRequest(self._names), timeout=_PROBE_TIMEOUT))
        except BusError as error:
            _log.warning("the Kafka broker did not answer: %s", error)
            return False
        return True

    async def _reconnect(self) -> None:
        attempt = 0
        while True:
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            await asyncio.sleep(pause * random.uniform(1.0, 1.5))  # noqa: S311 - spreads a herd
            attempt += 1
            try:
                await self._connect_once()
            except BusError as error:
                if attempt == 1:
                    _log.warning("not connected to the bus: %s", error)
            else:
                return

    async def _let_go(self) -> None:
        """Close every connection; whoever waits for an answer learns that none will come."""
        self._up.clear()
        lanes, self._lanes, self._locks = list(self._lanes.values()), {}, {}
        ends = [lane.close() for lane in lanes]
        if ends:
            await asyncio.wait(ends, timeout=_LET_GO)

    # -- using them --------------------------------------------------------------------------------------------

    async def _lane(self, node: int, lane: str) -> Any:
        """The connection to ``node`` for this use, made at its first."""
        found = self._lanes.get((node, lane))
        if found is not None and found.connected():
            return found
        async with self._locks.setdefault((node, lane), asyncio.Lock()):
            found = self._lanes.get((node, lane))
            if found is not None and found.connected():
                return found
            host, port = self._nodes[node]
            made = await connect(host, port, self._endpoint, self._settings.client_name, self._on_closed)
            self._lanes[node, lane] = made
            return made

    def _on_closed(self, lane: Any, reason: Any) -> None:
        if is_broken(reason) and lane in self._lanes.values():
            self._lose()

    def _lose(self) -> None:
        """From now on nobody is connected; the supervisor builds anew."""
        self._up.clear()
        self._lost.set()

    def release(self, lane: str) -> None:
        """Close the connections of a lane that nobody uses any more."""
        for key in [key for key in self._lanes if key[1] == lane]:
            self._lanes.pop(key).close()

    async def ask(self, node: int, request: Any, *, lane: str = "main", timeout: float = TIMEOUT) -> Any:
        """Send a request and wait for its answer.

        Raises ``BusUnavailableError`` (nothing was sent), ``BusAmbiguousError`` (no answer), ``BusRefusedError`` (the
        broker does not know such requests, or refuses us).
        """
        if not self.connected and self._supervisor is not None:
            if isinstance(self._refusal, BusRefusedError):
                raise BusRefusedError(f"{self._refusal} (nothing was sent)")
            raise BusUnavailableError(self.away)
        if node not in self._nodes:
            raise BusUnavailableError(f"broker {node} is not there, nothing was sent")
        sent = False
        try:
            async with asyncio.timeout(timeout):
                connection = await self._lane(node, lane)
                sent = True
                return await connection.send(request)
        except TimeoutError as error:
            text = f"no answer within {timeout:g} s"
            raise (
                BusAmbiguousError(f"{text}; it may or may not have happened")
                if sent
                else connect_failure(error, self._called(node))
            ) from error
        except (IncompatibleBrokerVersion, NotImplementedError) as error:
            raise connect_failure(error, self._called(node)) from error
        except (OSError, KafkaError) as error:
            self._lose()
            if not sent:
                self._refusal = connect_failure(error, self._called(node))
                raise self._refusal from error
            if self._closed and lane != "produce":  # a question: nothing may have happened
                raise BusUnavailableError("the bus is closed") from error
            raise BusAmbiguousError("the connection was lost before an answer came") from error


async def _end(tasks: Sequence[asyncio.Task[Any]]) -> None:
    """Cancel ``tasks`` until they have ended: ``asyncio.wait_for`` of Python 3.11 may swallow a cancellation."""
    pending = {task for task in tasks if task is not asyncio.current_task()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_LET_GO)


async def _run(callback: Callable[[], Awaitable[None]]) -> None:
    await callback()
