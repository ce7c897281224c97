"""The tool calls of an MCP session as seams: a worker's session makes them, and this one gets the results.

python mcp_client.py
"""

import asyncio

from mcp import Client
from mcp.server import MCPServer
from served import served

from crossfade.adapters.mcp import RemoteTools

server = MCPServer("library")  # yours is elsewhere: Client("https://...") or a command over stdio


@server.tool()
def search(query: str) -> str:
    """Search the library."""
    return f"all about {query}"


library = RemoteTools("library", lambda: Client(server), effects_of={"search": "none"}, stage="bus")


async def run() -> None:
    """The wrapped session stands in the place of the session."""
    async with Client(server) as client:
        session = library.wrap(client)
        print([tool.name for tool in (await session.list_tools()).tools])
        found = await session.call_tool("search", {"query": "bees"})
        print(found.structured_content)


def main() -> None:
    """See ``run``."""
    asyncio.run(run())


if __name__ == "__main__":
    with served("mcp_client"):
        main()
