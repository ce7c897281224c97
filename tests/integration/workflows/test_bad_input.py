"""What cannot be used ends where it can be found, with its reason, and concerns nobody else."""

from __future__ import annotations

import json

import pytest

from crossfade import shim, workflows
from crossfade.shim.errors import NotConnectedError, UnserialisableError, WorkflowDefinitionError, WorkflowRefusedError
from crossfade.workflows import Workflow
from crossfade.workflows.origin import origin
from crossfade.workflows.reducer import instance_id
from crossfade.workflows.store import LIVE
from integration.shim import kit


@pytest.fixture
def orders(known):
    """An order waits for a yes."""
    flow = Workflow("orders", on="order.placed", key="data.number")

    @flow.approval(by=["boss"])
    def approved(event):
        return {"number": event["number"]}

    @flow.emit("order.shipped")
    def shipped(approved):
        return approved

    return flow


def reasons(opened, n):
    found = kit.until(lambda: len(found := kit.dead_letters(opened)) >= n and found, what=f"no {n} dead letters")
    return sorted((letter.reason, letter.detail) for letter in found)


def test_what_cannot_be_read_is_a_dead_letter_with_its_reason(connect, run, orders):
    """Data that is no JSON, an event without key, a signal that is none: each is kept, and the next event is taken."""
    opened = connect()
    desk = run(opened)
    desk.publish("order.placed", b"{nonsense")
    desk.publish("order.placed", {"no": "number"})
    desk.signal("orders", {"instance": "x", "action": "explode"})
    desk.publish("order.placed", {"number": 7})

    desk.step("orders", "7", "approved", "waiting")
    (key, detail), *others = reasons(opened, 3)
    assert (key, [reason for reason, _ in others]) == ("key", ["payload", "payload"])
    assert "orders is started by order.placed, and this one has nothing at 'data.number'" in detail
    assert "this is no signal to orders: ('action',)" in others[1][1]


def test_a_dead_letter_says_whose_it_is(connect, run, work, known):
    """A command, a signal that cannot be read and a fact: each as far as it can be told, at any attempt."""

    @shim.tool("read.all", effects="none")
    def read_all(size: int) -> str:
        return "x"

    flow = Workflow("reader", on="file.created", key="data.path")

    @flow.tool("read.all", effects="none", attempts=2, backoff=0.05)
    def text(event):
        return {"sice": event["path"]}

    opened = connect()
    work(opened, read_all)
    desk = run(opened)
    desk.publish("file.created", {"path": "a"})
    instance = desk.until("reader", "a", "failed").id
    desk.signal("reader", {"instance": "x", "action": "explode", "step": "text"})
    desk.publish("file.created", {"no": "path"}, partitionkey="f" * 32)
    reasons(opened, 4)

    found = [kit.on_loop(opened, origin(opened.runtime.bus, letter)) for letter in kit.dead_letters(opened)]
    told = sorted((each.workflow, each.instance, each.step) for each in found)
    assert told == sorted([("reader", instance, "text")] * 2 + [("reader", "x", "text"), ("reader", "", "")])


def test_a_poisoned_instance_is_left_alone(connect, run, orders, counts):
    """A state that nobody can read makes its events dead letters; its neighbours go on, and it is not overwritten."""
    opened = connect()
    poisoned = instance_id("orders", "13")
    kit.on_loop(opened, opened.runtime.bus.state(LIVE).put(poisoned, b'{"format": 99}'))
    desk = run(opened)
    desk.publish("order.placed", {"number": 13})
    desk.publish("order.placed", {"number": 7})

    desk.step("orders", "7", "approved", "waiting")
    assert [reason for reason, _ in reasons(opened, 1)] == ["state"]
    assert kit.on_loop(opened, opened.runtime.bus.state(LIVE).get(poisoned)).value == b'{"format": 99}'
    kit.until(lambda: counts.get("skipped", reason="state") == 1)


def test_a_word_to_an_instance_that_cannot_take_it_is_refused_with_the_reason(connect, run, orders):
    """Unknown instance, misspelt step, the wrong person, the wrong kind of word, an ended instance."""
    opened = connect()
    desk = run(opened)
    desk.publish("order.placed", {"number": 7})
    instance = desk.step("orders", "7", "approved", "waiting").id

    for call, said in [
        (lambda: workflows.answer("0" * 32, "approved", approve=True), "no instance"),
        (lambda: workflows.answer(instance, "aproved", approve=True, by="boss"), "did you mean 'approved'"),
        (lambda: workflows.answer(instance, "approved", approve=True, by="clerk"), "waits for boss, not for 'clerk'"),
        (lambda: workflows.answer(instance, "approved", data=1, by="boss"), "say --approve or --reject"),
        (lambda: workflows.answer(instance, "shipped", data=1), "nobody is asked there"),
    ]:
        with pytest.raises(WorkflowRefusedError, match=said):
            call()
    workflows.answer(instance, "approved", approve=False, by="boss", comment="too dear")
    assert desk.until("orders", "7", "failed").error["message"] == "boss said no: too dear"
    with pytest.raises(WorkflowRefusedError, match="is failed: nothing can be said to it any more"):
        workflows.cancel(instance)


