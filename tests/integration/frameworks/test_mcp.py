"""MCP both ways, with the SDK's own client and server, over stdio and streamable HTTP, on a real broker."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING, Any

import pytest
from mcp import Client, MCPError, StdioServerParameters
from mcp.server import MCPServer
from mcp.types import ToolAnnotations

from crossfade import shim
from crossfade.adapters.mcp import RemoteTools, serve_seams
from crossfade.adapters.mcp._server import serve_http
from crossfade.shim.errors import ConfigurationError, SeamDefinitionError, UnknownSeamError
from crossfade.shim.seam import registry
from integration.frameworks.conftest import STAGES
from integration.shim import kit

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

LIBRARY = """
    import sys

    from mcp import MCPError
    from mcp.server import MCPServer
    from mcp.server.mcpserver import Context
    from mcp.server.mcpserver.exceptions import ToolError
    from mcp.types import ToolAnnotations

    server = MCPServer("library")
    ordered = []


    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    async def search(query: str, mcp: Context, limit: int = 2) -> list[str]:
        await mcp.report_progress(1, 2, "half")
        return [f"{query} {n}" for n in range(limit)]


    @server.tool(name="Put-Back", annotations=ToolAnnotations(idempotent_hint=True))
    def put_back(book: str) -> str:
        raise ToolError(f"{book} was never lent")


    @server.tool()
    def order(book: str) -> int:
        ordered.append(book)
        return len(ordered)


    @server.tool(annotations=ToolAnnotations(read_only_hint=True))
    def locked() -> str:
        raise MCPError(-32001, "locked", {"until": "noon"})


    if __name__ == "__main__":
        server.run()
"""

SEAMS = """
    import asyncio

    from crossfade import shim
    from pydantic import BaseModel


    class Hit(BaseModel):
        title: str
        rank: float


    @shim.tool("desk.search", effects="none")
    def search(query: str, limit: int = 2) -> list[Hit]:
        "Search the desk."
        return [Hit(title=f"{query} {n}", rank=1 / (n + 1)) for n in range(limit)]


    @shim.agent("desk.study", effects="idempotent", timeout=60)
    async def study(topic: str) -> str:
        for step in (1, 2, 3):
            shim.report_progress(step / 4, f"step {step}")
        if topic == "forever":
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                shim.report_progress(0.9, "stopped")
                raise
        if topic == "nothing":
            raise LookupError("no such topic")
        return topic.upper()
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes a module where this process and others find it, and imports it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, text: str) -> Any:
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        monkeypatch.delitem(sys.modules, name, raising=False)
        return __import__(name)

    return write


def library(folder: Path) -> StdioServerParameters:
    return StdioServerParameters(command=sys.executable, args=[str(folder / "library.py")])


# -- a client's tool calls are seams -----------------------------------------------------------------------------------


@pytest.mark.parametrize("stage", STAGES)
async def test_a_sessions_tool_calls_are_seams(put, module, counts, stage):
    """Tools, results, errors of tools and of the protocol are the session's own; effects are the server's hints."""
    served = module("library", LIBRARY).server
    tools = RemoteTools("Library", lambda: Client(served))
    tools.discover()
    names = ("mcp.library.search", "mcp.library.put_back", "mcp.library.order")
    await asyncio.to_thread(put, stage, *names, unsafe_storage=True)

    async with Client(served) as client:
        session = tools.wrap(client)
        assert await session.list_tools() == await client.list_tools()
        with shim.correlate(user="alice"):
            found = await session.call_tool("search", {"query": "bees"})
            lent = await session.call_tool("Put-Back", {"book": "Emma"})
            ordered = await session.call_tool("order", {"book": "Emma"})
            bad = await session.call_tool("search", {"limit": 1})
            gone = await session.call_tool("nothing")
        assert (found.structured_content, found.is_error) == ({"result": ["bees 0", "bees 1"]}, False)
        assert lent.is_error
        assert "Emma was never lent" in lent.content[0].text
        assert ordered.structured_content == {"result": 1}
        assert bad.is_error
        assert "query" in bad.content[0].text
        assert gone.is_error
        assert "nothing" in gone.content[0].text
        assert session.server_info == client.server_info  # and all else is the session's own

    assert [registry.get(name).policy.effects for name in names] == ["none", "idempotent", "unsafe"]
    assert counts.get("fallback") == 0
    if stage in ("canary", "bus"):
        await asyncio.to_thread(kit.until, lambda: counts.get("served") == 4)


