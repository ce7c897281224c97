"""What a decorated function becomes: itself, plus one branch.

wrapt keeps signature, type, documentation and inspection intact, but its wrappers can be neither pickled nor
copied (measured with 2.5.2); both are mended here, because spawn pools and agent frameworks do it.
"""

from __future__ import annotations

import copy
import functools
import importlib
import logging
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast

import wrapt

from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .seam import Seam

P = ParamSpec("P")
R = TypeVar("R")

_log = logging.getLogger("crossfade")


class SeamMethod(wrapt.BoundFunctionWrapper[P, R]):
    """A seam looked up on an instance or a class: copied and pickled as the plain method would be."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        wrapped: Any = self.__wrapped__
        if self._self_instance is None:
            return _named, (wrapped.__module__, wrapped.__qualname__)
        return getattr, (self._self_instance, wrapped.__name__)

    def __copy__(self) -> SeamMethod[P, R]:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        wrapped: Any = self.__wrapped__
        if self._self_instance is None:
            return self
        return getattr(copy.deepcopy(self._self_instance, memo), wrapped.__name__)


def _named(module: str, qualname: str) -> Any:
    """What ``qualname`` names, which pickle finds for functions only when it is the very same object."""
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


class SeamFunction(wrapt.FunctionWrapper[P, R]):
    """A function declared as a seam. ``__crossfade_seam__`` is its ``Seam``."""

    # Not annotated: a class's own __annotations__ would hide the function's.
    __bound_function_wrapper__ = cast("Any", SeamMethod)

    def __init__(self, seam: Seam, function: Callable[P, R]) -> None:
        super().__init__(function, _async_branch(seam) if seam.is_async else _branch(seam))
        self._self_seam = seam

    @property
    def __crossfade_seam__(self) -> Seam:
        return self._self_seam

    def __reduce_ex__(self, protocol: Any) -> str:
        """By name, as plain functions are pickled."""
        wrapped: Any = self.__wrapped__
        name: str = wrapped.__qualname__
        return name

    def __copy__(self) -> SeamFunction[P, R]:
        return self

    def __deepcopy__(self, memo: Any) -> SeamFunction[P, R]:
        return self


def _branch(seam: Seam) -> Callable[..., Any]:
    def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        route = seam.route
        if route is None:
            return wrapped(*args, **kwargs)
        if instance is not None:
            _stay(seam)
            return wrapped(*args, **kwargs)
        return route.call(seam, args, kwargs)

    return wrapper


def _async_branch(seam: Seam) -> Callable[..., Any]:
    def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        route = seam.route
        if route is None:
            return wrapped(*args, **kwargs)
        if instance is not None:
            _stay(seam)
            return wrapped(*args, **kwargs)
        return route.acall(seam, args, kwargs)

    return wrapper


_stayed: set[str] = set()


def _stay(seam: Seam) -> None:
    """Count it, and say once, that a method cannot be diverted: ``self`` never crosses the bus."""
    report.count("skipped", seam=seam.name, reason="method")
    if seam.name not in _stayed:
        _stayed.add(seam.name)
        _log.warning(
            "seam %s is a method (%s): its calls stay legacy, because self cannot cross", seam.name, seam.place
        )
