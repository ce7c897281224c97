"""A LangChain tool as a seam: a copy of the tool whose runs take the seam's route.

What LangChain does around a run (validation, callbacks, handling of errors, the message with its artifact) stays with
the caller; validated arguments and the run's own outcome cross the bus. What is live (``config``, ``run_manager``,
``callbacks``) reaches the body where it runs in the caller's process, and is absent at a worker.
"""

from __future__ import annotations

import functools
import inspect
import typing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, Tool, ToolException
from pydantic import BaseModel

from crossfade import shim
from crossfade.adapters._toolcalls import ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from crossfade.adapters._options import SeamOptions
    from crossfade.shim.seam import Seam

T = TypeVar("T", bound=BaseTool)

_LIVE: Final = ("run_manager", "callbacks")
_CONFIGS: Final = (RunnableConfig, typing.Optional[RunnableConfig])  # noqa: UP045 - how it is compared
_asked: ContextVar[str] = ContextVar(
    "crossfade_tool_call", default=""
)  # the tool call that runs here, if it has a name

shim.register_error(ToolException)  # so that ``handle_tool_error`` sees it, whichever side raised it


def seam_tool(name: str, tool: T, **options: Unpack[SeamOptions]) -> T:
    """A copy of ``tool`` that is the seam ``name``; hand it to models and agents in the tool's place.

    ``options`` are those of ``crossfade.shim.tool``. Inside a run, a call made for a model's tool call is one call
    however often it is repeated (an agent that was redelivered): its key is the run, the graph's thread, the tool
    call's id and the arguments. Not where ``effects`` is ``"none"``: a read is better repeated.

    Raises ``SeamDefinitionError`` for a name that is no seam name, or one that is declared twice.
    """
    declared: Any = shim.tool(name, **options)(_body(tool))
    copy = tool.model_copy()
    object.__setattr__(copy, "__class__", _diverted(type(tool), declared.__crossfade_seam__, is_async=_is_async(tool)))
    return copy


# -- the call site -----------------------------------------------------------------------------------------------------


