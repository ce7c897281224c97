"""Invariant 5: at legacy there is no thread, task, import or allocation, and one branch of overhead."""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import threading
import time

import pytest
import wrapt

from crossfade.shim import tool
from integration.shim import kit


@pytest.fixture(params=["never connected", "connected"])
def add(request, connect):
    """A seam at legacy."""

    @tool("math.add")
    def add(a: int, b: int = 1) -> int:
        return a + b

    if request.param == "connected":
        connect()
    assert add.__crossfade_seam__.route is None
    return add


def test_importing_and_calling_loads_neither_pydantic_nor_nats(tmp_path):
    """What an application swallows before it connects is wrapt (which loads asyncio by itself); no thread starts."""
    code = """
        import sys, threading, warnings
        warnings.simplefilter("error")
        import crossfade.shim as shim

        @shim.tool("math.add", stage="bus", effects="none")
        def add(a: int, b: int = 1) -> int:
            return a + b

        @shim.tool("math.aadd", stage="observe")
        async def aadd(a: int, b: int = 1) -> int:
            return a + b

        assert add(1) == 2
        try:
            aadd(1).send(None)
        except StopIteration as done:
            assert done.value == 2
        with shim.correlate(user="ann"):
            assert add(1) == 2
        heavy = {"pydantic", "pydantic_core", "nats", "cryptography"}
        print(sorted(heavy & sys.modules.keys()), threading.active_count())
    """
    assert kit.finish(kit.python(code, folder=tmp_path)) == ("[] 1\n", "")


def test_a_call_starts_no_thread_and_no_task(add):
    """Whether connected or not."""

    @tool("math.aadd")
    async def aadd(a: int) -> int:
        return len(asyncio.all_tasks())

    threads = threading.active_count()
    for n in range(100):
        add(n)
    assert threading.active_count() == threads
    assert asyncio.run(aadd(1)) == 1


def test_a_call_leaves_no_memory_behind(add):
    """Ten thousand calls end with as many blocks as one."""
    add(1)
    gc.collect()
    gc.disable()
    try:
        before = sys.getallocatedblocks()
        for _ in range(10_000):
            add(1)
        after = sys.getallocatedblocks()
    finally:
        gc.enable()
    assert after - before < 50


@pytest.mark.alone
def test_overhead_is_within_twice_a_bare_wrapt_decorator(add, note):
    """Measured in turns against a decorator that does nothing; the best of many rounds, since noise only adds."""

    @wrapt.decorator
    def nothing(wrapped, instance, args, kwargs):
        return wrapped(*args, **kwargs)

    @nothing
    def bare(a: int, b: int = 1) -> int:
        return a + b

    def took(function):
        began = time.perf_counter()
        for _ in range(2_000):
            function(1, b=2)
        return time.perf_counter() - began

    ours, theirs = [], []
    for _ in range(40):
        theirs.append(took(bare))
        ours.append(took(add))
    ratio = min(ours) / min(theirs)
    note(
        f"legacy call: {min(ours) / 2e-6:.0f} ns, bare wrapt {min(theirs) / 2e-6:.0f} ns, ratio {ratio:.2f} "
        f"(medians {statistics.median(ours) / statistics.median(theirs):.2f})"
    )
    assert ratio <= 2.0


def test_going_back_to_legacy_takes_the_branch_out(connect):
    """After observe the seam is as it was before."""

    @tool("math.back", stage="observe")
    def back() -> None: ...

    connection = connect()
    assert back.__crossfade_seam__.route is not None
    kit.set_live(connection, "math.back", {"stage": "legacy"})
    kit.until(lambda: back.__crossfade_seam__.route is None)
