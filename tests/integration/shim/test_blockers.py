"""What observe finds that could not cross a bus: kept until a person clears it, found again when it is still there."""

from __future__ import annotations

import pytest

from crossfade.shim import tool
from crossfade.shim.errors import StageChangeRefusedError
from crossfade.shim.policies import Move
from crossfade.shim.stages import Stage
from integration.shim import kit


def declare():
    @tool("web.sorted", effects="none", stage="shadow")
    def mutates(words: list[str]) -> str:
        words.sort()
        return words[0]

    return mutates


def blockers(connection):
    policies = connection.runtime.policies
    return kit.on_loop(connection, policies.declared())["web.sorted"].blockers


def test_a_blocker_outlives_the_process_that_saw_it(connect):
    """A restart, and a start of a process that never calls the body, prove nothing."""
    mutates = declare()
    with connect() as connection:
        mutates(["b", "a"])
        kit.until(lambda: blockers(connection))
    connection = connect()
    assert len(blockers(connection)) == 1
    with pytest.raises(StageChangeRefusedError, match=r"crossfade stage unblock web\.sorted"):
        kit.on_loop(
            connection,
            connection.runtime.policies.set_stage(
                "web.sorted", Move(target=Stage.CANARY, actor="ann", settings={"percent": 1})
            ),
        )


def test_what_was_cleared_too_early_comes_back(connect, monkeypatch):
    """The process that saw it still runs, and sees it again: within a minute, here at once."""
    monkeypatch.setattr("crossfade.shim._runtime._TELL_AGAIN", 0.0)
    monkeypatch.setattr("crossfade.shim._observing._MUTATION_EVERY", 2)
    mutates = declare()
    connection = connect()
    mutates(["b", "a"])
    kit.until(lambda: blockers(connection))
    kit.on_loop(connection, connection.runtime.policies.unblock("web.sorted", actor="ann", reason="mended"))
    assert blockers(connection) == ()

    def again():
        mutates(["b", "a"])
        return blockers(connection)

    kit.until(again)


def test_a_blocker_that_could_not_be_told_is_told_later(connect, broker, counts, monkeypatch):
    """The broker was away when it was seen: the next call that shows it tells it."""
    monkeypatch.setattr("crossfade.shim._observing._MUTATION_EVERY", 2)
    mutates = declare()
    connection = connect()
    broker.stop()
    mutates(["b", "a"])
    kit.until(lambda: counts.get("announce-failed", seam="web.sorted"))
    broker.start()

    def told():
        mutates(["b", "a"])
        return blockers(connection)

    kit.until(told)
