"""Recorded calls made up by a test, and today's code declared by it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from crossfade.migrations.replay.recording import RecordedCall, Recording
from crossfade.migrations.replay.running import Replay, ReplayOptions, serve
from crossfade.migrations.replay.selecting import Selection
from crossfade.shim import seam
from crossfade.shim._loop import LoopThread
from crossfade.shim.comparison import Outcome, Rules
from crossfade.shim.outcomes import record_error
from crossfade.shim.redaction import Redactor
from crossfade.shim.services import services

REDACTOR = Redactor(b"a key of the test's own")
BEGAN = 1_700_000_000.0


def call(seam, arguments, value=None, *, error=None, at=0.0, seconds=0.1, callid=None, run="", cause="", **changes):
    """A recorded call, ``at`` seconds after the first."""
    outcome = Outcome(kind="value", value=value, duration=seconds)
    if error is not None:
        outcome = Outcome(kind="error", error=record_error(error), duration=seconds)
    made = RecordedCall(
        callid=callid or f"{seam}-{at}-{json.dumps(arguments)}",
        seam=seam,
        run=run,
        cause=cause,
        begun=BEGAN + at,
        seconds=seconds,
        arguments=json.dumps(arguments).encode(),
        outcome=outcome,
        redaction=REDACTOR.fingerprint,
        unfit="",
        kind="<1K <1s value",
        attributes={"correlationid": run} if run else {},
    )
    return dataclasses.replace(made, **changes)


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """What a test declares is forgotten after it."""
    for what in ("_seams", "_handlers", "_comparators"):
        monkeypatch.setattr(seam.registry, what, {})


@pytest.fixture
def recording():
    with Recording() as recording:
        yield recording


@pytest.fixture
def threads():
    """Where bodies run."""
    loop, executor = LoopThread(), ThreadPoolExecutor(8)
    yield executor, loop.loop
    executor.shutdown()
    loop.stop()


@pytest.fixture
def engine(recording, threads):
    """A replay of ``calls`` with what the test has declared."""

    def engine(*calls, rules=None, **options):
        for each in calls:
            recording.add(each)
        recording.index()
        served = serve(services(seam.registry), lambda service: service.policy, Rules.parse(rules) if rules else None)
        executor, loop = threads
        return Replay(
            recording,
            served,
            registry=seam.registry,
            redactor=REDACTOR,
            executor=executor,
            loop=loop,
            options=ReplayOptions(**options),
        )

    return engine


@pytest.fixture
def replayed(engine):
    """Replay ``calls`` of ``only``, else of every seam: what became of each, in the order in which they ended.

    One after the other, so that this is the order of the calls, unless the test says ``concurrency``.
    """

    def replayed(*calls, only=(), **options):
        found = []
        options.setdefault("concurrency", 1)

        async def tell(done):
            found.append(done)

        async def run():
            replay = engine(*calls, **options)
            names = only or tuple(service.name for service in services(seam.registry))
            await replay.run(Selection(seams=tuple(names)), tell)

        asyncio.run(run())
        return found

    return replayed
