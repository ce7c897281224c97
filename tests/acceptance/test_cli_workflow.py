"""``crossfade workflow`` on a real broker: what people do to instances, and what they are told when they cannot."""

from __future__ import annotations

import threading

import pytest

from crossfade.migrations.cli.worker import _beside
from crossfade.shim.errors import BusRefusedError
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

grants = Workflow("cli.grants", on="grant.asked", key="data.number")

@grants.approval(by=["carla"], authenticated=True)
def granted(event):
    return event
"""


@pytest.fixture
def engine(tmp_path, monkeypatch, nats_server, prefix):
    monkeypatch.setenv("CROSSFADE_BUS", nats_server.url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "flows.py").write_text(FLOW)
    with Process("workflow", "run", "flows", "--json", folder=tmp_path) as process:
        assert process.ready() == {"ready": True, "workflows": {"cli.orders": [1], "cli.grants": [1]}}
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


def test_an_approval_is_answered_with_a_credential(engine, tmp_path, monkeypatch):
    """Over the bus it is refused and says how; through the control plane the credential's name is recorded."""
    assert crossfade("workflow", "emit", "grant.asked", "--data", '{"number": 1}').code == 0
    (listed,) = until(lambda: crossfade("workflow", "list", "--workflow", "cli.grants", "--json").json, "none began")
    instance = listed["instance"]
    until(lambda: crossfade("workflow", "show", instance, "--json").json["at"] == ["granted"], "it does not wait")
    assert "--approve --control URL" in crossfade("workflow", "show", instance).out
    refused = crossfade("workflow", "signal", instance, "granted", "--approve", "--by", "carla", width=300)
    assert (refused.code, "through the control plane only" in refused.err) == (4, True)
    tokens = {name: crossfade("control", "access", name, "--json").json["token"] for name in ("carla", "vera")}

    with Process("control", "--listen", "127.0.0.1:0", "--json", folder=tmp_path) as control:
        url = control.ready()["url"]
        words = ("workflow", "signal", instance[:8], "granted", "--reject", "--comment", "not now", "--control", url)
        unset = crossfade(*words)
        assert (unset.code, "CROSSFADE_CREDENTIAL: is not set" in unset.err) == (2, True)
        monkeypatch.setenv("CROSSFADE_CREDENTIAL", "cfc_wrong")
        assert crossfade(*words).code == 2
        monkeypatch.setenv("CROSSFADE_CREDENTIAL", tokens["vera"])
        theirs = crossfade(*words, width=300)
        assert (theirs.code, "waits for carla, and this credential is vera" in theirs.err) == (4, True)
        monkeypatch.setenv("CROSSFADE_CREDENTIAL", tokens["carla"])
        assert crossfade(*words, "--by", "vera").code == 2
        assert crossfade(*words).out == f"cli.grants, instance {instance}: granted is rejected.\n"
    until(lambda: state(instance) == "failed", "it goes on")
    assert crossfade("workflow", "show", instance, "--json").json["error"]["message"] == "carla said no: not now"
    gone = crossfade(*words)
    assert (gone.code, "no control plane answers" in gone.err) == (3, True)
    for wrong in ("nonsense", "ftp://host", "http://host:port"):
        refused = crossfade(*words[:-1], wrong)
        assert (refused.code, "is no URL" in refused.err) == (2, True), refused.err


def test_an_instance_is_cancelled(engine):
    """It ends as cancelled, by whom and why."""
    instance = started(2)
    assert crossfade("workflow", "cancel", instance, "--by", "ann", "--comment", "a typo").code == 0
    until(lambda: state(instance) == "cancelled", "it goes on")

    error = crossfade("workflow", "show", instance, "--json").json["error"]
    assert (error["message"], error["by"]) == ("a typo", "ann")
    assert "ended: a typo" in crossfade("workflow", "show", instance).out


