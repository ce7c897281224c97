"""A client session whose tool calls are seams.

The call site has a live session, and a worker opens one of its own for each call; that is the only thing about an MCP
client that can be somewhere else.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import threading
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol, cast

from mcp import MCPError
from mcp.types import CallToolResult, ErrorData

from crossfade import shim
from crossfade.shim.errors import SeamDefinitionError
from crossfade.shim.hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractAsyncContextManager
    from typing import Unpack

    from mcp.types import ListToolsResult, Tool, ToolAnnotations

    from crossfade.adapters._options import SeamOptions
    from crossfade.shim.policy import Effects
    from crossfade.shim.seam import Seam


_log = logging.getLogger("crossfade")


class ToolSession(Protocol):
    """What of the SDK's ``Client`` and ``ClientSession`` is used here."""

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None, /) -> Any:
        """Call a tool."""
        ...

    async def list_tools(self) -> ListToolsResult:
        """The tools of the server, or the first page of them."""
        ...


class RemoteTools:
    """The tools of one MCP server, each of them a seam named ``mcp.SERVER.TOOL``.

    ``connect`` opens a session for a worker, like ``lambda: Client("http://127.0.0.1:8000/mcp")``; a session is opened
    for each call. ``effects_of`` says what repeating a tool does, by its name, ``effects`` in ``options`` what
    repeating any other does; without it the server's own annotations are believed: ``readOnlyHint`` is ``none``,
    ``idempotentHint`` is ``idempotent``, all else ``unsafe``. ``options`` are those of ``crossfade.shim.tool``.

    Make it in a module that workers import, and call ``discover`` there, so that they know the tools.
    """

    def __init__(
        self,
        server: str,
        connect: Callable[[], AbstractAsyncContextManager[ToolSession]],
        *,
        effects_of: Mapping[str, Effects] | None = None,
        **options: Unpack[SeamOptions],
    ) -> None:
        self._server = server
        self._connect = connect
        self._effects: dict[str, Effects] = dict(effects_of or {})
        self._options = options
        self._seams: dict[str, Seam] = {}
        self._left_out: set[str] = set()
        for tool, known in self._effects.items():
            self._declare(tool, known)

    def discover(self) -> list[Tool]:
        """Ask the server for its tools and declare them all; for the top of a module, outside of any running loop."""
        found: list[Tool] = []
        failed: list[BaseException] = []

        async def ask() -> None:
            async with self._connect() as session:
                await _every_page(session, found)

        def run() -> None:
            try:
                asyncio.run(ask())
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=run, name=f"asking {self._server} for its tools")  # a loop may run in ours
        thread.start()
        thread.join()
        if failed:
            raise failed[0]
        self.declare(*found)
        return found

    def declare(self, *tools: Tool) -> None:
        """Make seams of ``tools``, as ``list_tools`` gives them; what is a seam already stays as it is."""
        for tool in tools:
            if tool.name in self._left_out:
                continue
            try:
                self._declare(tool.name, _effects(tool.annotations))
            except SeamDefinitionError as error:  # a name that is another tool's: its neighbours are no worse for it
                self._left_out.add(tool.name)
                report.count("skipped", seam=f"mcp.{_token(self._server)}", reason="tool-name")
                _log.warning("the tool %r of %s is no seam: %s", tool.name, self._server, error)

    def wrap(self, session: ToolSession) -> SeamSession:
        """``session``, a ``Client`` or ``ClientSession`` of this server, with tool calls that are seams."""
        return SeamSession(self, session)

    def seam(self, tool: str) -> Seam | None:
        """The seam of ``tool``, where it has been declared."""
        return self._seams.get(tool)

    def knows(self, tool: str) -> bool:
        """Whether ``tool`` was seen, even where it could not be a seam."""
        return tool in self._seams or tool in self._left_out

    def _declare(self, tool: str, effects: Effects) -> Seam:
        if (known := self._seams.get(tool)) is not None:
            return known
        name = f"mcp.{_token(self._server)}.{_token(tool)}"
        options = self._options.copy()
        known_here: Effects | None = self._effects.get(tool)
        options["effects"] = known_here or options.get("effects", effects)
        declared: Any = shim.tool(name, **options)(self._body(tool))
        self._seams[tool] = declared.__crossfade_seam__
        return self._seams[tool]

    def _body(self, tool: str) -> Callable[..., Any]:
        connect = self._connect

        async def call(arguments: dict[str, Any] | None = None) -> CallToolResult:
            async with connect() as session:
                try:
                    options = {"progress_callback": _pass_progress_on}
                    return cast("CallToolResult", await _called(session.call_tool, tool, arguments, options))
                except Exception as error:  # raised in there, the session would make a group of it
                    failed = _ProtocolError(*error.args) if isinstance(error, MCPError) else error
            raise failed

        whose = f"{self._server}/{tool}"  # which of two that are spelled alike as seams
        call.__qualname__ = f"{_token(tool)}_{sha256(whose.encode()).hexdigest()[:8]}"
        return call