async def test_over_stdio_a_worker_starts_a_server_of_its_own(put, module, tmp_path):
    """The worker's session is another process; progress of the tool is progress of the call."""
    served = module("library", LIBRARY).server
    tools = RemoteTools("library", lambda: Client(library(tmp_path)), effects_of={"search": "none"})
    connected = await asyncio.to_thread(put, "bus", "mcp.library.search")

    async with Client(served) as client:
        found = await tools.wrap(client).call_tool("search", {"query": "ants", "limit": 1})
    assert found.structured_content == {"result": ["ants 0"]}
    said = await asyncio.to_thread(
        kit.until, lambda: [each for each in kit.read(connected, "{p}ui.>") if each.type == "tool.progress"]
    )
    assert [(each["fraction"], each["message"]) for each in map(kit.payload, said)] == [(0.5, "half")]


async def test_a_protocol_error_arrives_as_itself(put, module):
    """What the worker's session raised is raised here, with its code."""
    served = module("library", LIBRARY).server
    tools = RemoteTools("library", lambda: Client(served))
    tools.discover()
    await asyncio.to_thread(put, "bus", "mcp.library.locked", fallback="raise")
    async with Client(served) as client:
        with pytest.raises(MCPError, match="locked") as raised:
            await tools.wrap(client).call_tool("locked")
    assert (raised.value.code, raised.value.data) == (-32001, {"until": "noon"})


async def test_two_tools_that_are_spelled_alike_stay_two(put, counts):
    """The first is the seam; the second is called as if nothing were there, and so are its neighbours."""
    server = MCPServer("alike")
    for name in ("a-b", "a_b", "other"):
        server.add_tool(lambda name=name: name, name=name, annotations=ToolAnnotations(read_only_hint=True))
    tools = RemoteTools("alike", lambda: Client(server))
    tools.discover()
    await asyncio.to_thread(put, "bus", "mcp.alike.a_b", "mcp.alike.other")
    async with Client(server) as client:
        session = tools.wrap(client)
        said = [(await session.call_tool(name)).content[0].text for name in ("a-b", "a_b", "other")]
    assert said == ["a-b", "a_b", "other"]
    assert counts.get("skipped", seam="mcp.alike", reason="tool-name") >= 1


# -- seams are the tools of a server -----------------------------------------------------------------------------------


async def progress_of(client: Client, *call: Any) -> tuple[Any, list[Any]]:
    said: list[Any] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        said.append((progress, total, message))

    return await client.call_tool(*call, progress_callback=hear), said


@pytest.mark.parametrize("stage", STAGES)
async def test_seams_are_tools(put, module, stage):
    """Schemas from the signature, hints from the effects, typed results, and errors with their reason."""
    module("desk_seams", SEAMS)
    await asyncio.to_thread(put, stage, "desk.search", "desk.study")
    async with Client(serve_seams("desk", ["desk.search", "desk.study"])) as client:
        search, study = (await client.list_tools()).tools
        assert (search.name, search.description) == ("desk.search", "Search the desk.")
        assert list(search.input_schema["properties"]) == ["query", "limit"]
        assert search.input_schema["required"] == ["query"]
        assert "Hit" in search.output_schema["$defs"]
        assert search.annotations == ToolAnnotations(read_only_hint=True, idempotent_hint=True)
        assert study.annotations == ToolAnnotations(read_only_hint=False, idempotent_hint=True)

        with shim.correlate(user="alice"):
            found = await client.call_tool("desk.search", {"query": "bees", "limit": 1})
            studied = await client.call_tool("desk.study", {"topic": "bees"})
            failed = await client.call_tool("desk.study", {"topic": "nothing"})
            wrong = await client.call_tool("desk.search", {"query": "bees", "limit": "many"})
            gone = await client.call_tool("desk.gone")
        assert found.structured_content == {"result": [{"title": "bees 0", "rank": 1.0}]}
        assert studied.structured_content == {"result": "BEES"}
        assert failed.is_error
        assert "LookupError: no such topic" in failed.content[0].text
        assert gone.is_error
        assert "desk.gone" in gone.content[0].text
        assert wrong.is_error
        assert "limit" in wrong.content[0].text


