"""Workers that are real processes and get stopped or killed at each step of a call: one start, one terminal."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time

import pytest

from crossfade.shim.errors import OutcomeUnknownError
from integration.ledger.world import SOON, kill, resume, stop, until
from support.nats_server import NatsCluster


def call_unknown(side, arg="a"):
    """Call; it must end as unknown. Returns the call id."""
    with pytest.raises(OutcomeUnknownError) as caught:
        side.call(arg)
    return caught.value.callid


@pytest.mark.parametrize("at", ["claimed", "effect"])
def test_a_worker_dies_with_the_claim(world, at):
    """kill -9 after the claim, before or after the effect: nobody can know which, so nobody runs it again."""
    member = world.member(at)
    caller = world.side(timeout=1.5)
    call = world.pool.submit(call_unknown, caller)
    until(world.mark("halted").exists)
    kill(member)
    other = world.side().serve()
    callid = call.result(SOON)
    until(lambda: world.terminals(other))
    assert [answer.kind for answer in world.terminals(other)] == ["unknown"]
    assert len(world.journal.lines) == (at == "effect")
    assert caller.run(caller.runtime.calls.outcome(callid)).reason == "owner-silent"


def test_who_follows_a_call_hears_that_nobody_knows(world):
    """A page waits for the end of what its user has submitted: the owner cannot tell it any more, so others do."""
    member = world.member("claimed")
    caller = world.side(timeout=1.5)
    task = caller.call.submit("a")
    until(world.mark("halted").exists)
    kill(member)
    world.side().serve()

    async def told():
        pattern = f"{world.prefix}ui.>"
        seen = [found.event async for found in caller.bus.read(pattern) if found.event.get("callid") == task.callid]
        return [json.loads(event.data)["outcome"] for event in seen if event.type == "call.ended"]

    assert until(lambda: caller.run(told())) == ["unknown"]


def test_a_worker_dies_before_the_acknowledgement(world, counts):
    """kill -9 between result and ack: the caller has its result, and the redelivery only repeats it."""
    member = world.member("logged")
    caller = world.side(timeout=10)
    assert caller.call("a") == "a by 0"
    until(world.mark("halted").exists)
    kill(member)
    world.side().serve(ack_wait=1.0)
    until(lambda: counts.get("redelivered", seam=world.seam))
    assert world.journal.lines == ["a-0"]
    assert world.kinds(caller) == ["invoke", "own", "result"]


def test_a_paused_winner(world, counts):
    """A worker is stopped after its claim: unknown, no second start; resumed, its late result supersedes unknown."""
    member = world.member("effect", timeout=1.5)
    caller = world.side(timeout=1.5)
    call = world.pool.submit(call_unknown, caller)
    until(world.mark("halted").exists)
    stop(member)
    world.side().serve()
    callid = call.result(SOON)
    until(lambda: [answer.kind for answer in world.terminals(caller)] == ["unknown"])
    world.mark("go").touch()
    resume(member)
    until(lambda: len(world.terminals(caller)) == 2)
    assert [answer.kind for answer in world.terminals(caller)] == ["unknown", "value"]
    assert caller.run(caller.runtime.calls.outcome(callid)).kind == "value"
    until(lambda: counts.get("late", seam=world.seam))
    assert world.journal.lines == ["a-0"]


def test_a_broker_restart_between_claim_and_execution(world, brokers):
    """The broker (of three: the leader) dies and comes back while the owner is about to start: it starts, once."""
    world.member("claimed", timeout=15)
    caller = world.side(timeout=15)
    call = world.pool.submit(caller.call, "a")
    until(world.mark("halted").exists)
    restart(brokers, caller, world)
    world.mark("go").touch()
    assert call.result(SOON) == "a by 0"
    assert world.journal.lines == ["a-0"]


def restart(brokers, side, world):
    """The broker, or the leader of the commands' stream."""
    if not isinstance(brokers, NatsCluster):
        brokers.restart(kill=True)
        return
    first = side.run(cluster(side, world))
    brokers.named(first["leader"]).restart(kill=True)
    until(lambda: whole(side, world), timeout=40)


async def cluster(side, world):
    """Who leads and follows."""
    try:
        return (await side.bus._connection.api(f"STREAM.INFO.{world.prefix.upper()}_CMD"))["cluster"]
    except Exception:
        return {}


def whole(side, world):
    """Whether all three have the commands again."""
    seen = side.run(cluster(side, world))
    return seen.get("leader") and len(seen["replicas"]) == 2 and all(found["current"] for found in seen["replicas"])


def test_the_owners_result_waits_on_disk(world, monkeypatch):
    """A worker cannot log, is killed, and the next one on that machine logs what it spooled, fenced by its claim."""
    member = world.member("unlogged", timeout=2)
    caller = world.side(timeout=2)
    call = world.pool.submit(call_unknown, caller)
    until(lambda: list((world.folder / "spool").glob("*.json")))
    kill(member)
    call.result(SOON)
    world.side().serve()
    until(lambda: "value" in [answer.kind for answer in world.terminals(caller)])
    assert world.journal.lines == ["a-0"]
    until(lambda: not list((world.folder / "spool").iterdir()))


