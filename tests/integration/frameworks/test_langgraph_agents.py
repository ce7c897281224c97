"""LangGraph graphs as agents: progress, approval by a person, and a crash in between, on a real broker."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import threading
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig  # noqa: TC002 - LangGraph reads the annotations
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from crossfade import shim
from crossfade.adapters.langchain import graph_agent, seam_tool
from crossfade.shim.answers import BUCKET, answer, find_waiting
from crossfade.shim.seam import registry
from integration.frameworks.conftest import STAGES
from integration.shim import kit

NAME = "graphs.research"


@pytest.fixture
def graphs(tmp_path, monkeypatch):
    """The module of the agent, whose journal and checkpoints lie in this test's folder."""
    monkeypatch.setenv("GRAPHS_JOURNAL", str(tmp_path / "journal.txt"))
    sys.modules.pop("integration.frameworks.graphs", None)
    module = importlib.import_module("integration.frameworks.graphs")
    yield module
    sys.modules.pop("integration.frameworks.graphs", None)
    registry.remove(NAME)


def waiting(connected: Any) -> Any:
    """The first question that waits, once there is one."""
    return kit.until(lambda: kit.on_loop(connected, find_waiting(connected.runtime.bus)))[0]


def kept(connected: Any) -> list[str]:
    return [entry.key for entry in kit.on_loop(connected, connected.runtime.bus.state(BUCKET).entries())]


@pytest.mark.parametrize("stage", STAGES)
def test_a_submitted_graph_tells_its_steps_and_waits_for_a_person(put, graphs, stage):
    """Nodes and what they write are progress; an interrupt asks; the answer lets it go on; no node runs twice."""
    connected = put(stage, NAME, serve=stage in ("canary", "bus"))  # a shadow run would ask, too, and end there
    with shim.correlate(user="alice"):
        task = graphs.research.submit("bees")
    question = waiting(connected)
    assert (question.callid, question.seam, question.value) == (task.callid, NAME, {"publish": ["bees 0", "bees 1"]})
    assert not task.done()
    answer(task.callid, value=True, actor="bob")
    assert task.result(kit.SOON) == "bees 0 / bees 1"

    said = list(task.events())
    assert [each.message for each in said] == [
        "failing",
        "reading about bees",
        "read",
        "input required",
        "approve",
        "write",
    ]
    assert said[1].fraction == 0.5
    assert said[3].data["status"] == "input-required"
    assert said[3].data["questions"] == [{"id": question.id, "value": {"publish": ["bees 0", "bees 1"]}}]
    assert graphs.JOURNAL.read_text().split() == ["read", "write"]
    kit.until(lambda: not kept(connected), what="the answer was kept")
    with pytest.raises(shim.InputRequiredError, match="not any more"):
        answer(task.callid, value=False)


@pytest.mark.parametrize("stage", ["canary", "bus"])
def test_a_call_that_is_waited_for_can_be_answered_too(put, graphs, stage):
    """A plain await over the bus; errors of a node are the caller's."""
    connected = put(stage, NAME)

    async def wait() -> str:
        with shim.correlate(user="alice"):
            running = asyncio.create_task(graphs.research("ants"))
            question = await asyncio.to_thread(waiting, connected)
            await asyncio.to_thread(answer, question.callid, value=False)
            return await running

    assert asyncio.run(wait()) == "withheld"
    with pytest.raises(LookupError, match="no such topic"), shim.correlate(user="alice"):
        asyncio.run(graphs.research("nothing"))


def test_a_cancelled_call_asks_no_longer(put, graphs):
    """The question goes with the call."""
    connected = put("bus", NAME)
    task = graphs.research.submit("bees")
    waiting(connected)
    task.cancel()
    with pytest.raises(shim.CallCancelledError):
        task.result(kit.SOON)
    kit.until(lambda: not kept(connected), what="the question was kept")


