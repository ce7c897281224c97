"""What the type checkers must infer of the adapters of frameworks; never executed."""
# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false
# mypy: disable-error-code=unused-coroutine

from __future__ import annotations

from typing import TYPE_CHECKING, Any, assert_type

from langchain_core.tools import StructuredTool

from crossfade.adapters.langchain import graph_agent, seam_tool
from crossfade.adapters.mcp import RemoteTools, SeamSession
from crossfade.adapters.openai import FunctionTools
from crossfade.shim import TaskHandle

if TYPE_CHECKING:
    from mcp import Client


def tools(tool: StructuredTool, client: Client) -> None:
    assert_type(seam_tool("a.b", tool, effects="none", timeout=3), StructuredTool)
    seam_tool("a.b", tool, effect="none")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    remote = RemoteTools("library", lambda: client, effects_of={"search": "none"}, stage="observe")
    assert_type(remote.wrap(client), SeamSession)
    RemoteTools("library", lambda: client, effects_of={"search": "never"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    FunctionTools([{"type": "function"}], {"a": print}, effects="idempotent")


def asked(topic: str, *, depth: int = 1) -> dict[str, Any]:
    return {"topic": topic, "depth": depth}


def told(state: Any) -> bytes:
    return bytes(state["report"])


async def agents(graph: Any) -> None:
    research = graph_agent("a.c", graph, input=asked, output=told, effects="idempotent")
    assert_type(await research("bees", depth=2), bytes)
    assert_type(await research.asubmit("bees"), TaskHandle[bytes])
    await research(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await graph_agent("a.d", graph, input=asked)("bees"), dict[str, Any])
    assert_type(await graph_agent("a.e", graph)({"topic": "bees"}), dict[str, Any])
