"""The demo, step by step: what a team does, in the order it does it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

from crossfade.adapters.embedded import stop as stop_server
from crossfade.shim.buses import open_bus
from crossfade.shim.hooks import report
from crossfade.shim.policies import Move, Policies
from crossfade.shim.ports import BusSettings
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects

from .killing import kill_in_mid_call
from .stack import DemoFailedError, Stack
from .traffic import Traffic
from .verdict import Evidence, StageRow, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from crossfade.shim.ports import Bus

SEARCH: Final = "desk.search"
SUMMARISE: Final = "desk.summarise"
REPORT: Final = "desk.report"
_SEAMS: Final = (SEARCH, SUMMARISE, REPORT)
_ANSWERS: Final = 60  # per stage: enough for a p99 that is not the single worst
_SLOW: Final = 25.0  # seconds after which a stage that brings no answers has failed
_COMPARED: Final = 40  # verdicts of a seam on which the next step rests
_CANARY: Final = 50.0  # percent
_IDLE: Final = 10  # seconds after which the broker of a demo that was killed has nobody left
_REPORT_TIMEOUT: Final = 6.0  # seconds: whoever waits for a killed worker's report waits this long


class Teller(Protocol):
    """Says what happens."""

    def step(self, text: str) -> None:
        """A new step begins."""
        ...

    def result(self, text: str) -> None:
        """What the step found."""
        ...

    def wait(self, text: str) -> None:
        """Everything is over and stays up until the person has looked."""
        ...


def tell(work: Path, teller: Teller, *, keep: bool = False, regression: bool = True) -> Verdict:
    """Run the demo in the empty folder ``work``. Raises ``DemoFailedError`` when a step cannot be carried out."""
    path = work / "bus"
    try:
        with Stack(work, f"embedded://{path}?idle={_IDLE}", regression) as stack:
            return _Story(stack, teller).run(keep=keep)
    finally:
        stop_server(path)


class _Story:
    def __init__(self, stack: Stack, teller: Teller) -> None:
        self._stack = stack
        self._teller = teller
        self._subjects = Subjects()
        self._began = time.monotonic()
        self._stages: list[StageRow] = []
        self._verdicts: dict[str, Counter[str]] = {}
        self._moving: list[str] = list(_SEAMS)
        self._killed: list[int] = []
        self._misses = 0

    def run(self, *, keep: bool) -> Verdict:
        traffic = Traffic(self._prepare())
        traffic.start()
        try:
            self._move(traffic)
        finally:
            traffic.stop()
        evidence = Evidence(
            stages=self._stages,
            killed=self._killed,
            missed_kills=self._misses,
            observed=asyncio.run(self._observed()),
            verdicts={seam: dict(counts) for seam, counts in self._verdicts.items()},
            stayed_back=[seam for seam in _SEAMS if seam not in self._moving],
            regression=SUMMARISE if self._stack.regression else "",
        )
        seconds = time.monotonic() - self._began
        verdict = judge(journal=self._stack.journal, asked=traffic.asked, evidence=evidence, seconds=seconds)
        if keep:
            self._teller.wait(f"The desk is at {traffic.page}, the bus at {self._stack.bus}.")
        return verdict

    def _prepare(self) -> str:
        self._teller.step("A documentation desk: page -> agent -> search, fetch, summarise, write a report")
        passages = self._stack.index()
        self._teller.result(f"{passages:,} passages of Python's own documentation indexed")
        asyncio.run(self._touch_bus())
        self._teller.result("embedded broker up: a real nats-server on a directory")
        page, processes = self._stack.start_services()
        self._teller.result(f"{processes} services up; people ask at {page}")
        return page

    def _move(self, traffic: Traffic) -> None:
        self._teller.step("legacy: search, summarise and report are plain function calls inside the agent")
        self._await_answers(traffic, "legacy")
        self._teller.step("observe: the functions still answer; each call leaves an event behind")
        self._set_stages(traffic, Stage.OBSERVE)
        self._await_answers(traffic, "observe")
        self._shadow(traffic)
        self._teller.step(f"canary: {_CANARY:g} % of the runs take the bus, the others the function")
        self._set_stages(traffic, Stage.CANARY, percent=_CANARY)
        self._await_answers(traffic, "canary")
        self._teller.step("bus: workers answer over the broker")
        self._set_stages(traffic, Stage.BUS, timeout=_REPORT_TIMEOUT)
        self._await_answers(traffic, "bus")
        self._kill(traffic, "search", "a read: the broker hands it to another worker")
        self._kill(traffic, "write_report", "unsafe: nobody starts it again, its caller is told that nobody can know")

    def _shadow(self, traffic: Traffic) -> None:
        self._teller.step("shadow: two workers run the same calls again and compare; the caller takes no part")
        self._stack.start_worker()
        self._stack.start_worker()
        self._set_stages(traffic, Stage.SHADOW)
        self._await_answers(traffic, "shadow")
        self._await_verdicts()
        for seam in (SEARCH, SUMMARISE):
            counts = self._verdicts[seam]
            compared = f"{counts['match']} of {sum(counts.values())} answers match"
            if counts["mismatch"]:
                self._moving.remove(seam)
                self._teller.result(f"{seam}: {compared}: its next version is wrong, so it stays back here")
            else:
                self._teller.result(f"{seam}: {compared}")
        self._teller.result(f"{REPORT}: writes files, so it is never run twice; it goes on without a shadow")

    def _kill(self, traffic: Traffic, tool: str, promise: str) -> None:
        self._teller.step(f"kill -9 a worker in the middle of {tool} ({promise})")
        victim, caught = kill_in_mid_call(self._stack.workers, self._stack.journal, tool)
        if victim is None:
            self._misses += 1
            self._teller.result("no call in flight could be caught: this run proves nothing")
            return
        self._killed.append(victim.pid)
        self._teller.result(f"worker {victim.pid} died while it served call {caught}")
        self._stack.workers.remove(victim)
        self._stack.start_worker()
        self._await_answers(traffic, "bus")

    def _await_answers(self, traffic: Traffic, phase: str) -> None:
        if not traffic.wait_for(_ANSWERS, reports=1, seconds=_SLOW):
            failures = {item.failure for item in traffic.asked if item.failure}
            raise DemoFailedError(f"too few answers at stage {phase}: {sorted(failures)[:3] or 'people still wait'}")
        answers, reports = traffic.answered(phase), traffic.answered(phase, report=True)
        self._stages = [row for row in self._stages if row.stage != phase]
        self._stages.append(StageRow(stage=phase, at=round(time.monotonic() - self._began, 1), answers=answers))
        self._teller.result(f"{answers} answers, {reports} reports")

    def _await_verdicts(self) -> None:
        end = time.monotonic() + _SLOW
        while True:
            self._verdicts = asyncio.run(self._compared())
            if all(sum(self._verdicts[seam].values()) >= _COMPARED for seam in (SEARCH, SUMMARISE)):
                return
            if time.monotonic() > end:
                raise DemoFailedError(f"too few comparisons: {self._verdicts}")
            time.sleep(0.3)

    def _set_stages(self, traffic: Traffic, stage: Stage, **settings: float) -> None:
        traffic.phase = "moving"  # answers while processes follow belong to neither stage
        lagging = asyncio.run(self._change(stage, settings))
        if lagging:
            raise DemoFailedError(f"these processes did not follow to {stage}: {', '.join(lagging)}")
        traffic.phase = stage.value

    async def _change(self, stage: Stage, settings: dict[str, float]) -> list[str]:
        async with self._bus() as bus:
            policies = Policies(bus, self._subjects)
            moves = [
                policies.set_stage(seam, Move(target=stage, actor="demo", settings=settings), wait=5.0)
                for seam in self._moving
            ]
            return [name for change in await asyncio.gather(*moves) for name in change.lagging]

    async def _touch_bus(self) -> None:
        async with self._bus():
            pass

    async def _observed(self) -> int:
        async with self._bus() as bus:
            return sum([1 async for _ in bus.read(self._subjects.observations())])

    async def _compared(self) -> dict[str, Counter[str]]:
        counted: dict[str, Counter[str]] = {seam: Counter() for seam in _SEAMS}
        async with self._bus() as bus:
            async for stored in bus.read(self._subjects.verdicts()):
                payload: dict[str, Any] = json.loads(stored.event.data or b"{}")
                counted[payload["seam"]][payload["verdict"]] += 1
        return counted

    @asynccontextmanager
    async def _bus(self) -> AsyncGenerator[Bus]:
        bus = open_bus(self._stack.bus, BusSettings(client_name="crossfade demo"), report)
        try:
            await bus.open()
            yield bus
        finally:
            await bus.close()