@contextlib.asynccontextmanager
async def serving(folder: Path, environment: dict[str, str], way: str) -> AsyncIterator[Any]:
    """``crossfade mcp serve`` as a user starts it, and what the SDK's client takes to reach it."""
    command = [sys.executable, "-m", "crossfade", "mcp", "serve", "desk_seams"]
    if way == "stdio":
        yield StdioServerParameters(command=command[0], args=command[1:], env=environment, cwd=folder)
        return
    process = await asyncio.create_subprocess_exec(
        *command, "--http", "127.0.0.1:0", cwd=folder, env=environment, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        said = (await asyncio.wait_for(process.stdout.readline(), 30)).decode()
        yield said.split(" at ")[1].split(". ")[0]
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 30) in (0, 130)


@pytest.mark.parametrize("way", ["stdio", "http"])
async def test_the_command_serves_and_a_client_that_cancels_cancels_the_task(put, module, tmp_path, nats_server, way):
    """The CLI over both transports: tools, progress from a worker elsewhere, and a cancel that reaches its handler."""
    module("desk_seams", SEAMS)
    connected = await asyncio.to_thread(put, "bus", "desk.search", "desk.study")
    environment = {**os.environ, "CROSSFADE_BUS": nats_server.url}
    (tmp_path / "crossfade.toml").write_text(
        f'prefix = "{connected.runtime.config.prefix}"\n[seams."desk.search"]\nstage = "bus"\n'
        '[seams."desk.study"]\nstage = "bus"\n'
    )
    async with serving(tmp_path, environment, way) as reached, Client(reached) as client:
        found = await client.call_tool("desk.search", {"query": "bees", "limit": 1})
        assert found.structured_content == {"result": [{"title": "bees 0", "rank": 1.0}]}

        begun = asyncio.Event()

        async def hear(*_: object) -> None:
            begun.set()

        endless = asyncio.create_task(client.call_tool("desk.study", {"topic": "forever"}, progress_callback=hear))
        await asyncio.wait_for(begun.wait(), 20)
        endless.cancel()
        with pytest.raises(asyncio.CancelledError):
            await endless

        def stopped() -> bool:
            told = [kit.payload(each) for each in kit.read(connected, "{p}ui.>") if each.type == "agent.task.progress"]
            return any(each.get("message") == "stopped" for each in told)

        await asyncio.to_thread(kit.until, stopped, what="the handler was not cancelled")
        again, said = await progress_of(client, "desk.study", {"topic": "bees"})
        assert again.structured_content == {"result": "BEES"}
        assert said == [(0.25, 1, "step 1"), (0.5, 1, "step 2"), (0.75, 1, "step 3")]


async def test_what_a_worker_would_not_take_is_an_error_of_the_tool(put):
    """A worker of another version: the client reads the reason, and the server goes on."""

    @shim.tool("mcp_drift.lend", effects="none", fallback="raise")
    def newer(title: str) -> str:
        return title

    await asyncio.to_thread(put, "bus", "mcp_drift.lend", fallback="raise")
    registry.drop(registry.get("mcp_drift.lend"))

    @shim.tool("mcp_drift.lend", effects="none", fallback="raise")
    def lend(book: str) -> str:
        return book

    await asyncio.to_thread(kit.until, lambda: registry.get("mcp_drift.lend").route)
    async with Client(serve_seams("desk", ["mcp_drift.lend"])) as client:
        for _ in range(2):
            refused = await client.call_tool("mcp_drift.lend", {"book": "Emma"})
            assert refused.is_error
            assert "NotExecutedError: mcp_drift.lend was not executed: arguments" in refused.content[0].text


def test_what_cannot_be_served_is_refused_at_start():
    """An unknown seam, a stream, and an address that others can reach."""

    @shim.tool("mcp.stream", effects="none")
    def stream(n: int):
        yield n

    with pytest.raises(UnknownSeamError, match="no seam"):
        serve_seams("x", ["mcp.nothing"])
    with pytest.raises(SeamDefinitionError, match="stream"):
        serve_seams("x", ["mcp.stream"])
    for address in ("0.0.0.0:8000", "example.org:8000", "127.0.0.1", "127.0.0.1:http"):
        with pytest.raises(ConfigurationError, match="on this machine"):
            asyncio.run(serve_http(serve_seams("x", []), address, ready=print))


def test_the_sdk_serves_no_tasks():
    """As the page on MCP says; once this fails, a call of a seam, which is a task already, can be one of MCP's."""
    from mcp_types.methods import SPEC_CLIENT_METHODS

    assert "tools/call" in SPEC_CLIENT_METHODS
    assert [method for method in SPEC_CLIENT_METHODS if method.startswith("tasks/")] == []