def test_a_signal_that_comes_too_late_is_counted(connect, run, orders, counts):
    """Two people answer at once: the second word has no effect, and is counted by its reason."""
    opened = connect()
    desk = run(opened)
    desk.publish("order.placed", {"number": 7})
    instance = desk.step("orders", "7", "approved", "waiting").id
    for _ in range(2):
        desk.signal("orders", {"instance": instance, "action": "approve", "step": "approved", "by": "boss"})

    desk.until("orders", "7", "completed")
    kit.until(lambda: counts.get("ignored", seam="orders", reason="ended") == 1)
    assert len(desk.facts("order.shipped")) == 1


def test_a_value_too_large_fails_its_instance_alone(connect, run, work, known):
    """Half a megabyte of state is the limit; the instance ends and says what to do."""

    @shim.tool("read.all", effects="none")
    def read_all(size: int) -> str:
        return "x" * size

    flow = Workflow("reader", on="file.created", key="data.path")

    @flow.tool("read.all", effects="none")
    def text(event):
        return {"size": event["size"]}

    opened = connect()
    work(opened, read_all)
    desk = run(opened)
    for path, size in (("big", 600_000), ("small", 10)):
        desk.publish("file.created", {"path": path, "size": size})

    assert "pass references, not contents" in desk.until("reader", "big", "failed").error["message"]
    assert desk.until("reader", "small", "completed")


def test_a_credential_among_arguments_is_not_sent(connect, run, known):
    """A command lies on the bus for a day: what looks like a secret fails the step before."""
    flow = Workflow("leaky", on="order.placed", key="data.number")

    @flow.tool("pay")
    def paid(event):
        return {"password": "hunter2hunter2"}

    opened = connect()
    desk = run(opened)
    desk.publish("order.placed", {"number": 1})

    ended = desk.until("leaky", "1", "failed")
    assert ended.error["type"] == "secret"
    assert kit.read(opened, "{p}.>") == []


def test_publish_says_what_is_wrong(connect):
    """Not connected, no JSON, no type, one of ours."""
    with pytest.raises(NotConnectedError):
        workflows.publish("order.placed", {})
    connect()
    with pytest.raises(UnserialisableError, match="data"):
        workflows.publish("order.placed", object())
    with pytest.raises(WorkflowDefinitionError, match="type of our own"):
        workflows.publish("workflow.completed", {})


def test_a_published_event_with_a_key_is_one(connect, run, orders):
    """Publishing again with the same key is the same event; it carries the run and user in force."""
    opened = connect()
    desk = run(opened)
    with shim.correlate(user="alice", run="r1"):
        ids = {workflows.publish("order.placed", {"number": 9}, key="9") for _ in range(2)}

    assert len(ids) == 1
    found = desk.step("orders", "9", "approved", "waiting")
    assert (found.event["user"], found.event["run"]) == ("alice", "r1")
    assert len(kit.read(opened, "{p}e.*.*.order-placed")) == 1


def test_the_page_is_told_what_happens_and_no_values(connect, run, known):
    """Under the user's own subjects: what each step does, an approval's question, and what ``show`` says."""
    flow = Workflow("teller", on="order.placed", key="data.number")

    @flow.emit("order.noted")
    def noted(event):
        return {"secret": "inner"}

    @flow.show()
    def told(noted):
        return {"text": "noted it"}

    @flow.approval()
    def asked(told):
        return {"question": "go on?"}

    opened = connect()
    desk = run(opened)
    desk.publish("order.placed", {"number": 1}, correlationid="run1")
    desk.step("teller", "1", "asked", "waiting")
    found = kit.until(lambda: len(found := kit.read(opened, "{p}ui.-.alice.run1.>")) == 5 and found)

    page = [(event.type, json.loads(event.data)) for event in found]
    assert [(kind, data["step"]) for kind, data in page] == [
        ("workflow.started", ""),
        ("workflow.advanced", "noted"),
        ("workflow.advanced", "told"),
        ("workflow.shown", "told"),
        ("workflow.advanced", "asked"),
    ]
    assert [data["data"] for _, data in page] == [None, None, None, {"text": "noted it"}, {"question": "go on?"}]