def test_a_worker_stopped_while_it_logs(world, monkeypatch):
    """SIGTERM while the log does not answer: when the grace is over the result lies on disk, for the next worker."""
    caller, worker = world.side(timeout=1.5), world.side()
    append, logging = worker.bus.append, threading.Event()

    async def silent(subject, event, **options):
        if subject.endswith(".result"):
            logging.set()
            await asyncio.Event().wait()
        return await append(subject, event, **options)

    monkeypatch.setattr(worker.bus, "append", silent)
    worker.serve(grace=0.2)
    call = world.pool.submit(call_unknown, caller)
    assert logging.wait(SOON)
    worker._worker.stop()
    call.result(SOON)
    until(lambda: list((world.folder / "spool").glob("*.json")))
    world.side().serve()
    until(lambda: "value" in [answer.kind for answer in world.terminals(caller)])
    assert world.journal.lines == ["a"]


def test_a_claim_whose_answer_the_network_swallows(world, counts):
    """The connection is cut with the claim stored and its answer under way: repeated after the reconnect, one start."""
    world.only_nats()
    with Relay(world.url, cut_after=b".own ") as relay:
        worker = world.side(url=relay.url)
        caller = world.side(timeout=15)
        worker.serve(ack_wait=5.0)
        assert caller.call("a") == "a done"
    assert relay.cuts == 1
    assert counts.get("claim-repeated", seam=world.seam) >= 1
    assert world.journal.lines == ["a"]
    assert world.kinds(caller) == ["invoke", "own", "result"]


class Relay:
    """A TCP relay to one server; it can be cut, by hand or just after bytes that it is told to look for."""

    def __init__(self, url: str, cut_after: bytes = b"") -> None:
        host, _, port = url.removeprefix("nats://").partition(",")[0].partition("?")[0].partition(":")
        self._there = (host, int(port))
        self._query = "?" + url.partition("?")[2] if "?" in url else ""
        self._cut_after = cut_after
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._closed = False
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self._listener.getsockname()[1]}{self._query}"

    def cut(self) -> None:
        """Cut every connection and take no more."""
        self._closed = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._drop()

    def _drop(self) -> None:
        for pair in self._pairs:
            for end in pair:
                with _ignoring():
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()

    def _accept(self) -> None:
        with _ignoring():
            while True:
                here, _ = self._listener.accept()
                there = socket.create_connection(self._there)
                self._pairs.append((here, there))
                threading.Thread(target=self._pump, args=(here, there, self._cut_after), daemon=True).start()
                threading.Thread(target=self._pump, args=(there, here, b""), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, wanted: bytes) -> None:
        tail = b""
        with _ignoring():
            while chunk := source.recv(65536):
                if wanted and not self.cuts and wanted in (tail := tail[-512:] + chunk):
                    self.cuts += 1
                    here = next(pair for pair in self._pairs if pair[0] is source)
                    here[0].shutdown(socket.SHUT_WR)  # what the server answers goes nowhere
                    target.sendall(chunk)
                    threading.Event().wait(0.2)
                    self._drop()
                    return
                target.sendall(chunk)
        for end in (source, target):
            end.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if not self._closed:
            self.cut()


class _ignoring:  # noqa: N801
    """Sockets that the other thread has closed."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        return isinstance(error, OSError)


def test_a_stopped_worker_spends_no_attempts(world, note, brokers):
    """The only worker is stopped for many times ack_wait: what is sent to it meanwhile runs when it goes on."""
    member = world.member("claimed", timeout=60.0)
    caller = world.side(timeout=60, fallback="raise")
    calls = [world.pool.submit(caller.call, "u")]
    until(world.mark("halted").exists)
    stop(member)
    calls.append(world.pool.submit(caller.call, "v"))
    until(lambda: world.kinds(caller).count("invoke") == 2)
    time.sleep(8)  # ack_wait is a second, and five deliveries are all there are
    spent = deliveries_made(world, caller)
    world.mark("go").touch()
    resume(member)
    assert [call.result(SOON) for call in calls] == ["u by 0", "v by 0"]
    assert sorted(world.journal.lines) == ["u-0", "v-0"]
    assert world.dead_letters(caller) == []
    note(f"a worker stopped for 8 s, ack_wait 1 s, on {type(brokers).__name__}: {spent} deliveries of 2 commands")
    assert spent <= 4


def deliveries_made(world, side):
    """How often the broker has handed a command of this seam to anybody."""
    group = f"tool-{world.seam.replace('.', '-')}"
    info = side.run(world.on_nats(side)._connection.api(f"CONSUMER.INFO.{world.prefix.upper()}_CMD.{group}"))
    return info["delivered"]["consumer_seq"]