def test_a_dead_letter_of_a_workflow_names_it(engine):
    """In the list and in full; what nobody knows stays out."""
    assert crossfade("workflow", "emit", "order.placed", "--data", '{"item": "lamp"}').code == 0
    (letter,) = until(lambda: crossfade("dlq", "list", "--json").json["letters"], "it did not die")
    assert (letter["workflow"], letter["instance"], letter["step"]) == ("cli.orders", None, None)
    assert "workflow" in crossfade("dlq", "list").out.splitlines()[0]
    shown = crossfade("dlq", "show", letter["position"]).out
    assert any(line.split() == ["workflow", "cli.orders"] for line in shown.splitlines())


TOOL = """
from crossfade import shim
from crossfade.workflows import Workflow

@shim.tool("cli.double", effects="none")
def double(n: int) -> int:
    return 2 * n

flow = Workflow("cli.doubling", on="number.given", key="data.n")

@flow.tool("cli.double", effects="none")
def doubled(event):
    return {"n": event["n"]}

flow.result(lambda doubled: doubled)
"""


def test_one_process_runs_handlers_and_workflows(tmp_path, monkeypatch, nats_server, prefix):
    """Its ready line tells both; an instance ends by its own handler; SIGTERM ends both with 0."""
    monkeypatch.setenv("CROSSFADE_BUS", nats_server.url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(TOOL)
    with Process("worker", "app", "--workflows", "--json", folder=tmp_path) as worker:
        ready = worker.ready()
        assert (ready["seams"], ready["workflows"]) == (["cli.double"], {"cli.doubling": [1]})
        assert crossfade("workflow", "emit", "number.given", "--data", '{"n": 21}').code == 0
        done = until(
            lambda: [
                each
                for each in crossfade("workflow", "list", "--all", "--json").json
                if each["state"] == "completed" and each["waiting"] is None
            ],
            "it does not end",
        )
        assert crossfade("workflow", "show", done[0]["instance"], "--json").json["value"] == 42
        worker.process.terminate()
        assert worker.process.wait(20) == 0, worker.log.read_text()
    (tmp_path / "bare.py").write_text(TOOL.partition("flow =")[0])
    with Process("worker", "bare", "--workflows", folder=tmp_path) as bare:
        assert (bare.process.wait(20), "declare no workflow" in bare.log.read_text()) == (2, True)


def test_workflows_that_fail_end_the_worker_beside_them():
    """It is told to stop, and ends in their error: half a process is worse than none."""
    stopped = threading.Event()

    class Broken:
        def run(self, *, when_ready):
            raise BusRefusedError("no permission")

        def stop(self):
            pass

    with pytest.raises(BusRefusedError), _beside(Broken(), stopped.set):
        assert stopped.wait(10)


def test_an_instance_whose_version_no_engine_has_says_so(engine, tmp_path):
    """``list`` and ``show`` name the version while none runs it, and stop once one does."""
    instance = started(4)
    assert crossfade("workflow", "list", "--json").json[0]["waiting"] is None
    engine.process.terminate()
    engine.process.wait()
    (tmp_path / "newer.py").write_text(FLOW.replace('key="data.number")', 'key="data.number", version=2)'))
    with Process("workflow", "run", "newer", "--json", folder=tmp_path) as newer:
        assert newer.ready()["workflows"]["cli.orders"] == [2]
        waiting = "no engine serves version 1"
        until(lambda: crossfade("workflow", "show", instance, "--json").json["waiting"] == waiting, "nobody says so")
        assert f"waiting: {waiting}" in crossfade("workflow", "show", instance).out
        assert f"waiting: {waiting}" in crossfade("workflow", "list").out
        with Process("workflow", "run", "newer", "flows", "--json", folder=tmp_path) as both:
            assert both.ready()["workflows"]["cli.orders"] == [1, 2]
            until(lambda: crossfade("workflow", "show", instance, "--json").json["waiting"] is None, "it still waits")


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
