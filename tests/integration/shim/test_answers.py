"""What a call asks people, on a bus in this process: any agent can, by ``ask``."""

from __future__ import annotations

import asyncio

import pytest

from crossfade import shim
from crossfade.shim.answers import BUCKET, answer, ask, find_waiting, settle
from integration.shim import kit


@pytest.fixture
def agent(connect, work):
    """An agent that asks two things at once, on the bus."""

    @shim.agent("answers.agent", effects="idempotent", stage="bus", timeout=30)
    async def agent(size: int) -> list[object]:
        questions = {"colour": {"which": "colour"}, "size": {"at most": size}}
        told = await ask(questions)
        await settle(questions)
        return [told["colour"], told["size"]]

    agent.connected = connect()
    work(agent.connected, agent)
    return agent


def waiting(connected, n):
    def found():
        return len(asked := kit.on_loop(connected, find_waiting(connected.runtime.bus))) == n and (asked,)

    return kit.until(found)[0]


def test_each_question_has_its_answer(agent):
    """By id where there are several; who is slower, or vague, or wrong is refused; what is settled is forgotten."""
    connected = agent.connected
    task = agent.submit(3)
    asked = {next(iter(each.value)): each for each in waiting(connected, 2)}
    with pytest.raises(shim.InputRequiredError, match="say which"):
        answer(task.callid, "blue")
    with pytest.raises(shim.InputRequiredError, match="asks"):
        answer(task.callid, "blue", question="nothing")
    assert answer(task.callid, "blue", question=asked["which"].id, actor="bob") == asked["which"]
    with pytest.raises(shim.InputRequiredError, match=asked["at most"].id):
        answer(task.callid, "red", question=asked["which"].id)
    answer(task.callid, {"cm": 2})
    assert task.result(kit.SOON) == ["blue", {"cm": 2}]
    assert kit.on_loop(connected, connected.runtime.bus.state(BUCKET).entries()) == []


def test_of_two_who_answer_at_once_one_counts(agent):
    """The other hears that somebody was quicker."""
    task = agent.submit(3)
    question = next(each for each in waiting(agent.connected, 2) if "which" in each.value)

    async def both():
        tries = [asyncio.to_thread(answer, task.callid, n, question=question.id) for n in range(4)]
        return await asyncio.gather(*tries, return_exceptions=True)

    said = asyncio.run(both())
    assert sum(each == question for each in said) == 1
    assert sum(isinstance(each, shim.InputRequiredError) for each in said) == 3
    answer(task.callid, "-")
    assert task.result(kit.SOON)[0] in range(4)


def test_a_broker_that_is_away_delays_an_answer_only(agent, broker):
    """The call goes on waiting, and counts that it could not look."""
    task = agent.submit(3)
    waiting(agent.connected, 2)
    broker.stop()
    kit.until(lambda: shim.hooks.report.hooks.get("look-up-failed", seam="answers.agent"))
    broker.start()
    for question in waiting(agent.connected, 2):
        kit.until(lambda question=question: answered(task.callid, question))
    assert task.result(kit.SOON) == ["yes", "yes"]


def answered(callid, question):
    try:
        return answer(callid, "yes", question=question.id)
    except shim.BusError:
        return None


async def test_outside_a_call_nobody_can_be_asked():
    """There is no id by which to answer."""
    with pytest.raises(shim.InputRequiredError, match="no id"):
        await ask({"x": 1})
    await settle({"x": 1})


def test_who_is_not_connected_cannot_answer():
    """Questions lie on the bus."""
    with pytest.raises(shim.NotConnectedError, match="connect"):
        answer("0" * 32, True)
