"""Every kind of call site by name, and how to call each to its end."""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
from typing import Any

from transparency import kinds

STAGES = ("never connected", "legacy", "observe", "bus")

KINDS = {
    "function": lambda module: module.plain,
    "coroutine function": lambda module: module.coroutine,
    "generator function": lambda module: module.generator,
    "async generator function": lambda module: module.agenerator,
    "overloaded function": lambda module: module.overloaded,
    "wrapped above": lambda module: module.wrapped_above,
    "wrapped below": lambda module: module.wrapped_below,
    "partial": lambda module: functools.partial(module.plain, times=3),
    "method": lambda module: module.Service(1).method,
    "coroutine method": lambda module: module.Service(1).amethod,
    "generator method": lambda module: module.Service(1).gmethod,
    "method of a class": lambda module: functools.partial(module.Service.method, module.Service(1)),
    "classmethod inside": lambda module: module.Service.class_inside,
    "classmethod outside": lambda module: module.Service.class_outside,
    "classmethod of an instance": lambda module: module.Service(1).class_inside,
    "classmethod of an heir": lambda module: module.Heir.class_inside,
    "staticmethod inside": lambda module: module.Service.static_inside,
    "staticmethod outside": lambda module: module.Service.static_outside,
    "staticmethod of an instance": lambda module: module.Service(1).static_inside,
    "dataclass method": lambda module: module.Record(1).method,
    "overridden abstract method": lambda module: module.Concrete().method,
}
TWINS = {"decorated": kinds, "plain": kinds.PLAIN}


def twins(kind: str) -> tuple[Any, Any]:
    """The decorated call site of this kind, and the same one plain."""
    return KINDS[kind](kinds), KINDS[kind](kinds.PLAIN)


def outcome(function: Any, *args: Any, **kwargs: Any) -> Any:
    """What a call gives in the end, whatever its kind."""
    returned = function(*args, **kwargs)
    if inspect.isasyncgen(returned):
        return asyncio.run(_collected(returned))
    if inspect.iscoroutine(returned):
        return asyncio.run(returned)
    return list(returned) if inspect.isgenerator(returned) else returned


async def _collected(items: Any) -> list[Any]:
    return [item async for item in items]


def own_names() -> list[str]:
    """The seams of the decorated module."""
    from crossfade.shim.seam import registry

    return [seam.name for seam in registry.all() if seam.function.__module__ == sys.modules[kinds.__name__].__name__]
