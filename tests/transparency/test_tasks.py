"""``submit`` and ``asubmit`` of every kind that can be submitted: the handle's result is the call's."""

from __future__ import annotations

import asyncio

import pytest

from crossfade.shim import SeamDefinitionError
from transparency import bench, kinds

KINDS = [
    kind
    for kind in bench.KINDS
    if "generator" not in kind and kind not in ("partial", "method of a class", "wrapped above")
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_handles_result_is_the_calls(stage, kind):
    """By ``submit`` and by ``asubmit``; durable on the bus only, and there a method runs on what ``bind`` makes."""
    ours, plain = bench.twins(kind)
    expected = bench.outcome(plain, 3)
    if stage == "bus" and kind in ("method", "coroutine method", "dataclass method"):
        expected = 16

    async def main():
        task = await ours.asubmit(x=3)
        return task.durable, await task.aresult(10)

    durable = stage == "bus" and kind != "classmethod of an heir"
    assert asyncio.run(main()) == (durable, expected)
    task = ours.submit(3)
    assert (task.result(10), task.durable) == (expected, durable)


def test_a_method_is_submitted_through_its_class(stage):
    """As it can be called: the instance first."""
    assert kinds.Service.method.submit(kinds.Service(1), 3).result(10) == (16 if stage == "bus" else 7)


@pytest.mark.parametrize("kind", [kind for kind in bench.KINDS if "generator" in kind])
def test_a_generator_cannot_be_submitted(stage, kind):
    """Said by name; nothing runs."""
    with pytest.raises(SeamDefinitionError, match="iterate it"):
        bench.twins(kind)[0].submit(3)
