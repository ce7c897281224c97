"""``crossfade workflow`` on a real broker: what people do to instances, and what they are told when they cannot."""

from __future__ import annotations

import pytest

from support.commands import Process, crossfade, until

FLOW = """
from crossfade.workflows import Workflow

flow = Workflow("cli.orders", on="order.placed", key="data.number")

@flow.approval(by=["boss"])
def approved(event):
    return {"ship": event["item"]}

@flow.wait("order.paid")
def paid(approved):
    return None
"""


@pytest.fixture
def engine(tmp_path, monkeypatch, nats_server, prefix):
    monkeypatch.setenv("CROSSFADE_BUS", nats_server.url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(FLOW)
    with Process("workflow", "run", "flows", "--json", folder=tmp_path) as process:
        assert process.ready() == {"ready": True, "workflows": {"cli.orders": [1]}}
        yield process


def started(number):
    """The id of a new instance that waits for its approval."""
    emitted = crossfade("workflow", "emit", "order.placed", "--data", f'{{"number": {number}, "item": "lamp"}}')
    assert emitted.code == 0, emitted.err

    def found():
        listed = crossfade("workflow", "list", "--workflow", "cli.orders", "--json").json
        return [each["instance"] for each in listed if each["key"] == str(number) and each["at"] == ["approved"]]

    return until(found, "it does not wait")[0]


def state(instance):
    return crossfade("workflow", "show", instance, "--json").json["state"]


def test_an_instance_is_answered_sent_a_value_and_listed_when_it_has_ended(engine):
    """Approval by its beginning, the value of a wait by hand; it leaves the list of those that live."""
    instance = started(1)
    answer = f"crossfade workflow signal {instance[:8]} approved --approve --by boss\n"
    assert answer in crossfade("workflow", "show", instance).out
    assert crossfade(*answer.split()[1:]).code == 0
    until(lambda: crossfade("workflow", "show", instance, "--json").json["at"] == ["paid"], "it is not approved")
    sent = crossfade("workflow", "signal", instance, "paid", "--data", '{"cents": 5}')
    assert sent.out == f"cli.orders, instance {instance}: paid has its value.\n"
    until(lambda: state(instance) == "completed", "it does not end")

    assert crossfade("workflow", "show", instance, "--json").json["steps"]["paid"]["value"] == {"cents": 5}
    assert instance[:8] not in crossfade("workflow", "list").out
    assert instance[:8] in crossfade("workflow", "list", "--all").out
    refused = crossfade("workflow", "signal", instance, "paid", "--data", "1")
    assert (refused.code, "is completed: nothing can be said to it any more" in refused.err) == (4, True)


def test_an_instance_is_cancelled(engine):
    """It ends as cancelled, by whom and why."""
    instance = started(2)
    assert crossfade("workflow", "cancel", instance, "--by", "ann", "--comment", "a typo").code == 0
    until(lambda: state(instance) == "cancelled", "it goes on")

    error = crossfade("workflow", "show", instance, "--json").json["error"]
    assert (error["message"], error["by"]) == ("a typo", "ann")
    assert "ended: a typo" in crossfade("workflow", "show", instance).out


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("show", "ab"), 2, "too short: give 4 characters at least"),
        (("show", "abcdef"), 2, "no instance begins with 'abcdef'"),
        (("signal", "{}", "aproved", "--approve"), 4, "did you mean 'approved'?"),
        (("signal", "{}", "approved", "--approve", "--by", "clerk"), 4, "waits for boss, not for 'clerk'"),
        (("signal", "{}", "paid", "--data", "1"), 4, "paid' is pending and waits for nobody; waiting are: approved"),
        (("signal", "{}", "approved", "--data", "{oops"), 2, "--data: is no JSON"),
        (("signal", "{}", "approved"), 2, "say --approve, --reject"),
        (("run", "nothing_here"), 2, "there is no module 'nothing_here'"),
        (("run", "json"), 2, "the modules named declare no workflow"),
        (("emit", "workflow.completed"), 2, "a type of our own"),
    ],
)
def test_what_cannot_be_done_is_said(engine, words, code, said):
    """Each mistake is one line that says what is there, and the exit code of its family."""
    instance = started(3) if "{}" in words else ""
    done = crossfade("workflow", *(instance if word == "{}" else word for word in words), width=300)

    assert said in done.err
    assert done.code == code
