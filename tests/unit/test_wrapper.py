"""A decorated function looks, types, pickles and copies as the plain one does."""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import functools
import inspect
import pickle  # noqa: TID251 - what an app's process pools do
import typing
import weakref

import pytest
from pydantic import validate_call

from crossfade.shim import decorators
from crossfade.shim.decorators import tool
from crossfade.shim.seam import Registry


def plain(a: int, /, b: str = "x", *rest: float, c: bool = False, **more: bytes) -> list[str]:
    """What it does."""
    return [f"{a}{b}{rest}{c}{more}"]


async def aplain(a: int, b: str = "x") -> str:
    """What it does, later."""
    return f"{a}{b}"


_registry = decorators.registry
decorators.registry = Registry()  # the module's own seams are nobody else's business


@tool("wrapped.sync")
def wrapped(a: int, /, b: str = "x", *rest: float, c: bool = False, **more: bytes) -> list[str]:
    """What it does."""
    return [f"{a}{b}{rest}{c}{more}"]


@tool("wrapped.async")
async def awrapped(a: int, b: str = "x") -> str:
    """What it does, later."""
    return f"{a}{b}"


class Base:
    def __init__(self) -> None:
        self.n = 1

    @tool("base.method")
    def method(self, x: int) -> int:
        return self.n + x

    @classmethod
    @tool("base.klass")
    def klass(cls) -> str:
        return cls.__name__

    @staticmethod
    @tool("base.static")
    def static(x: int) -> int:
        return x

    @property
    @tool("base.property")
    def value(self) -> int:
        return self.n


class Child(Base):
    def method(self, x: int) -> int:
        return super().method(x) * 10


decorators.registry = _registry
PAIRS = [(plain, wrapped), (aplain, awrapped)]


@pytest.mark.parametrize(("before", "after"), PAIRS, ids=["sync", "async"])
def test_inspection_sees_the_function(before, after):
    """Signature, hints, documentation, kind, source, code."""
    assert inspect.signature(after) == inspect.signature(before)
    assert typing.get_type_hints(after) == typing.get_type_hints(before)
    assert after.__doc__ == before.__doc__
    assert after.__module__ == before.__module__
    assert after.__defaults__ == before.__defaults__
    assert after.__kwdefaults__ == before.__kwdefaults__
    for question in (inspect.iscoroutinefunction, asyncio.iscoroutinefunction, inspect.isfunction, callable):
        assert question(after) == question(before)
    assert inspect.getsource(after.__wrapped__).lstrip().startswith("@tool")
    assert after.__name__ == after.__wrapped__.__name__


def test_it_can_be_held_weakly_hashed_and_compared():
    """As plain functions can."""
    assert weakref.ref(wrapped)() is wrapped
    assert {wrapped: 1}[wrapped] == 1
    assert wrapped == wrapped.__wrapped__


def test_it_can_be_wrapped_again():
    """functools.wraps, partial, and pydantic's validate_call."""

    @functools.wraps(wrapped)
    def outer(*args, **kwargs):
        return wrapped(*args, **kwargs)

    assert outer(1) == wrapped(1) == functools.partial(wrapped, 1)()
    assert inspect.signature(outer) == inspect.signature(plain)
    assert validate_call(Base.__dict__["static"].__func__)("3") == 3


def test_methods_bind_as_methods_do():
    """Instance, class, static, property, inheritance, and the function called through its class."""
    child = Child()
    assert (child.method(1), Base.method(child, 1), Base().method(1)) == (20, 2, 2)
    assert (Child.klass(), child.klass(), Base.klass()) == ("Child", "Child", "Base")
    assert (Child.static(3), child.static(3), child.value) == (3, 3, 1)
    assert child.method.__self__ is child
    assert Base().method.__name__ == "method"


@pytest.mark.parametrize(
    "thing",
    [wrapped, awrapped, Base().method, Base.method, Base.klass, Base().klass, Base.static],
    ids=lambda thing: thing.__qualname__,
)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_it_is_pickled_by_name(thing, protocol):
    """No code travels; the seam is found again where it is declared."""
    again = pickle.loads(pickle.dumps(thing, protocol))
    assert again.__crossfade_seam__ is thing.__crossfade_seam__


def test_a_local_function_is_refused_as_a_plain_one_is():
    """Pickle finds functions by name only."""

    def local(): ...

    for function in (local, tool("local.seam")(local)):
        with pytest.raises((pickle.PicklingError, AttributeError)):
            pickle.dumps(function)


def test_copies_are_the_function_and_bound_methods_follow_their_object():
    """copy, deepcopy, and deepcopy of an object that holds its own method."""
    assert copy.copy(wrapped) is copy.deepcopy(wrapped) is wrapped
    assert copy.deepcopy([wrapped, {"f": awrapped}]) == [wrapped, {"f": awrapped}]
    holder = Base()
    holder.held = holder.method
    twin = copy.deepcopy(holder)
    twin.n = 100
    assert (holder.held(1), twin.held(1)) == (2, 101)
    assert copy.copy(holder.method)(1) == 2
    assert copy.deepcopy(Base.static)(1) == 1


def test_errors_in_the_body_end_in_the_body():
    """One frame more, none of ours at the end."""

    @tool("body.raises")
    def fail():
        raise LookupError("x")

    with pytest.raises(LookupError) as caught:
        fail()
    assert caught.traceback[-1].name == "fail"
    assert len(caught.traceback) == 3


def test_a_thread_pool_runs_it():
    """Called from any thread."""
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(wrapped, [1, 2])) == [plain(1), plain(2)]