def test_a_shadow_run_asks_nobody(put, graphs):
    """It ends at the interrupt, so that no person is asked twice; the caller's own run goes on."""
    connected = put("shadow", NAME)
    task = graphs.research.submit("bees")
    question = waiting(connected)
    answer(task.callid, value=True)
    assert task.result(kit.SOON) == "bees 0 / bees 1"
    (compared,) = kit.until(lambda: [each for each in kit.read(connected, "{p}v.>") if each.type == "seam.compared"])
    assert kit.payload(compared)["verdict"] == "mismatch"
    assert "InputRequiredError" in (compared.data or b"").decode()
    assert kit.on_loop(connected, find_waiting(connected.runtime.bus)) == []
    assert question.callid == task.callid


def test_where_nobody_can_answer_it_says_so(put, graphs):
    """A plain call at legacy has no id that anybody knows."""
    put("legacy", NAME, serve=False)
    with pytest.raises(shim.InputRequiredError, match="submit it"):
        asyncio.run(graphs.research("bees"))


def test_a_worker_that_stops_while_a_person_thinks_leaves_the_rest_to_another(put, graphs, tmp_path):
    """The question stays, an answer given meanwhile counts, and the next worker runs only what had not run."""
    connected = put("bus", NAME, serve=False)
    with kit.Workers(tmp_path / "first") as workers:
        workers.start(connected, only=[NAME], grace=0.1, ack_wait=1.0)
        task = graphs.research.submit("bees")
        question = waiting(connected)
    answer(task.callid, value=True, question=question.id)
    with kit.Workers(tmp_path / "second") as workers:
        workers.start(connected, only=[NAME], ack_wait=1.0)
        assert task.result(kit.SOON) == "bees 0 / bees 1"
    assert graphs.JOURNAL.read_text().split() == ["read", "write"]


@pytest.mark.slow
def test_a_worker_that_dies_while_a_person_thinks_loses_nothing(put, graphs, tmp_path, nats_server, prefix):
    """As above, killed in a process of its own."""
    connected = put("bus", NAME, serve=False)
    (tmp_path / "crossfade.toml").write_text(f'prefix = "{prefix}"\n[seams."{NAME}"]\nstage = "bus"\n')
    environment = {
        "CROSSFADE_BUS": nats_server.url,
        "PYTHONPATH": os.pathsep.join([str(kit.ROOT / "tests"), os.environ.get("PYTHONPATH", "")]),
    }
    code = """
        import sys
        from crossfade.migrations.cli import main
        sys.argv = ["crossfade", "worker", "integration.frameworks.graphs", "--ack-wait", "1"]
        main()
    """
    task = graphs.research.submit("bees")
    first = kit.python(code, folder=tmp_path, **environment)
    try:
        question = waiting(connected)
    finally:
        first.kill()
        first.communicate()
    answer(task.callid, value=True, question=question.id)
    second = kit.python(code, folder=tmp_path, **environment)
    try:
        assert task.result(30) == "bees 0 / bees 1"
    finally:
        second.terminate()
        second.communicate(timeout=30)
    assert graphs.JOURNAL.read_text().split() == ["read", "write"]


def test_the_command_line_answers(put, graphs, tmp_path, nats_server, prefix):
    """``crossfade calls waiting`` and ``crossfade calls answer``, which refuse what is not asked."""
    connected = put("bus", NAME)
    (tmp_path / "crossfade.toml").write_text(f'prefix = "{prefix}"\n')

    def crossfade(*arguments: str) -> tuple[int, str, str]:
        start = "import sys\nfrom crossfade.migrations.cli import main\n"
        code = f"{start}sys.argv = {['crossfade', *arguments]!r}\nsys.exit(main())"
        process = kit.python(code, folder=tmp_path, CROSSFADE_BUS=nats_server.url)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    task = graphs.research.submit("bees")
    question = waiting(connected)
    shown = json.loads(crossfade("calls", "waiting", "--json")[1])
    assert [(each["callid"], each["id"], each["seam"]) for each in shown] == [(task.callid, question.id, NAME)]
    assert crossfade("calls", "answer", task.callid, "--value", "yes")[0] == 2
    refused = crossfade("calls", "answer", task.callid, "--value", "true", "--question", "x")
    assert refused[0] == 1
    assert f"asks {question.id}: say which" in refused[2]
    assert crossfade("calls", "answer", task.callid, "--value", "true")[:2] == (
        0,
        f"Answered question {question.id} of {NAME}.\n",
    )
    assert task.result(kit.SOON) == "bees 0 / bees 1"


