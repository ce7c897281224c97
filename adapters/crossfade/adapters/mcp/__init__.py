"""MCP both ways: a session's tool calls as seams, and seams as the tools of a server.

library = RemoteTools("library", lambda: Client("http://127.0.0.1:8000/mcp"))   # in a module that workers import
session = library.wrap(client)                                                   # in the place of the client

server = serve_seams("desk", ["desk.search", "desk.order"])                      # an ``MCPServer`` of the SDK
"""

from __future__ import annotations

from crossfade.shim.errors import MissingExtraError

try:
    import mcp as _  # noqa: F401 - asked before ours, whose errors are not for want of an extra
except ImportError as error:
    raise MissingExtraError("mcp", needed_for="crossfade.adapters.mcp") from error

from ._client import RemoteTools, SeamSession
from ._server import serve_seams

__all__ = ["RemoteTools", "SeamSession", "serve_seams"]
