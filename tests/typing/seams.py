"""What the type checkers must accept, infer and refuse at call sites; never executed.

A line that must be an error carries an ignore for each checker, and an ignore that nothing needs is an error.
"""
# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false
# mypy: disable-error-code=unused-coroutine

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from typing import Any, assert_type

from crossfade.shim import TaskHandle, agent, handler, remote, tool


@tool("plain", effects="none")
def plain(query: str, limit: int = 10) -> list[str]:
    return [query] * limit


@agent("coroutine", timeout=900)
async def coroutine(topic: str, *, depth: int = 1) -> bytes:
    return topic.encode() * depth


@tool("generator")
def generator(n: int) -> Generator[int, str, bool]:
    return bool((yield n))


@tool("agenerator")
async def agenerator(n: int) -> AsyncIterator[int]:
    yield n


class Service:
    @tool("service.method")
    def method(self, x: int) -> str:
        return str(x)

    @tool("service.amethod")
    async def amethod(self, x: int) -> str:
        return str(x)

    @tool("service.class")
    @classmethod
    def outside(cls, x: int) -> str:
        return cls.__name__ * x

    @classmethod
    @tool("service.class2")
    def inside(cls, x: int) -> str:
        return cls.__name__ * x

    @tool("service.static")
    @staticmethod
    def static(x: int) -> str:
        return str(x)

    @property
    @tool("service.property")
    def size(self) -> int:
        return 1


class Heir(Service):
    """Inherits its seams."""


# -- functions -------------------------------------------------------------------------------------------------


def functions() -> None:
    assert_type(plain("x"), list[str])
    assert_type(plain(query="x", limit=2), list[str])
    assert_type(plain.submit("x", limit=2), TaskHandle[list[str]])
    assert_type(plain.submit("x").result(5), list[str])
    assert_type(plain.__name__, str)
    as_argument: Callable[[str, int], list[str]] = plain
    wider: Callable[[str], object] = plain
    _ = as_argument, wider

    plain()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain("x", top=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain("x", 1, 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    plain.submit(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    plain.sumbit("x")  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    text: str = plain("x")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    _ = text


async def coroutines() -> None:
    assert_type(coroutine("x", depth=2), Coroutine[Any, Any, bytes])
    assert_type(await coroutine("x"), bytes)
    assert_type(coroutine.submit("x"), TaskHandle[bytes])
    assert_type(await coroutine.asubmit("x", depth=2), TaskHandle[bytes])
    assert_type(await (await coroutine.asubmit("x")).aresult(), bytes)
    assert_type(await plain.asubmit("x"), TaskHandle[list[str]])

    await coroutine("x", 2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await coroutine.asubmit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    text: bytes = coroutine("x")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
    await plain("x")  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
    _ = text


async def streams() -> None:
    assert_type(generator(1), Generator[int, str, bool])
    assert_type(agenerator(1), AsyncIterator[int])
    async for item in agenerator(1):
        assert_type(item, int)

    generator("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    generator(1).send(2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# -- classes ---------------------------------------------------------------------------------------------------


async def methods() -> None:
    assert_type(Service().method(1), str)
    assert_type(Service().method(x=1), str)
    assert_type(Heir().method(1), str)
    assert_type(Service().method.submit(1), TaskHandle[str])
    assert_type(await Service().amethod(1), str)
    assert_type(Service().amethod.submit(1), TaskHandle[str])
    assert_type(await Service().amethod.asubmit(1), TaskHandle[str])
    assert_type(Service().size, int)

    Service().method("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Service().method(Service(), 1)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    Service().method.submit("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def classmethods() -> None:
    assert_type(Service.outside(1), str)
    assert_type(Service().outside(1), str)
    assert_type(Heir.outside(1), str)
    assert_type(Service.outside.submit(1), TaskHandle[str])
    assert_type(Service.inside(1), str)
    assert_type(Service().inside(1), str)

    Service.outside("x")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Service.inside()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def what_only_basedpyright_understands() -> None:
    """mypy 2 does not compare the first parameter of a self type: it takes these three for classmethods."""
    assert_type(Service.static(1), str)  # type: ignore[call-arg]
    assert_type(Service().static.submit(1), TaskHandle[str])  # type: ignore[call-arg]
    assert_type(Service.method(Service(), 1), str)  # type: ignore[call-arg, arg-type]

    Service.static("x")  # type: ignore[call-arg]  # pyright: ignore[reportArgumentType]
    Service.method(1)  # pyright: ignore[reportCallIssue]


# -- the other side --------------------------------------------------------------------------------------------


@handler("plain")
async def handled(query: str, limit: int = 10) -> list[str]:
    return [query] * limit


def signature(query: str) -> float:
    return float(query)


async def asignature(query: str) -> float:
    return float(query)


elsewhere = remote("elsewhere", signature=signature)
aelsewhere = remote("aelsewhere", signature=asignature, domain="agent", effects="idempotent")


async def others() -> None:
    assert_type(await handled("x"), list[str])
    assert_type(elsewhere("x"), float)
    assert_type(elsewhere.submit("x"), TaskHandle[float])
    assert_type(await aelsewhere("x"), float)
    assert_type(await aelsewhere.asubmit("x"), TaskHandle[float])

    handled.submit("x")  # type: ignore[attr-defined]  # pyright: ignore[reportFunctionMemberAccess]
    elsewhere(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    remote("x", signature=1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    tool("x", effects="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    tool("x")(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
