"""The example's variants, each against its real framework and a real broker, at each stage."""

from __future__ import annotations

import asyncio
import importlib
import json
import subprocess
import sys

import pytest

from crossfade.adapters.mcp import serve_seams
from crossfade.shim.seam import registry
from integration.frameworks.conftest import STAGES
from support.desks import DESK, environment
from support.model_server import ModelServer, asks, says

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

TOPIC = "context managers"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """The desk's folder, with its index built once; its modules are this process's meanwhile."""
    folder = tmp_path_factory.mktemp("desk")
    declared = registry.names()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(DESK))
        patch.setenv("DESK_HOME", str(folder))
        patch.setenv("DESK_REPORT_SECONDS", "0.2")
        for name in ("langgraph_agent", "openai_tools", "mcp_client"):
            variant(name)  # here, so that what they declare outlives the first test
        yield folder
        for name in [name for name in sys.modules if name.partition(".")[0] in ("desk", "with_frameworks")]:
            del sys.modules[name]
        for name in registry.names() - declared:
            registry.remove(name)


def variant(name: str):
    """A module of the example."""
    return importlib.import_module(f"with_frameworks.{name}")


@pytest.fixture
def staged(home, put):
    """A variant, with seams of the desk at a stage; shadows need no worker here, and a graph that asks wants none."""

    def start(stage: str, *names: str, name: str):
        module = variant(name)
        put(stage, *names, serve=stage in ("canary", "bus"), unsafe_storage=True)
        return module

    return start


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("approved", [True, False])
def test_the_graph_researches_asks_and_writes(staged, home, capsys, stage, approved):
    """Each step is told, the approval is asked for, and the report is written once or not at all."""
    agent = staged(
        stage, "desk.search", "desk.fetch", "desk.summarise", "desk.report", "desk.research", name="langgraph_agent"
    )
    before = set((home / "reports").glob("*.md"))
    report = asyncio.run(agent.run(TOPIC, approve_it=approved))
    new = set((home / "reports").glob("*.md")) - before
    assert {path.name for path in new} == ({report["name"]} if approved else set())
    said = capsys.readouterr().out
    for step in ("search", "read", "input required", "approve", "write"):
        assert f"{step}\n" in said
    assert '"topic": "context managers"' in said


@pytest.mark.parametrize("stage", STAGES)
def test_a_model_looks_things_up(staged, stage):
    """The model's two calls are answered from the desk, and a wrong one with an error it can read."""
    desk = staged(stage, "desk.search", "desk.open", name="openai_tools")
    first = asks(("c1", "search", '{"query": "copy a list"}'), ("c2", "open_passage", '{"passage_id": "nothing"}'))
    with ModelServer(first, says("use list.copy")) as server:
        assert desk.ask("How do I copy a list?", url=server.url, model="test") == "use list.copy"
        found, missing = (json.loads(each["content"]) for each in server.asked[1]["messages"][-2:])
    assert "list.copy" in {hit["title"] for hit in found}
    assert "nothing" in missing["error"]["message"]


@pytest.mark.parametrize("stage", STAGES)
def test_an_mcp_client_uses_the_desks_tools(staged, home, capsys, stage):
    """It finds, and has a report written."""
    client = staged(stage, "desk.search", "desk.report", name="mcp_client")
    name = asyncio.run(client.run(serve_seams("desk", ["desk.search", "desk.report"]), TOPIC))
    assert (home / "reports" / name).exists()
    assert "With Statement Context Managers" in capsys.readouterr().out


@pytest.mark.slow
def test_as_a_user_starts_them(home, tmp_path, nats_server):
    """Commands of the README, on a broker; the MCP client starts its server by itself."""
    (tmp_path / "crossfade.toml").write_text('prefix = "started"\n')
    env = environment(home, CROSSFADE_BUS=nats_server.url, DESK_REPORT_SECONDS="0.2")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "written: context-managers-" in run("with_frameworks.langgraph_agent", TOPIC, "--yes")
    said = run("with_frameworks.mcp_client", TOPIC)
    assert said.startswith("desk.search, desk.report\n")
    assert "100% done" in said
    assert "written: context-managers.md" in said
