"""Every kind of function that can be a seam, decorated; ``PLAIN`` holds the same file executed without decorators."""

# ruff: noqa: PLW0108 - the classes do not exist yet where the lambdas stand

from __future__ import annotations

import abc
import contextvars
import dataclasses
import functools
import importlib.util
import sys
from collections.abc import AsyncIterator, Iterator  # noqa: TC003 - seams resolve their annotations
from typing import overload

from crossfade.shim import tool

DECORATED = not __name__.endswith("_plain")


def seam(name, **options):
    """``tool``, or nothing in the plain twin."""
    return (
        tool(name, effects="none", timeout=10, fallback="raise", **options) if DECORATED else lambda function: function
    )


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@seam("kinds.plain")
def plain(x: int, *, times: int = 2) -> int:
    """Multiply.

    Args:
        x: What is multiplied.
        times: By how much.
    """
    return x * times


@seam("kinds.coroutine")
async def coroutine(x: int, *, times: int = 2) -> int:
    """Multiply, later."""
    return x * times


@seam("kinds.generator")
def generator(x: int, *, times: int = 2) -> Iterator[int]:
    """Count in steps."""
    for n in range(times):
        yield x * n


@seam("kinds.agenerator")
async def agenerator(x: int, *, times: int = 2) -> AsyncIterator[int]:
    """Count in steps, later."""
    for n in range(times):
        yield x * n


@overload
def overloaded(x: int, *, times: int = 2) -> int: ...
@overload
def overloaded(x: str, *, times: int = 2) -> str: ...
@seam("kinds.overloaded")
def overloaded(x: int | str, *, times: int = 2) -> int | str:
    """Multiply what can be multiplied."""
    return x * times


def above(function):
    """Somebody else's decorator outside."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


def below(function):
    """Somebody else's decorator inside."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


@above
@seam("kinds.wrapped.above")
def wrapped_above(x: int, *, times: int = 2) -> int:
    """Multiply under a wrapper."""
    return x * times


@seam("kinds.wrapped.below")
@below
def wrapped_below(x: int, *, times: int = 2) -> int:
    """Multiply over a wrapper."""
    return x * times


class Service:
    """Methods of every kind."""

    def __init__(self, base: int = 10) -> None:
        self.base = base

    @seam("kinds.method", bind=lambda: Service())
    def method(self, x: int, *, times: int = 2) -> int:
        """Multiply and add."""
        return self.base + x * times

    @seam("kinds.amethod", bind=lambda: Service())
    async def amethod(self, x: int, *, times: int = 2) -> int:
        """Multiply and add, later."""
        return self.base + x * times

    @seam("kinds.gmethod", bind=lambda: Service())
    def gmethod(self, x: int, *, times: int = 2) -> Iterator[int]:
        """Add in steps."""
        for n in range(times):
            yield self.base + x * n

    @seam("kinds.class.inside")
    @classmethod
    def class_inside(cls, x: int, *, times: int = 2) -> str:
        """Repeat the class's name."""
        return cls.__name__ * x * times

    @classmethod
    @seam("kinds.class.outside")
    def class_outside(cls, x: int, *, times: int = 2) -> str:
        """Repeat the class's name."""
        return cls.__name__ * x * times

    @seam("kinds.static.inside")
    @staticmethod
    def static_inside(x: int, *, times: int = 2) -> int:
        """Multiply."""
        return x * times

    @staticmethod
    @seam("kinds.static.outside")
    def static_outside(x: int, *, times: int = 2) -> int:
        """Multiply."""
        return x * times

    @property
    @seam("kinds.property", bind=lambda: Service())
    def size(self) -> int:
        """The base, as an attribute."""
        return self.base


class Heir(Service):
    """Inherits its seams."""


@dataclasses.dataclass
class Record:
    """A dataclass with a seam."""

    base: int = 10

    @seam("kinds.dataclass", bind=lambda: Record())
    def method(self, x: int, *, times: int = 2) -> int:
        """Multiply and add."""
        return self.base + x * times


class Abstract(abc.ABC):
    """A seam that must be overridden."""

    @abc.abstractmethod
    @seam("kinds.abstract")
    def method(self, x: int, *, times: int = 2) -> int:
        """Multiply, says the heir."""


class Concrete(Abstract):
    """The heir, a seam of its own."""

    @seam("kinds.concrete", bind=lambda: Concrete())
    def method(self, x: int, *, times: int = 2) -> int:
        """Multiply."""
        return x * times


def _plain_twin():
    name = f"{__name__}_plain"
    spec = importlib.util.spec_from_file_location(name, __file__)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if DECORATED:
    PLAIN = _plain_twin()
