"""Seams as the tools of an MCP server.

Each call is a task: its progress becomes MCP's progress notifications, and a client that cancels cancels the task.
"""

from __future__ import annotations

import asyncio
import inspect
import typing
from typing import TYPE_CHECKING, Any, cast

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

from crossfade import shim
from crossfade.shim.errors import BusError, ConfigurationError, SeamDefinitionError
from crossfade.shim.hooks import report
from crossfade.shim.outcomes import type_name
from crossfade.shim.seam import registry
from crossfade.shim.tasks import asubmit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from crossfade.shim.handles import TaskHandle
    from crossfade.shim.seam import Seam

_CONTEXT = "mcp_context"  # the parameter that the SDK fills in and clients do not see


def serve_seams(name: str, seams: Iterable[str], **options: Any) -> MCPServer[Any]:
    """An MCP server called ``name`` whose tools are ``seams``, by their names; ``options`` are ``MCPServer``'s.

    Input and output schemas come from each seam's signature, the description from its documentation, the hints from its
    effects. Who may call it is the business of whoever runs the server.

    Raises ``UnknownSeamError``, and ``SeamDefinitionError`` for a seam that cannot be a tool: a stream, a method, or a
    signature without a JSON form.
    """
    server: MCPServer[Any] = MCPServer(name, **options)
    for each in seams:
        seam = registry.get(each)
        server.add_tool(
            _tool(seam),
            name=seam.name,
            description=inspect.getdoc(seam.function) or "",
            annotations=_annotations(seam),
        )
    return server


def _annotations(seam: Seam) -> ToolAnnotations:
    effects = seam.policy.effects
    return ToolAnnotations(read_only_hint=effects == "none", idempotent_hint=effects in ("none", "idempotent"))


def _tool(seam: Seam) -> Callable[..., Any]:
    """A function with the seam's parameters and one more for the SDK's context."""
    if seam.streams or seam.binding != "none":
        raise SeamDefinitionError(
            f"seam {seam.name!r} cannot be an MCP tool, being a stream or a method: name the others"
        )
    hints = _hints(seam)

    async def run(**given: Any) -> Any:
        context = cast("Context[Any, Any]", given.pop(_CONTEXT))
        with _correlated(context):
            return await _run(seam, given, context)

    parameters = [
        each.replace(kind=each.KEYWORD_ONLY, annotation=hints.get(each.name, Any))
        for each in inspect.signature(seam.function).parameters.values()
    ]
    extra = inspect.Parameter(_CONTEXT, inspect.Parameter.KEYWORD_ONLY, annotation=Context)
    function: Any = run
    function.__name__ = function.__qualname__ = seam.name.replace(".", "_")
    function.__signature__ = inspect.Signature([*parameters, extra], return_annotation=hints.get("return", Any))
    function.__annotations__ = {**hints, _CONTEXT: Context}
    return cast("Callable[..., Any]", function)


def _hints(seam: Seam) -> dict[str, Any]:
    _ = seam.codec  # says what is wrong with a signature that cannot travel
    return typing.get_type_hints(seam.function, include_extras=True)


def _correlated(context: Context[Any, Any]) -> AbstractContextManager[Any]:
    """The client's trace, where its request carries one."""
    meta = cast("Mapping[str, Any]", context.request_context.meta or {})
    traceparent, tracestate = meta.get("traceparent"), meta.get("tracestate")
    return shim.correlate(
        traceparent=traceparent if isinstance(traceparent, str) else None,
        tracestate=tracestate if isinstance(tracestate, str) else None,
    )


async def _run(seam: Seam, arguments: dict[str, Any], context: Context[Any, Any]) -> Any:
    task: TaskHandle[Any] = await asubmit(seam, seam.function, (), arguments)
    meta = cast("Mapping[str, Any]", context.request_context.meta or {})
    telling = asyncio.create_task(_tell(task, context)) if meta.get("progress_token") is not None else None
    try:
        value = await task.aresult()
        if telling is not None:
            await telling  # what was said before the end is heard before the end
    except asyncio.CancelledError:
        await asyncio.shield(_cancel(seam, task))
        raise
    except Exception as error:
        report.count("tool-call-failed", seam=seam.name, reason=type(error).__name__)
        raise ToolError(f"{type_name(type(error))}: {error}") from error
    finally:
        if telling is not None:
            telling.cancel()
    return value


async def _tell(task: TaskHandle[Any], context: Context[Any, Any]) -> None:
    """MCP wants progress that grows: where the seam says no fraction, steps are counted."""
    last = 0.0
    async for said in task.aevents():
        if said.fraction is None:
            last += 1e-6
        elif said.fraction <= last:
            continue
        else:
            last = said.fraction
        await context.report_progress(last, 1.0, said.message or None)


async def _cancel(seam: Seam, task: TaskHandle[Any]) -> None:
    try:
        await task.acancel()
    except BusError as error:
        report.count("cancel-failed", seam=seam.name, reason=type(error).__name__)


async def serve_http(server: MCPServer[Any], address: str, *, ready: Callable[[str], object]) -> None:
    """Serve streamable HTTP at ``address``, ``HOST:PORT``, until SIGTERM or Ctrl-C; ``ready`` is told the URL.

    Raises ``ConfigurationError`` for an address beyond this machine: the protocol has no password of its own.
    """
    import uvicorn  # noqa: PLC0415 - who serves stdio loads no web server

    host, _, port = address.rpartition(":")
    if host not in ("127.0.0.1", "localhost", "[::1]") or not port.isdigit():
        raise ConfigurationError(
            f"{address!r} must be HOST:PORT on this machine, like 127.0.0.1:8000: whoever reaches it may call the "
            "tools, so put something that asks who they are in front of it",
            where="--http",
        )
    app = server.streamable_http_app(host=host.strip("[]"))
    running = uvicorn.Server(uvicorn.Config(app, host=host.strip("[]"), port=int(port), log_level="warning"))
    serving = asyncio.create_task(running.serve())
    while not running.started and not serving.done():  # noqa: ASYNC110 - uvicorn offers no event
        await asyncio.sleep(0.01)
    if running.started:
        bound = running.servers[0].sockets[0].getsockname()[1]
        ready(f"http://{host}:{bound}/mcp")
    await serving
