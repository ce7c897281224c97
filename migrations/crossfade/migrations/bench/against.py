"""Ours against the peers: others' ways to do the same, each in its own environment, in turns within one run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from . import seams
from .brokers import redis
from .calls import EACH, ROUNDS
from .environments import Peer, PeerUnavailableError, opened
from .measuring import Row, Side, Unmeasured, batched, in_turns, row
from .question import QUESTION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .brokers import Broker
    from .calls import Calls
    from .environments import Opened

DECORATORS: Final = (
    Peer(name="LaunchDarkly's migrator", module="with_launchdarkly", least={"launchdarkly-server-sdk": "9.12"}),
    Peer(name="laboratory", module="with_laboratory", least={"laboratory": "1.0.2"}),
)
ON_REDIS: Final = (
    *(
        Peer(
            name=f"Celery ({pool})", module="with_celery", least={"celery[redis]": "5.5"}, environ={"BENCH_POOL": pool}
        )
        for pool in ("prefork", "solo")
    ),
    Peer(name="Dramatiq", module="with_dramatiq", least={"dramatiq[redis]": "2.0"}),
)
ON_NATS: Final = Peer(name="taskiq", module="with_taskiq", least={"taskiq-nats": "0.6", "taskiq": "0.12"})


def decorators() -> Iterator[Row | Unmeasured]:
    """The decorator at legacy: five times below each."""
    ours = Side(run=batched(lambda: seams.legacy(QUESTION)), cpu=time.process_time)
    for peer in DECORATORS:
        what = f"decorator at legacy, against {peer.name}"
        try:
            with opened(peer, QUESTION, batched=True) as theirs:
                taken = in_turns(ours, theirs.side, rounds=20, batch=1000)
                yield row(what, theirs.title, taken, unit="us", goal=0.2)
        except PeerUnavailableError as error:
            yield Unmeasured(what=what, beside=peer.name, reason=str(error))


def task_queues(calling: Calls, broker: Broker) -> Iterator[Row | Unmeasured]:
    """Calls over the bus: ahead of each, a request to its worker process and the result awaited.

    Like with like: where ours is on disk before it is acknowledged, Redis is, too; else Redis is as it comes.
    """
    for peer in ON_REDIS:
        what = f"bus call, sync{calling.where}, against {peer.name}"
        try:
            with (
                redis(synced=broker.synced) as store,
                opened(peer, QUESTION, url=store.server, pids=store.pids) as theirs,
            ):
                yield _calls(what, calling.sync_reads(), theirs, store)
        except PeerUnavailableError as error:
            yield Unmeasured(what=what, beside=peer.name, reason=str(error))
    what = f"bus call, async{calling.where}, against {ON_NATS.name}"
    try:
        with opened(ON_NATS, QUESTION, url=broker.server, pids=broker.pids) as theirs:
            yield _calls(what, calling.async_reads(), theirs, broker)
    except PeerUnavailableError as error:
        yield Unmeasured(what=what, beside=ON_NATS.name, reason=str(error))


def _calls(what: str, ours: Side, theirs: Opened, store: Broker) -> Row:
    taken = in_turns(ours, theirs.side, rounds=ROUNDS, batch=EACH)
    return row(what, f"{theirs.title}, {store.durability}", taken, unit="ms", goal=1.0, tail=True)