@pytest.mark.parametrize("stage", ["legacy", "bus"])
def test_a_graph_as_it_is(put, stage):
    """A dict goes in and the state comes out; without a checkpointer nothing is kept."""
    builder = StateGraph(dict)
    builder.add_node("double", lambda state: {"number": 2 * state["number"]})
    builder.add_edge(START, "double")
    builder.add_edge("double", END)
    plain = graph_agent("graphs.plain", builder.compile(), effects="idempotent")
    lasting = graph_agent("graphs.lasting", builder.compile(checkpointer=InMemorySaver()), effects="idempotent")
    put(stage, "graphs.plain", "graphs.lasting")
    assert asyncio.run(plain({"number": 2})) == asyncio.run(lasting({"number": 2})) == {"number": 4}


def test_messages_go_through_functions_of_ones_own(put):
    """A chat state holds objects; ``input`` and ``output`` say what crosses."""
    builder = StateGraph(MessagesState)
    builder.add_node("echo", lambda state: {"messages": [("ai", state["messages"][-1].content.upper())]})
    builder.add_edge(START, "echo")
    builder.add_edge("echo", END)

    def asked(text: str) -> Any:
        return {"messages": [("user", text)]}

    def told(state: Any) -> str:
        return state["messages"][-1].content

    chat = graph_agent("graphs.chat", builder.compile(), input=asked, output=told, effects="idempotent")
    put("bus", "graphs.chat")
    assert asyncio.run(chat("hello")) == "HELLO"


def test_an_agents_tools_run_once_though_a_worker_stops_in_between(put, tmp_path):
    """LangGraph's own ToolNode, with a seam for a tool: the step is repeated by the next worker, the payment is not."""
    paid, stopping = [], threading.Event()

    @tool
    def pay(cents: int) -> str:
        """Pay."""
        paid.append(cents)
        return f"paid {cents}"

    async def call_tools(state: Any, config: RunnableConfig) -> Any:
        done = await ToolNode([mine]).ainvoke(state, config)
        if not stopping.is_set():  # after the payment, before the graph has kept it
            stopping.set()
            await asyncio.sleep(60)
        return done

    def think(state: Any) -> Any:
        return {"messages": [AIMessage("", tool_calls=[{"name": "pay", "args": {"cents": 5}, "id": "c1"}])]}

    mine = seam_tool("graphs.pay", pay, effects="unsafe")
    builder = StateGraph(MessagesState)
    builder.add_node("think", think)
    builder.add_node("tools", call_tools)
    for edge in ((START, "think"), ("think", "tools"), ("tools", END)):
        builder.add_edge(*edge)

    def told(state: Any) -> str:
        return state["messages"][-1].content

    def asked(text: str) -> Any:
        return {"messages": [("user", text)]}

    graph = builder.compile(checkpointer=InMemorySaver())
    payer = graph_agent("graphs.payer", graph, input=asked, output=told, effects="idempotent")
    connected = put("bus", "graphs.pay", "graphs.payer", serve=False, unsafe_storage=True)
    with kit.Workers(tmp_path / "tools") as others:
        others.start(connected, only=["graphs.pay"])
        with kit.Workers(tmp_path / "first") as workers:
            workers.start(connected, only=["graphs.payer"], grace=0.1, ack_wait=1.0)
            task = payer.submit("please")
            assert stopping.wait(kit.SOON)
        with kit.Workers(tmp_path / "second") as workers:
            workers.start(connected, only=["graphs.payer"], ack_wait=1.0)
            assert task.result(kit.SOON) == "paid 5"
    assert paid == [5]
