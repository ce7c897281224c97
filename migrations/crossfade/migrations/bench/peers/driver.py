"""Runs one peer for the bench, by lines of JSON: ``python driver.py MODULE PACKAGE...``.

In: ``{"url", "question", "batched"}``, then a number of calls per line. Out: the packages' versions, then
``{"setting"}`` once a first call has been answered, then for each number the seconds of those calls (one average when
``batched``). It ends at the end of its input.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import inspect
import json
import os
import sys
import time
from typing import Any


def main() -> None:
    """Serve until stdin ends."""
    module_name, *packages = sys.argv[1:]
    order = json.loads(sys.stdin.readline())
    _say({package: importlib.metadata.version(package) for package in packages})
    os.environ["BENCH_URL"] = order["url"]  # the peer's worker imports the same module
    module: Any = importlib.import_module(module_name)
    with asyncio.Runner() as runner, module.opened(runner, order["question"]) as call:
        if inspect.iscoroutinefunction(call):
            runner.run(_awaited(call, 1))
        else:
            call()
        _say({"setting": module.SETTING})
        for line in sys.stdin:
            n = int(line)
            if inspect.iscoroutinefunction(call):
                _say(runner.run(_awaited(call, n)))
            else:
                _say(_batched(call, n) if order["batched"] else _each(call, n))


def _batched(call: Any, n: int) -> list[float]:
    began = time.perf_counter()
    for _ in range(n):
        call()
    return [(time.perf_counter() - began) / n]


def _each(call: Any, n: int) -> list[float]:
    taken: list[float] = []
    for _ in range(n):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


async def _awaited(call: Any, n: int) -> list[float]:
    taken: list[float] = []
    for _ in range(n):
        began = time.perf_counter()
        await call()
        taken.append(time.perf_counter() - began)
    return taken


def _say(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
