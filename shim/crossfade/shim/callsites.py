"""What a decorated function is to a type checker, and nothing at run time: itself, with ``submit``.

wrapt's own stubs lose the parameters of a bound call site's ``submit`` and allow any attribute; this is what
mypy and basedpyright agree on instead (``tests/typing``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar, overload

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from .handles import TaskHandle
    from .seam import Seam

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")
P2 = ParamSpec("P2")
R = TypeVar("R")
R2 = TypeVar("R2")
T2 = TypeVar("T2")
R_co = TypeVar("R_co", covariant=True)
T_co = TypeVar("T_co", covariant=True)


# mypy takes the overloads below, whose own self binds other variables, for a use of these two as parameters.
class CallSite(Protocol[P, R_co, T_co]):  # type: ignore[misc]
    """A seam's call site: parameters ``P``, a call returns ``R_co``, a submitted call's result is ``T_co``.

    For a coroutine function ``R_co`` is the coroutine, ``T_co`` what awaiting it gives; else both are the same.
    """

    __name__: str
    __qualname__: str

    @property
    def __wrapped__(self) -> Callable[P, R_co]:
        """The function as it was written."""
        ...

    @property
    def __crossfade_seam__(self) -> Seam:
        """The seam's declaration."""
        ...

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call it; who answers is the policy's business."""
        ...

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[T_co]:
        """Start a call without waiting for it; the handle has its progress, its result, and can cancel it.

        On the bus the call is durable when this returns: it survives this process. At legacy, observe and shadow
        the body runs in this process, and the handle says ``durable=False``. Raises ``SeamDefinitionError`` for a
        generator function.
        """
        ...

    async def asubmit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[T_co]:
        """See ``submit``."""
        ...

    # A class first: a classmethod is looked up on its class as often as on an instance. mypy does not compare the
    # first parameter of ``self`` here (its own TODO), so it takes a staticmethod for a classmethod; basedpyright does.
    @overload
    def __get__(
        self: CallSite[Concatenate[type[S], P2], R2, T2], instance: S | None, owner: type[S], /
    ) -> CallSite[P2, R2, T2]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> CallSite[P, R_co, T_co]: ...
    @overload
    def __get__(
        self: CallSite[Concatenate[S, P2], R2, T2], instance: S, owner: type[Any] | None = None, /
    ) -> CallSite[P2, R2, T2]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> CallSite[P, R_co, T_co]: ...


class SeamDecorator(Protocol):
    """Turns a function into a seam; its type, signature and look survive."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, T]], /) -> CallSite[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> CallSite[P, R, R]: ...