def _diverted(cls: type[T], seam: Seam, *, is_async: bool) -> type[T]:
    """``cls`` with its runs taking the seam's route, looking like ``cls`` to whoever looks at signatures."""
    original = _of(cls)

    @functools.wraps(original._run)
    def _run(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        body = functools.partial(original._run, self)
        if (route := seam.route) is None:
            return body(*args, **kwargs)
        live, sent = _apart(self, kwargs)
        with ToolCall(seam, _asked.get(), args, sent) as keyed:
            return route.call(seam, keyed.without(functools.partial(body, **live)), args, sent)

    @functools.wraps(original._arun)
    async def _arun(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        body = functools.partial(original._arun, self)
        if (route := seam.route) is None:
            return await body(*args, **kwargs)
        live, sent = _apart(self, kwargs)
        with ToolCall(seam, _asked.get(), args, sent) as keyed:
            return await route.acall(seam, keyed.awithout(functools.partial(body, **live)), args, sent)

    @functools.wraps(original.run)
    def run(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        token = _asked.set(_asked_by(kwargs))
        try:
            return original.run(self, *args, **kwargs)
        finally:
            _asked.reset(token)

    @functools.wraps(original.arun)
    async def arun(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        token = _asked.set(_asked_by(kwargs))
        try:
            return await original.arun(self, *args, **kwargs)
        finally:
            _asked.reset(token)

    members: dict[str, Any] = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    members |= {"_run": _run, "run": run, "arun": arun}
    if is_async:  # else LangChain runs the plain one in a thread, if it finds its own ``_arun`` here
        members["_arun"] = _arun
    return cast("type[T]", type(cls.__name__, (cls,), members))


def _apart(tool: BaseTool, kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What belongs to this process, and what are the tool's arguments."""
    live = {name for name in kwargs if name in _LIVE or name == _config_name(_of(type(tool))._run)}
    return {name: kwargs[name] for name in live}, {name: value for name, value in kwargs.items() if name not in live}


def _asked_by(given: Mapping[str, Any]) -> str:
    """The tool call a run is made for, by its id and the graph's thread; empty where there is none."""
    call = given.get("tool_call_id")
    config: Mapping[str, Any] = given.get("config") or {}
    return f"{config.get('configurable', {}).get('thread_id', '')}/{call}" if call else ""


# -- the body, as a worker runs it -------------------------------------------------------------------------------------


def _body(tool: BaseTool) -> Callable[..., Any]:
    """A function of the tool's arguments that runs it as written, with nothing live around."""
    signature, single, inner = _signature(tool), isinstance(tool, Tool), _of(tool)

    def given(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        bound = signature.bind(*args, **kwargs).arguments
        return (tuple(bound.values()), {}) if single else ((), dict(bound))

    def run(*args: Any, **kwargs: Any) -> Any:
        positional, named = given(args, kwargs)
        return inner._run(*positional, **_unlive(inner._run), **named)

    async def arun(*args: Any, **kwargs: Any) -> Any:
        positional, named = given(args, kwargs)
        return await inner._arun(*positional, **_unlive(inner._arun), **named)

    function: Any = arun if _is_async(tool) else run
    written = _written(tool)
    function.__module__, function.__doc__ = written.__module__, tool.description
    function.__name__ = function.__qualname__ = written.__name__
    function.__signature__ = signature
    function.__annotations__ = {each.name: each.annotation for each in signature.parameters.values()}
    function.__annotations__["return"] = signature.return_annotation
    return cast("Callable[..., Any]", function)


def _is_async(tool: BaseTool) -> bool:
    """Whether the tool has an asynchronous side of its own."""
    if isinstance(tool, StructuredTool | Tool):
        return tool.coroutine is not None
    return _of(type(tool))._arun is not _of(BaseTool)._arun


def _written(tool: BaseTool) -> Any:
    """The function or class that somebody wrote."""
    if isinstance(tool, StructuredTool | Tool):
        found = tool.coroutine or tool.func
        return found if inspect.isfunction(found) else type(tool)
    return type(tool)


def _signature(tool: BaseTool) -> inspect.Signature:
    """The tool's validated arguments, required ones first, and what its function says it returns."""
    parameters = [
        inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default, annotation=annotation)
        for name, (annotation, default) in _arguments(tool).items()
    ]
    parameters.sort(key=lambda each: each.default is not each.empty)
    return inspect.Signature(parameters, return_annotation=_returned(tool))


def _arguments(tool: BaseTool) -> dict[str, tuple[Any, Any]]:
    """Annotation and default of each argument; a default of ``empty`` means required."""
    schema: Any = tool.args_schema or (None if isinstance(tool, Tool) else tool.get_input_schema())
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return {
            name: (each.annotation, inspect.Parameter.empty if each.is_required() else each.default)
            for name, each in schema.model_fields.items()
        }
    required = set(cast("dict[str, Any]", schema).get("required", ()) if isinstance(schema, dict) else tool.args)
    return {name: (Any, inspect.Parameter.empty if name in required else None) for name in tool.args}


def _returned(tool: BaseTool) -> Any:
    run: Any = _of(type(tool))._arun if _is_async(tool) else _of(type(tool))._run
    if isinstance(tool, StructuredTool | Tool):
        run = tool.coroutine or tool.func
    try:
        hint: Any = typing.get_type_hints(run, include_extras=True).get("return", Any)
    except (NameError, TypeError):  # names that only a type checker sees: as without annotations
        hint = Any
    if tool.response_format == "content_and_artifact" and hint in (Any, tuple):
        return tuple[Any, Any]
    return hint


def _of(tool: BaseTool | type[BaseTool]) -> Any:
    """``tool``, whose ``_run`` is for tools to write, and protected to a type checker."""
    return tool


def _unlive(run: Callable[..., Any]) -> dict[str, Any]:
    """What ``run`` insists on that exists only at the caller."""
    name = _config_name(run)
    return {name: RunnableConfig()} if name else {}


@functools.cache
def _config_name(run: Callable[..., Any]) -> str | None:
    """The parameter that takes the ``RunnableConfig``, by its type."""
    try:
        hints: Mapping[str, Any] = typing.get_type_hints(inspect.unwrap(run))
    except (NameError, TypeError):
        return None
    return next((name for name, hint in hints.items() if hint in _CONFIGS), None)
