"""Seams as the tools of an MCP server, used over stdio and over streamable HTTP by the SDK's own client.

python mcp_server.py
"""

import asyncio
import os
import subprocess
import sys

from mcp import Client, StdioServerParameters
from served import HERE, served

from crossfade import shim

COMMAND = ["-m", "crossfade", "mcp", "serve", "mcp_server"]


@shim.tool("desk.search", effects="none", stage="bus")
def search(query: str, limit: int = 2) -> list[str]:
    """Search the desk."""
    return [f"{query} {n}" for n in range(limit)]


@shim.agent("desk.study", effects="idempotent", stage="bus")
def study(topic: str) -> str:
    """Study a topic, which takes a while."""
    shim.report_progress(0.5, "half way")
    return topic.upper()


async def hear(progress: float, total: float | None, message: str | None) -> None:
    """What the server says while a tool runs."""
    print(f"  {progress / (total or 1):.0%} {message}")


async def use(server: str | StdioServerParameters) -> None:
    """What any MCP client does."""
    async with Client(server) as client:
        print([tool.name for tool in (await client.list_tools()).tools])
        found = await client.call_tool("desk.search", {"query": "bees"})
        print(found.structured_content)
        studied = await client.call_tool("desk.study", {"topic": "bees"}, progress_callback=hear)
        print(studied.structured_content)


def main() -> None:
    """Start the server both ways, and use it."""
    print("stdio:")
    asyncio.run(use(StdioServerParameters(command=sys.executable, args=COMMAND, env=dict(os.environ), cwd=HERE)))
    print("streamable HTTP:")
    command = [sys.executable, *COMMAND, "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - our own
        try:
            url = server.stdout.readline().split(" at ")[1].split(". ")[0] if server.stdout else ""
            asyncio.run(use(url))
        finally:
            server.terminate()


if __name__ == "__main__":
    with served("mcp_server"):
        main()
