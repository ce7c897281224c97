"""The demo, step by step: what a team does, in the order it does it."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol

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
from .verdict import StageRow, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from crossfade.shim.ports import Bus

SEAM: Final = "desk.search"
_ANSWERS: Final = 80  # per stage: enough for a p99 that is not the single worst
_SLOW: Final = 20.0  # seconds after which a stage that brings no answers has failed
_SETTLE: Final = 2.0  # seconds in which every process follows a stage change
_FORCED: Final = "the demo's short walk: this version has no shadow and no canary yet"


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


def tell(work: Path, teller: Teller, *, keep: bool = False) -> Verdict:
    """Run the demo in the empty folder ``work``. Raises ``DemoFailedError`` when a step cannot be carried out."""
    path = work / "bus"
    try:
        with Stack(work, f"embedded://{path}?idle=30") as stack:
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

    def run(self, *, keep: bool) -> Verdict:
        traffic = Traffic(self._prepare())
        traffic.start()
        try:
            killed = self._move(traffic)
        finally:
            traffic.stop()
        observed = asyncio.run(self._observed())
        verdict = judge(
            tool="search",
            journal=self._stack.journal,
            asked=traffic.asked,
            stages=self._stages,
            kills=int(killed),
            missed_kills=int(not killed),
            observed=observed,
            seconds=time.monotonic() - self._began,
        )
        if keep:
            self._teller.wait(f"The desk is at {traffic.page}, the bus at {self._stack.bus}.")
        return verdict

    def _prepare(self) -> str:
        self._teller.step("A documentation desk, wired by plain calls: page -> agent -> search, fetch, summarise")
        passages = self._stack.index()
        self._teller.result(f"{passages:,} passages of Python's own documentation indexed")
        asyncio.run(self._touch_bus())
        self._teller.result("embedded broker up: a real nats-server on a directory")
        page, processes = self._stack.start_services()
        self._teller.result(f"{processes} services up; people ask at {page}")
        return page

    def _move(self, traffic: Traffic) -> bool:
        self._teller.step(f"legacy: {SEAM} is a plain function call inside the agent")
        self._await_answers(traffic, "legacy")
        self._teller.step(
            f"observe: the function still answers; each call leaves an event behind  ({_command('observe')})"
        )
        self._set_stage(traffic, Stage.OBSERVE)
        self._await_answers(traffic, "observe")
        self._teller.step(f"bus: two workers answer over the broker  ({_command('bus --force')})")
        first = self._stack.start_worker()
        self._stack.start_worker()
        self._set_stage(traffic, Stage.BUS)
        self._await_answers(traffic, "bus")
        self._teller.step("kill -9 one worker in the middle of a call")
        caught = kill_in_mid_call(first, self._stack.journal, "search")
        self._teller.result(
            f"worker {first.pid} died while it served call {caught}; the broker hands it to the other worker"
            if caught
            else "no call in flight could be caught: this run proves nothing"
        )
        self._await_answers(traffic, "bus")
        return bool(caught)

    def _await_answers(self, traffic: Traffic, phase: str) -> None:
        if not traffic.wait_for(_ANSWERS, seconds=_SLOW):
            failures = {item.failure for item in traffic.asked if item.failure}
            raise DemoFailedError(f"too few answers at stage {phase}: {sorted(failures)[:3] or 'people still wait'}")
        answers = traffic.answered(phase)
        self._stages = [row for row in self._stages if row.stage != phase]
        self._stages.append(StageRow(stage=phase, at=round(time.monotonic() - self._began, 1), answers=answers))
        self._teller.result(f"{answers} answers")

    def _set_stage(self, traffic: Traffic, stage: Stage) -> None:
        traffic.phase = "moving"  # answers while processes follow belong to neither stage
        asyncio.run(self._change(stage))
        time.sleep(_SETTLE)
        traffic.phase = stage.value

    async def _change(self, stage: Stage) -> None:
        async with self._bus() as bus:
            policies = Policies(bus, self._subjects)
            await policies.set_stage(SEAM, Move(target=stage, actor="demo", reason=_FORCED, force=True))

    async def _touch_bus(self) -> None:
        async with self._bus():
            pass

    async def _observed(self) -> int:
        async with self._bus() as bus:
            return sum([1 async for _ in bus.read(self._subjects.observations(SEAM))])

    @asynccontextmanager
    async def _bus(self) -> AsyncGenerator[Bus]:
        bus = open_bus(self._stack.bus, BusSettings(client_name="crossfade demo"), report)
        try:
            await bus.open()
            yield bus
        finally:
            await bus.close()


def _command(stage: str) -> str:
    return f"crossfade stage set {SEAM} {stage}"
