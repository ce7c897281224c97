"""Calls over Kafka beside what bare aiokafka takes for as many acknowledged records and fetches, in turns."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from crossfade.migrations.bench import seams
from crossfade.migrations.bench.brokers import Broker
from crossfade.migrations.bench.calls import MANY, calls
from crossfade.migrations.bench.measuring import Side, awaited, in_flight, in_turns, row
from crossfade.migrations.bench.processes import cpu_of, ours
from crossfade.migrations.bench.question import PAYLOAD, QUESTION, event
from crossfade.shim.bindings import to_kafka
from plugins.kafka import NEEDED
from support.kafka_broker import KafkaBroker
from support.kafka_floor import Floor

ROUNDS, BATCH = 5, 40


@contextmanager
def floor(runner, server, *options):
    """The call of a floor, and the pid of its responder."""
    made = Floor(server, to_kafka(event()), synced=False)
    runner.run(made.prepare())
    try:
        with ours("-m", "support.kafka_floor", server, made.topics, *options) as pid:
            yield lambda: made.call(PAYLOAD), pid
    finally:
        runner.run(made.close())


def told(taken, *, unit):
    ours_, theirs = taken
    found = row("", "", [ours_, theirs], unit=unit)
    return (
        f"{found.ours.p50:.1f} beside {found.theirs.p50:.1f} {unit} ({found.ratio:.2f}), "
        f"CPU {found.ours.cpu / 1000:.1f} beside {found.theirs.cpu / 1000:.1f} ms"
    )


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("seam", "options"), [("abus", ()), ("unsafe", ("--claim",))])
def test_calls_beside_their_floor(seam, options, note, monkeypatch):
    """One after the other and 64 at once; three times the floor's CPU per call means that something is done twice."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    with KafkaBroker() as kafka, ExitStack() as stack:
        server = kafka.url.removeprefix("kafka://")
        broker = Broker(url=kafka.url, server=server, durability="acks=all", pids=(kafka.pid,))
        floors = stack.enter_context(asyncio.Runner())
        bare, responder = stack.enter_context(floor(floors, server, *options))
        calling = stack.enter_context(calls(broker))
        cpu = cpu_of(responder, kafka.pid)

        def call():
            return getattr(seams, seam)(QUESTION)

        one = in_turns(
            Side(run=awaited(calling._runner, call), cpu=calling._cpu),
            Side(run=awaited(floors, bare), cpu=cpu),
            rounds=ROUNDS,
            batch=BATCH,
        )
        many = in_turns(
            Side(run=in_flight(calling._runner, call, MANY), cpu=calling._cpu),
            Side(run=in_flight(floors, bare, MANY), cpu=cpu),
            rounds=3,
            batch=5 * MANY,
        )
    note(f"kafka {seam}: {told(one, unit='ms')}; {MANY} at once: {told(many, unit='/s')}")
    assert one[0].cpu < 3 * one[1].cpu


pytestmark = NEEDED
