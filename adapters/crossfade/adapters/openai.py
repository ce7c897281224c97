"""OpenAI-style function tools as seams: a model's tool calls go to functions by name, and answers or errors go back.

    tools = FunctionTools(DEFINITIONS, {"search": search, "order": order})

    answer = client.chat.completions.create(model=..., messages=messages, tools=tools.definitions)
    messages += tools.dispatch(answer.choices[0].message.tool_calls)

Nothing that a model sends raises: a tool that does not exist, arguments that do not fit and errors of the function
become the message that answers the call, for the model to read.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pydantic import ValidationError
from pydantic_core import to_json

from crossfade import shim
from crossfade.shim.errors import MissingExtraError, SeamDefinitionError, UnserialisableError
from crossfade.shim.hooks import report
from crossfade.shim.outcomes import type_name

from ._toolcalls import ToolCall

try:
    from openai.types.chat import ChatCompletionMessageFunctionToolCall
    from openai.types.responses import ResponseFunctionToolCall
except ImportError as error:
    raise MissingExtraError("openai", needed_for="crossfade.adapters.openai") from error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    from crossfade.shim.seam import Route, Seam

    from ._options import SeamOptions

_log = logging.getLogger("crossfade")
_PARALLEL: Final = 8  # calls of one answer that run at once


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """A tool call as the model made it; ``problem``: why it is none that can be dispatched."""

    shape: Literal["chat", "responses"]
    id: str
    name: str
    arguments: str
    problem: str = ""


class FunctionTools:
    """A dispatch map: the definitions that a model gets, and the function, a seam, behind each.

    ``definitions`` are function tools as either API takes them (``{"type": "function", ...}``). ``functions`` are seams
    already, or become ones, named ``prefix.name`` and declared with ``options``, which are those of
    ``crossfade.shim.tool``: then make this in the module that workers import.

    Raises ``SeamDefinitionError`` for a definition without a function, a function without a definition, and a function
    that needs what its definition does not have.
    """

    def __init__(
        self,
        definitions: Iterable[Mapping[str, Any]],
        functions: Mapping[str, Callable[..., Any]],
        *,
        prefix: str = "openai",
        **options: Unpack[SeamOptions],
    ) -> None:
        self.definitions: list[Any] = [dict(each) for each in definitions]
        self._functions = {name: _as_seam(name, each, prefix, options) for name, each in functions.items()}
        defined = {_inner(each)["name"]: _inner(each) for each in self.definitions}
        for name in defined.keys() ^ self._functions.keys():
            missing = "function" if name in defined else "definition"
            raise SeamDefinitionError(f"the tool {name!r} has no {missing}: give both, under one name")
        for name, definition in defined.items():
            _check(name, definition, _seam_of(self._functions[name]))

    def dispatch(self, calls: Iterable[Any] | None) -> list[Any]:
        """Answer each call, side by side, in order: chat completions' ``tool_calls``, or a response's ``output``.

        Calls are the SDK's objects or dicts of their shape; other items of an ``output`` are left out. The answers are
        tool messages, or ``function_call_output`` items, to be sent after the calls. Coroutine functions run in a loop
        of their own each; inside a running loop use ``adispatch``.
        """
        asked = _read_all(calls)
        if len(asked) < 2:
            return [self._answer(each) for each in asked]
        with ThreadPoolExecutor(min(len(asked), _PARALLEL), thread_name_prefix="tool call") as threads:
            running = [threads.submit(contextvars.copy_context().run, self._answer, each) for each in asked]
            return [each.result() for each in running]

    async def adispatch(self, calls: Iterable[Any] | None) -> list[Any]:
        """See ``dispatch``; plain functions run in threads."""
        turns = asyncio.Semaphore(_PARALLEL)

        async def answer(asked: _Asked) -> dict[str, Any]:
            async with turns:
                return await self._aanswer(asked)

        return list(await asyncio.gather(*map(answer, _read_all(calls))))

    def _answer(self, asked: _Asked) -> dict[str, Any]:
        try:
            function, bound = self._prepared(asked)
            value = _call(function, asked.id, bound)
            if inspect.iscoroutine(value):
                value = asyncio.run(value)
            return _message(asked, _text(value))
        except Exception as error:
            return self._failed(asked, error)

    async def _aanswer(self, asked: _Asked) -> dict[str, Any]:
        try:
            function, bound = self._prepared(asked)
            if _seam_of(function).is_async:
                value = await _call(function, asked.id, bound)
            else:
                value = await asyncio.to_thread(_call, function, asked.id, bound)
            return _message(asked, _text(value))
        except Exception as error:
            return self._failed(asked, error)

    def _prepared(self, asked: _Asked) -> tuple[Callable[..., Any], inspect.BoundArguments]:
        """The function and its arguments, of its own types. Raises ``_RefusedError``."""
        if asked.problem:
            raise _RefusedError(asked.problem, reason="shape")
        function = self._functions.get(asked.name)
        if function is None:
            known = ", ".join(sorted(self._functions)) or "none"
            raise _RefusedError(f"there is no tool {asked.name!r}; there are: {known}", reason="unknown-tool")
        return function, _bind(_seam_of(function), asked.arguments)

    def _failed(self, asked: _Asked, error: Exception) -> dict[str, Any]:
        seam = _seam_of(self._functions[asked.name]).name if asked.name in self._functions else "-"
        report.count("tool-call-failed", seam=seam, reason=_reason(error))
        if not isinstance(error, _RefusedError):
            _log.warning("tool %s failed; the model is told", asked.name, exc_info=error)
        told = {"type": _type(error), "message": str(error)}
        return _message(asked, json.dumps({"error": told}, ensure_ascii=False))


class _RefusedError(Exception):
    """The call was not made; ``reason`` is a short token for counters."""

    def __init__(self, message: str, *, reason: str) -> None:
        self.reason = reason
        super().__init__(message)


def _reason(error: Exception) -> str:
    return error.reason if isinstance(error, _RefusedError) else type(error).__name__


def _type(error: Exception) -> str:
    return "refused" if isinstance(error, _RefusedError) else type_name(type(error))


# -- functions ---------------------------------------------------------------------------------------------------------


def _as_seam(name: str, function: Callable[..., Any], prefix: str, options: SeamOptions) -> Callable[..., Any]:
    if hasattr(function, "__crossfade_seam__"):
        return function
    seam = re.sub(r"[^a-z0-9_]", "_", name.lower())
    return cast("Callable[..., Any]", shim.tool(f"{prefix}.{seam}", **options)(function))


def _seam_of(function: Any) -> Seam:
    return cast("Seam", function.__crossfade_seam__)


def _inner(definition: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part with name and parameters, which chat completions nest and responses do not."""
    found = definition.get("function", definition)
    if definition.get("type") != "function" or "name" not in found:
        raise SeamDefinitionError(f"not the definition of a function tool: {dict(definition)!r}")
    return cast("Mapping[str, Any]", found)


