"""The demo, step by step: what a team does, in the order it does it."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from crossfade.adapters.embedded import stop as stop_server
from crossfade.proxy.control.tokens import Keyring
from crossfade.shim.buses import open_bus
from crossfade.shim.domains import answer_type
from crossfade.shim.hooks import report
from crossfade.shim.policies import Move, Policies
from crossfade.shim.ports import BusSettings
from crossfade.shim.stages import Stage
from crossfade.shim.subjects import Subjects

from .killing import kill_in_mid_call, open_call
from .stack import DemoFailedError, Stack
from .traffic import Traffic
from .verdict import Evidence, StageRow, Verdict, judge

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncGenerator, Callable, Mapping

    from crossfade.shim.ports import Bus

    from .stack import Desk
    from .traffic import Kind
    from .verdict import Kill

SEARCH: Final = "desk.search"
SUMMARISE: Final = "desk.summarise"
REPORT: Final = "desk.report"
LOOK_UP: Final = "http.search"
ORDER: Final = "http.reports"
_SEAMS: Final = (SEARCH, SUMMARISE, REPORT, LOOK_UP, ORDER)
_COMPARABLE: Final = (SEARCH, SUMMARISE, LOOK_UP)
_ENOUGH: Final[Mapping[Kind, int]] = {"ask": 40, "look": 15, "report": 1}  # answers per stage
_SLOW: Final = 25.0  # seconds after which a stage that brings no answers has failed
_COMPARED: Final = 25  # verdicts of a seam on which the next step rests
_CANARY: Final = 50.0  # percent
_IDLE: Final = 10  # seconds after which the broker of a demo that was killed has nobody left
# Seconds: whoever waits for a killed worker's report waits this long; the route around it a little longer.
_TIMEOUTS: Final = {REPORT: 6.0, ORDER: 9.0}


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
        self._kills: list[Kill] = []
        self._misses = 0

    def run(self, *, keep: bool) -> Verdict:
        desk = self._prepare()
        traffic = Traffic(desk.page, Keyring.load(Path(desk.state) / "stream-keys.json"))
        traffic.start()
        try:
            self._move(traffic)
            self._teller.step("people leave, each with the answer that is still to come")
        finally:
            traffic.stop()
        evidence = Evidence(
            stages=self._stages,
            kills=self._kills,
            missed_kills=self._misses,
            routed=asyncio.run(self._routed()),
            observed=asyncio.run(self._observed()),
            verdicts={seam: dict(counts) for seam, counts in self._verdicts.items()},
            stayed_back=[seam for seam in _SEAMS if seam not in self._moving],
            regression=SUMMARISE if self._stack.regression else "",
        )
        seconds = time.monotonic() - self._began
        verdict = judge(journal=self._stack.journal, asked=traffic.asked, evidence=evidence, seconds=seconds)
        self._teller.result(f"{len(traffic.asked)} requests; {verdict.unknown} were told that nobody can know")
        if keep:
            self._teller.wait(
                f"\nThe desk is at {desk.page}: ask it something, have a report written, see its steps as they happen."
                f"\nIts routes are in {desk.routes}, the bus is {self._stack.bus}"
            )
        return verdict

    def _prepare(self) -> Desk:
        self._teller.step("A documentation desk: page -> agent -> search, fetch, summarise, write a report")
        passages = self._stack.index()
        self._teller.result(f"{passages:,} passages of Python's own documentation indexed")
        asyncio.run(self._touch_bus())
        self._teller.result("embedded broker up: a real nats-server on a directory")
        desk = self._stack.start_services()
        self._teller.result(f"4 services up, crossfade proxy in front of them; people ask at {desk.page}")
        return desk

    def _move(self, traffic: Traffic) -> None:
        self._teller.step("legacy: three functions inside the agent, and two routes: GET /search, POST /reports")
        self._await_answers(traffic, "legacy")
        self._teller.step("observe: functions and services still answer; each call leaves an event behind")
        self._set_stages(traffic, Stage.OBSERVE)
        self._await_answers(traffic, "observe")
        self._shadow(traffic)
        self._teller.step(f"canary: {_CANARY:g} % take the bus, by run or by user; the others stay where they were")
        self._set_stages(traffic, Stage.CANARY)
        self._await_answers(traffic, "canary")
        self._teller.step("bus: workers answer over the broker; a report is a 202, its result comes later")
        self._set_stages(traffic, Stage.BUS)
        self._await_answers(traffic, "bus")
        self._kill_workers(traffic)

    def _shadow(self, traffic: Traffic) -> None:
        self._teller.step("shadow: workers run the same calls again and compare; the caller takes no part")
        self._stack.start_workers()
        self._set_stages(traffic, Stage.SHADOW)
        self._await_answers(traffic, "shadow")
        self._await_verdicts()
        for seam in _COMPARABLE:
            counts = self._verdicts[seam]
            alike = counts["match"] + counts["ignored"]  # ignored: but for what a rule leaves out, like Date
            compared = f"{alike} of {sum(counts.values())} answers match"
            if counts["mismatch"]:
                self._moving.remove(seam)
                self._teller.result(f"{seam}: {compared}: its next version is wrong, so it stays back here")
            else:
                self._teller.result(f"{seam}: {compared}")
        self._teller.result(f"{REPORT}, {ORDER}: write files, so they are never run twice; they go on without a shadow")

    def _kill_workers(self, traffic: Traffic) -> None:
        """Kill the routes' worker first: until nobody can know what became of its report, the others die."""
        stack = self._stack
        self._teller.step("kill -9 the proxy's worker in the middle of a search and a report")
        if self._kill(stack.route_workers, self._on_routes):
            stack.start_route_worker()
            self._await_answers(traffic, "bus")
        kills = (("search", "a read: another worker runs it"), ("write_report", "unsafe: nobody starts it again"))
        for tool, promise in kills:
            self._teller.step(f"kill -9 a worker in the middle of {tool} ({promise})")
            if self._kill(stack.workers, partial(self._in_function, tool)):
                stack.start_worker()
                self._await_answers(traffic, "bus")

    def _on_routes(self, _pid: int) -> str:
        """What the one worker of the routes waits for: the services' journal shows it begun and not ended."""
        look_up = open_call(self._stack.journal, "search", request="l")
        report = look_up and open_call(self._stack.journal, "write_report", request="r")
        return f"{look_up} and {report}" if report else ""

    def _in_function(self, tool: str, pid: int) -> str:
        return open_call(self._stack.journal, tool, pid=pid)

    def _kill(self, workers: list[subprocess.Popen[str]], in_flight: Callable[[int], str]) -> bool:
        kill, caught = kill_in_mid_call(workers, in_flight)
        if kill is None:
            self._misses += 1
            self._teller.result("no call in flight could be caught: this run proves nothing")
            return False
        self._kills.append(kill)
        self._teller.result(f"worker {kill.pid} died while it served {caught}")
        return True

    def _await_answers(self, traffic: Traffic, phase: str) -> None:
        if not traffic.wait_for(_ENOUGH, seconds=_SLOW):
            failures = {item.failure for item in traffic.asked if item.failure}
            raise DemoFailedError(f"too few answers at stage {phase}: {sorted(failures)[:3] or 'people still wait'}")
        answers, looked_up, reports = (traffic.answered(phase, kind) for kind in _ENOUGH)
        self._stages = [row for row in self._stages if row.stage != phase]
        self._stages.append(StageRow(stage=phase, at=round(time.monotonic() - self._began, 1), answers=answers))
        self._teller.result(f"{answers} answers, {looked_up} searches, {reports} reports")

    def _await_verdicts(self) -> None:
        end = time.monotonic() + _SLOW
        while True:
            self._verdicts = asyncio.run(self._compared())
            if all(sum(self._verdicts[seam].values()) >= _COMPARED for seam in _COMPARABLE):
                return
            if time.monotonic() > end:
                raise DemoFailedError(f"too few comparisons: {self._verdicts}")
            time.sleep(0.3)

    def _set_stages(self, traffic: Traffic, stage: Stage) -> None:
        traffic.phase = "moving"  # answers while processes follow belong to neither stage
        lagging = asyncio.run(self._change(stage))
        if lagging:
            raise DemoFailedError(f"these processes did not follow to {stage}: {', '.join(lagging)}")
        traffic.phase = stage.value

    async def _change(self, stage: Stage) -> list[str]:
        async with self._bus() as bus:
            policies = Policies(bus, self._subjects)
            moves = [
                policies.set_stage(seam, Move(target=stage, actor="demo", settings=_settings(seam, stage)), wait=5.0)
                for seam in self._moving
            ]
            return [name for change in await asyncio.gather(*moves) for name in change.lagging]

    async def _touch_bus(self) -> None:
        async with self._bus():
            pass

    async def _observed(self) -> int:
        async with self._bus() as bus:
            return sum([1 async for _ in bus.read(self._subjects.observations())])

    async def _routed(self) -> dict[str, int]:
        counted: Counter[str] = Counter()
        async with self._bus() as bus:
            async for stored in bus.read(self._subjects.call_filter("result")):
                if stored.event.type == answer_type("http", "value"):
                    counted[stored.event.get("seam") or ""] += 1
        return dict(counted)

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


def _settings(seam: str, stage: Stage) -> dict[str, float]:
    timeout = {"timeout": _TIMEOUTS[seam]} if seam in _TIMEOUTS and stage is Stage.BUS else {}
    return timeout | ({"percent": _CANARY} if stage is Stage.CANARY else {})
