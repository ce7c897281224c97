"""A LangGraph graph as an agent: its steps are progress, its interrupts ask people, its thread is the call."""

from __future__ import annotations

import contextlib
import inspect
import typing
import uuid
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast, overload

from langgraph.types import Command

from crossfade import shim
from crossfade.shim.answers import ask, settle

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from typing import Unpack

    from langgraph.pregel import Pregel

    from crossfade.adapters._options import SeamOptions
    from crossfade.shim.callsites import CallSite

    Graph = Pregel[Any, Any, Any, Any] | Callable[[], AbstractAsyncContextManager[Pregel[Any, Any, Any, Any]]]

P = ParamSpec("P")
T = TypeVar("T")


@overload
def graph_agent(
    name: str, graph: Graph, *, input: Callable[P, Any], output: Callable[[Any], T], **options: Unpack[SeamOptions]
) -> CallSite[P, Coroutine[Any, Any, T], T]: ...
@overload
def graph_agent(
    name: str, graph: Graph, *, input: Callable[P, Any], **options: Unpack[SeamOptions]
) -> CallSite[P, Coroutine[Any, Any, dict[str, Any]], dict[str, Any]]: ...
@overload
def graph_agent(
    name: str, graph: Graph, **options: Unpack[SeamOptions]
) -> CallSite[[dict[str, Any]], Coroutine[Any, Any, dict[str, Any]], dict[str, Any]]: ...
def graph_agent(
    name: str,
    graph: Graph,
    *,
    input: Callable[..., Any] | None = None,  # noqa: A002 - LangGraph's own word
    output: Callable[[Any], Any] | None = None,
    **options: Unpack[SeamOptions],
) -> Any:
    """The agent ``name``: a coroutine function that runs ``graph``, and can be submitted.

    ``graph`` is a compiled one, or a function whose async context manager makes one for each call, for checkpointers
    that live in a loop. ``input`` makes the graph's input of the call's arguments, whose names and types are the
    agent's; ``output`` makes the result of the last state, by its own return type. Without them a dict goes in and the
    state comes out, as JSON has it. ``options`` are those of ``crossfade.shim.agent``.

    Each node that has run is told as progress, and so is what the graph writes to its stream. With a checkpointer the
    thread is the call's id: a call that is delivered again goes on where it was, and an interrupt waits for
    ``crossfade.shim.answers.answer``. Declare such an agent ``idempotent``: only the step that a crash hit runs again.
    """
    taken, returned = input or _as_given, output or _as_it_is

    async def run(*args: Any, **kwargs: Any) -> Any:
        async with _opened(graph) as opened:
            return returned(await _Run(opened).to_end(taken(*args, **kwargs)))

    function: Any = run
    function.__module__, function.__doc__ = taken.__module__, taken.__doc__
    function.__name__ = function.__qualname__ = name.replace(".", "_")
    signature = inspect.signature(taken)
    hints = typing.get_type_hints(taken, include_extras=True)
    hints["return"] = typing.get_type_hints(returned, include_extras=True).get("return", Any)
    function.__signature__ = signature.replace(return_annotation=hints["return"])
    function.__annotations__ = hints
    return shim.agent(name, **options)(function)


def _as_given(state: dict[str, Any]) -> Any:
    return state


def _as_it_is(state: Any) -> dict[str, Any]:
    return dict(state)


@contextlib.asynccontextmanager
async def _opened(graph: Any) -> AsyncGenerator[Any]:
    if hasattr(graph, "astream"):
        yield graph
        return
    async with graph() as opened:
        yield opened


class _Run:
    """One call's way through a graph."""

    def __init__(self, graph: Any) -> None:
        call = shim.current_call()
        thread = call.callid if call else uuid.uuid4().hex
        self._graph = graph
        self._config = {"configurable": {"thread_id": f"{thread}-shadow" if call and call.shadow else thread}}
        self._lasts = bool(graph.checkpointer)
        self._values: Any = {}

    async def to_end(self, given: Any) -> Any:
        """The last state; from where an earlier delivery of this call got to, if there was one."""
        state: Any = await self._graph.aget_state(self._config) if self._lasts else None
        if state is None or state.created_at is None:
            state = await self._stream(given)
        elif state.next and not state.interrupts:
            state = await self._stream(None)
        while state is not None and state.interrupts:
            questions = {each.id: each.value for each in state.interrupts}
            state = await self._stream(Command(resume=await ask(questions)))
            await settle(questions)
        return self._values if state is None else state.values

    async def _stream(self, step: Any) -> Any:
        """Run until the graph ends or asks; the state then, where it is kept."""
        async for mode, part in self._graph.astream(step, self._config, stream_mode=["updates", "custom", "values"]):
            if mode == "values":
                self._values = part
            elif mode == "custom":
                _tell(part)
            else:
                for node in part.keys() - {"__interrupt__"}:
                    shim.report_progress(None, str(node), {"status": "working", "node": str(node)})
        return await self._graph.aget_state(self._config) if self._lasts else None


def _tell(written: Any) -> None:
    """What a node wrote: a text, or ``{"fraction": ..., "message": ...}``, or data of its own."""
    if isinstance(written, str):
        shim.report_progress(None, written)
    elif isinstance(written, dict) and written.keys() <= {"fraction", "message", "data"}:
        shim.report_progress(**cast("dict[str, Any]", written))
    else:
        shim.report_progress(None, "", written)
