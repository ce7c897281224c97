"""The seams that the benchmark calls; a worker process serves them."""

from __future__ import annotations

from typing import Any

from crossfade import shim


def plain(question: dict[str, Any], limit: int = 5) -> int:  # noqa: ARG001 - it costs nothing, so that the rest shows
    """The body of every row."""
    return limit


@shim.tool("bench.legacy", effects="none")
def legacy(question: dict[str, Any], limit: int = 5) -> int:
    """Never leaves legacy."""
    return plain(question, limit)


@shim.tool("bench.observed", effects="none", stage="observe")
def observed(question: dict[str, Any], limit: int = 5) -> int:
    """Leaves an observation."""
    return plain(question, limit)


@shim.tool("bench.bus", effects="none", stage="bus", fallback="raise")
def bus(question: dict[str, Any], limit: int = 5) -> int:
    """A read over the bus, called by plain code."""
    return plain(question, limit)


@shim.tool("bench.abus", effects="none", stage="bus", fallback="raise")
async def abus(question: dict[str, Any], limit: int = 5) -> int:
    """A read over the bus, called by a coroutine."""
    return plain(question, limit)


@shim.tool("bench.unsafe", stage="bus", fallback="raise")
async def unsafe(question: dict[str, Any], limit: int = 5) -> int:
    """An unsafe call: one more publish, the claim."""
    return plain(question, limit)
