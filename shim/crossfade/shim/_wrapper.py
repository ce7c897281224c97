"""What a decorated function becomes: itself, plus one branch.

wrapt keeps signature, type, documentation and inspection intact, but its wrappers can be neither pickled nor
copied (measured with 2.5.2); both are mended here, because spawn pools and agent frameworks do it.
"""

from __future__ import annotations

import copy
import functools
import importlib
from typing import TYPE_CHECKING, Any

import wrapt

from .errors import NotConnectedError
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .handles import TaskHandle
    from .seam import Route, Seam


class SeamMethod(wrapt.BoundFunctionWrapper[..., Any]):
    """A seam looked up on an instance or a class: copied and pickled as the plain method would be."""

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        wrapped: Any = self.__wrapped__
        if (bound_to := self._bound_to()) is None:
            return _named, (wrapped.__module__, wrapped.__qualname__)
        return getattr, (bound_to, wrapped.__name__)

    def __copy__(self) -> SeamMethod:
        return self

    def __deepcopy__(self, memo: Any) -> Any:
        wrapped: Any = self.__wrapped__
        bound_to = self._bound_to()
        return self if bound_to is None else getattr(copy.deepcopy(bound_to, memo), wrapped.__name__)

    def _bound_to(self) -> Any:
        """The instance or class; ``None`` for a static method, whatever it was looked up on."""
        return getattr(self.__wrapped__, "__self__", None)

    def submit(self, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """See ``CallSite.submit``."""
        seam: Seam = self._self_parent.__crossfade_seam__
        return _submit(seam, *self._body(seam, args), kwargs)

    async def asubmit(self, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """See ``CallSite.submit``."""
        seam: Seam = self._self_parent.__crossfade_seam__
        return await _asubmit(seam, *self._body(seam, args), kwargs)

    def _body(self, seam: Seam, args: tuple[Any, ...]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        wrapped: Any = self.__wrapped__
        return (wrapped, args) if self._bound_to() is not None else _bound(seam, wrapped, args)


def _named(module: str, qualname: str) -> Any:
    """What ``qualname`` names, which pickle finds for functions only when it is the very same object."""
    return functools.reduce(getattr, qualname.split("."), importlib.import_module(module))


class SeamFunction(wrapt.FunctionWrapper[..., Any]):
    """A function declared as a seam. ``__crossfade_seam__`` is its ``Seam``.

    The class body must annotate nothing: its ``__annotations__`` would hide the function's own.
    """

    __bound_function_wrapper__ = SeamMethod

    def __init__(self, seam: Seam, function: Callable[..., Any]) -> None:
        super().__init__(function, _branch(seam))
        self._self_seam = seam

    @property
    def __crossfade_seam__(self) -> Seam:
        return self._self_seam

    def submit(self, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """See ``CallSite.submit``."""
        return _submit(self._self_seam, self.__wrapped__, args, kwargs)

    async def asubmit(self, *args: Any, **kwargs: Any) -> TaskHandle[Any]:
        """See ``CallSite.submit``."""
        return await _asubmit(self._self_seam, self.__wrapped__, args, kwargs)

    def __reduce_ex__(self, protocol: Any) -> str:
        """By name, as plain functions are pickled."""
        wrapped: Any = self.__wrapped__
        name: str = wrapped.__qualname__
        return name

    def __copy__(self) -> SeamFunction:
        return self

    def __deepcopy__(self, memo: Any) -> SeamFunction:
        return self


def _branch(seam: Seam) -> Callable[..., Any]:
    """The wrapper of ``seam``'s kind; at legacy it costs one attribute look-up and one comparison."""
    divert = _DIVERT[seam.call_kind]
    if not seam.has_body:
        return _without_body(seam, divert)

    if seam.call_kind == "plain" and not seam.in_class:
        return _of_a_plain_function(seam)

    def wrapper(wrapped: Callable[..., Any], instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        route = seam.route
        if route is None:
            return wrapped(*args, **kwargs)
        if instance is None:
            wrapped, args = _bound(seam, wrapped, args)
        return divert(route, seam, wrapped, args, kwargs)

    return wrapper


def _of_a_plain_function(seam: Seam) -> Callable[..., Any]:
    """The usual kind, without the two calls that only others need: a fifth of what observing takes."""

    def wrapper(wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        route = seam.route
        if route is None:
            return wrapped(*args, **kwargs)
        return route.call(seam, wrapped, args, kwargs)

    return wrapper


def _bound(
    seam: Seam, function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A method called as a function, bound to its first argument, so that what is left are the seam's arguments.

    A property calls it so, and from Python 3.13 on a classmethod that stands outside the seam.
    """
    if args and seam.in_class and seam.binding != "none":
        return functools.partial(function, args[0]), args[1:]
    return function, args


def _without_body(seam: Seam, divert: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(wrapped: Callable[..., Any], _instance: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        route = seam.route
        if route is None:
            report.count("not-connected", seam=seam.name)
            raise NotConnectedError(
                f"{seam.name} is served elsewhere and this process is not connected: call crossfade.shim.connect()",
                callid="-",
            )
        return divert(route, seam, wrapped, args, kwargs)

    return wrapper


def _call(route: Route, seam: Seam, body: Any, args: Any, kwargs: Any) -> Any:
    return route.call(seam, body, args, kwargs)


def _acall(route: Route, seam: Seam, body: Any, args: Any, kwargs: Any) -> Any:
    return route.acall(seam, body, args, kwargs)


def _stream(route: Route, seam: Seam, body: Any, args: Any, kwargs: Any) -> Any:
    return route.stream(seam, body, args, kwargs)


def _astream(route: Route, seam: Seam, body: Any, args: Any, kwargs: Any) -> Any:
    return route.astream(seam, body, args, kwargs)


_DIVERT = {"plain": _call, "coroutine": _acall, "generator": _stream, "async generator": _astream}


def _submit(seam: Seam, body: Callable[..., Any], args: Any, kwargs: Any) -> TaskHandle[Any]:
    from .tasks import submit  # noqa: PLC0415 - `import crossfade.shim` loads no asyncio

    return submit(seam, body, args, kwargs)


async def _asubmit(seam: Seam, body: Callable[..., Any], args: Any, kwargs: Any) -> TaskHandle[Any]:
    from .tasks import asubmit  # noqa: PLC0415 - `import crossfade.shim` loads no asyncio

    return await asubmit(seam, body, args, kwargs)
