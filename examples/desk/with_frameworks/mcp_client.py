"""An MCP client that uses the desk's tools: it starts ``crossfade mcp serve desk.tools``, as any client would.

python -m with_frameworks.mcp_client "context managers"
"""

import argparse
import asyncio
import os
import sys
from typing import Any

from mcp import Client, StdioServerParameters

SERVER = StdioServerParameters(
    command=sys.executable,
    args=["-m", "crossfade", "mcp", "serve", "desk.tools", "--seam", "desk.search", "--seam", "desk.report"],
    env=dict(os.environ),
)


async def show_progress(progress: float, total: float | None, message: str | None) -> None:
    """What the server says while a tool runs."""
    print(f"{progress / (total or 1):.0%} {message or ''}", flush=True)


async def run(server: Any, topic: str) -> str:
    """Search for ``topic``, and have a report of what was found written; the report's name."""
    async with Client(server) as client:
        print(", ".join(tool.name for tool in (await client.list_tools()).tools))
        found = await client.call_tool("desk.search", {"query": topic, "limit": 3})
        hits = found.structured_content["result"] if found.structured_content else []
        for hit in hits:
            print(f"{hit['title']}: {hit['summary']}")
        section = {
            "heading": "What was found",
            "paragraphs": [hit["summary"] for hit in hits],
            "sources": [hit["passage_id"] for hit in hits],
        }
        arguments = {"topic": topic, "sections": [section]}
        written = await client.call_tool("desk.report", arguments, progress_callback=show_progress)
        if written.is_error or written.structured_content is None:
            raise SystemExit(f"no report: {written.content}")
        return str(written.structured_content["name"])


def main(arguments: list[str] | None = None) -> None:
    """One topic from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("topic")
    parser.add_argument("--url", help="a server that runs already, like http://127.0.0.1:8000/mcp")
    given = parser.parse_args(arguments)
    print(f"written: {asyncio.run(run(given.url or SERVER, given.topic))}")


if __name__ == "__main__":
    main()