def _check(name: str, definition: Mapping[str, Any], seam: Seam) -> None:
    """What the definition lets a model send is what the function takes."""
    schema: Mapping[str, Any] = definition.get("parameters") or {}
    offered: set[str] = set(schema.get("properties") or ())
    parameters = inspect.signature(seam.function).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return
    needed = {each.name for each in parameters.values() if each.default is each.empty}
    for parameter in sorted(offered - parameters.keys()):
        raise SeamDefinitionError(
            f"the tool {name!r} offers {parameter!r}, which {seam.name} ({seam.place}) does not take"
        )
    for parameter in sorted(needed - offered):
        raise SeamDefinitionError(
            f"{seam.name} ({seam.place}) needs {parameter!r}, which the tool {name!r} does not offer"
        )


def _bind(seam: Seam, arguments: str) -> inspect.BoundArguments:
    try:
        given: object = json.loads(arguments or "{}")
    except (ValueError, RecursionError) as error:
        raise _RefusedError(f"the arguments are no JSON: {error}", reason="arguments") from error
    if not isinstance(given, dict):
        raise _RefusedError("the arguments must be one JSON object", reason="arguments")
    values = cast("dict[str, Any]", given)
    signature = inspect.signature(seam.function)
    if not any(each.kind is each.VAR_KEYWORD for each in signature.parameters.values()):
        for name in values.keys() - signature.parameters.keys():
            raise _RefusedError(f"{name}: there is no such argument", reason="arguments")
    codec = seam.codec
    try:
        typed, _ = codec.decode_command(to_json({"arguments": values}))
        for name in codec.secret & values.keys():
            typed |= codec.decode_secret(name, to_json({name: values[name]}))
        return codec.bound(typed)
    except (UnserialisableError, TypeError) as error:
        raise _RefusedError(str(error), reason="arguments") from error


def _call(function: Any, callid: str, bound: inspect.BoundArguments) -> Any:
    """Call the seam as the tool call ``callid``; a coroutine where it is one."""
    seam = _seam_of(function)
    route = seam.route
    if route is None or not seam.has_body or seam.in_class:
        return function(*bound.args, **bound.kwargs)
    if seam.is_async:
        return _acall(route, seam, function.__wrapped__, callid, bound)
    with ToolCall(seam, callid, bound.args, bound.kwargs) as call:
        return route.call(seam, call.without(function.__wrapped__), bound.args, bound.kwargs)


async def _acall(route: Route, seam: Seam, body: Callable[..., Any], callid: str, bound: inspect.BoundArguments) -> Any:
    with ToolCall(seam, callid, bound.args, bound.kwargs) as call:
        return await route.acall(seam, call.awithout(body), bound.args, bound.kwargs)


# -- what models send and get ------------------------------------------------------------------------------------------


def _read_all(calls: Iterable[Any] | None) -> Sequence[_Asked]:
    return [asked for call in calls or () if (asked := _read(call)) is not None]


def _read(call: Any) -> _Asked | None:
    """A tool call of either API, as an object or a dict; ``None`` for what is none, like a response's text."""
    raw: dict[str, Any] = cast("Any", call) if isinstance(call, dict) else call.model_dump()
    if raw.get("type") == "function_call":
        return _checked("responses", raw, raw.get("call_id"), ResponseFunctionToolCall)
    if "function" in raw or raw.get("type") == "custom":
        return _checked("chat", raw, raw.get("id"), ChatCompletionMessageFunctionToolCall)
    return None


def _checked(shape: Literal["chat", "responses"], raw: Mapping[str, Any], id: Any, model: Any) -> _Asked:  # noqa: A002
    try:
        read: Any = model.model_validate(raw)
    except ValidationError as error:
        where = error.errors(include_url=False, include_input=False)[0]
        problem = f"not a call of a function tool: {'.'.join(map(str, where['loc']))}: {where['msg']}"
        return _Asked(shape=shape, id=str(id or ""), name="", arguments="", problem=problem)
    named = read.function if shape == "chat" else read
    return _Asked(shape=shape, id=str(id), name=named.name, arguments=named.arguments)


def _message(asked: _Asked, text: str) -> dict[str, Any]:
    if asked.shape == "chat":
        return {"role": "tool", "tool_call_id": asked.id, "content": text}
    return {"type": "function_call_output", "call_id": asked.id, "output": text}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else to_json(value).decode()
