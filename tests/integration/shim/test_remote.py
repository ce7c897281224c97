"""A ``remote`` call site has a signature and no body: whatever anybody sets, the signature is never run."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.shim import NotExecutedError, OutcomeUnknownError, handler, remote
from crossfade.shim.errors import BusUnavailableError, ConfigurationError
from crossfade.shim.stages import Stage
from integration.shim import kit


def signature(n: int) -> int:
    raise AssertionError("the signature was run")


async def asignature(n: int) -> int:
    raise AssertionError("the signature was run")


def gsignature(n: int):
    raise AssertionError("the signature was run")
    yield


def declare(**options):
    return remote("far.away", signature=signature, effects="none", **options)


def serve(connect, work, function):
    @handler("far.away")
    def away(n: int) -> int:
        return n + 1

    connection = connect()
    work(connection, function)
    return connection


@pytest.mark.parametrize("stage", Stage)
def test_every_stage_is_the_bus(connect, work, stage):
    """What the owners of the body stand at is theirs: this call site has one way only."""
    away = declare(timeout=5)
    connection = serve(connect, work, away)
    kit.set_live(connection, "far.away", {"stage": stage, "percent": 0})
    kit.until(lambda: "far.away" in connection.runtime._live)
    assert away(1) == 2
    assert away.submit(2).result(kit.SOON) == 3


def test_a_fallback_that_arrives_is_ignored_and_counted(connect, broker, counts):
    """Set by an older command line, or while this process was away: an error is raised, and nothing runs."""
    away = declare(timeout=0.2)
    connection = connect()
    kit.set_live(connection, "far.away", {"fallback": "legacy"})
    kit.until(lambda: counts.get("policy-ignored", seam="far.away", reason="fallback"))
    with pytest.raises(OutcomeUnknownError):
        away(1)
    broker.fail_next("publish", BusUnavailableError())
    with pytest.raises(NotExecutedError):
        away(1)
    broker.fail_next("publish", BusUnavailableError())
    with pytest.raises(NotExecutedError):
        away.submit(1)


def test_a_fallback_in_the_file_is_refused_by_name(connect):
    """Said before anything runs, with its place."""
    declare()
    with pytest.raises(ConfigurationError, match=r'seams\."far\.away"\.fallback'):
        connect(far__away={"fallback": "legacy"})


def test_a_call_that_cannot_travel_raises(connect, counts):
    """No way over the bus and no body: the caller is told, never answered by the signature."""
    away, aaway = declare(), remote("far.aaway", signature=asignature, effects="none")
    items = remote("far.items", signature=gsignature, effects="none")
    connect()
    for call in (
        lambda: away(object()),
        lambda: away.submit(object()),
        lambda: asyncio.run(aaway(object())),
        lambda: list(items(object())),
    ):
        with pytest.raises(NotExecutedError, match="cannot travel, and has no body here") as caught:
            call()
        assert caught.value.reason == "unserialisable"
    assert counts.get("skipped", reason="unserialisable") == 4


def test_wrong_arguments_raise_as_a_body_would(connect):
    """A ``TypeError`` in the words of Python."""
    away = declare()
    connect()
    with pytest.raises(TypeError, match="missing a required argument"):
        away()