class SeamSession:
    """A session of the SDK, with tool calls that take their seams' routes; all else is the session's own."""

    def __init__(self, tools: RemoteTools, session: ToolSession) -> None:
        self._tools = tools
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    async def list_tools(self, *args: Any, **kwargs: Any) -> ListToolsResult:
        """As the session's; each tool is a seam from now on."""
        listed = cast("ListToolsResult", await cast("Any", self._session).list_tools(*args, **kwargs))
        self._tools.declare(*listed.tools)
        return listed

    async def call_tool(self, name: str, arguments: dict[str, Any] | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the session's. On the bus a worker's session makes the call, and ``progress_callback`` hears nothing.

        A tool that is no seam yet is looked for by ``list_tools``; one that the server does not list is its own matter.
        """
        if not self._tools.knows(name):
            await self.list_tools()
        seam = self._tools.seam(name)
        if seam is None or (route := seam.route) is None:
            return await cast("Any", self._session).call_tool(name, arguments, *args, **kwargs)
        live = functools.partial(_called, self._session.call_tool, name, rest=args, options=kwargs)
        return await route.acall(seam, live, (arguments,), {})


async def _called(
    call_tool: Callable[..., Any],
    tool: str,
    arguments: dict[str, Any] | None,
    options: Mapping[str, Any],
    rest: tuple[Any, ...] = (),
) -> Any:
    return await call_tool(tool, arguments, *rest, **options)


async def _pass_progress_on(progress: float, total: float | None, message: str | None) -> None:
    """The progress of a tool that runs elsewhere is that of the call here."""
    share = progress / total if total and 0 <= progress <= total else None
    shim.report_progress(share, message or "", None if share is not None else {"progress": progress})


async def _every_page(session: Any, found: list[Tool]) -> None:
    page: ListToolsResult = await session.list_tools()
    found.extend(page.tools)
    while page.next_cursor:
        page = await session.list_tools(cursor=page.next_cursor)
        found.extend(page.tools)


def _effects(annotations: ToolAnnotations | None) -> Effects:
    if annotations is not None and annotations.read_only_hint:
        return "none"
    return "idempotent" if annotations is not None and annotations.idempotent_hint else "unsafe"


def _token(name: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", name.lower())


class _ProtocolError(MCPError):
    """An ``MCPError`` that is made of its arguments alone, so that it can travel; told by the name of the SDK's own."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        Exception.__init__(self, code, message, data)

    def __getattr__(self, name: str) -> Any:
        if name != "error":
            raise AttributeError(name)
        code, message, data = self.args
        return ErrorData(code=code, message=message, data=data)


_ProtocolError.__module__, _ProtocolError.__qualname__ = MCPError.__module__, MCPError.__qualname__
shim.register_error(_ProtocolError)
