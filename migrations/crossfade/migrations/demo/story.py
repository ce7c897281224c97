"""The demo, step by step: what a team does, in the order it does it."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from crossfade.adapters.embedded import stop as stop_server
from crossfade.migrations.gates import asked
from crossfade.proxy.control.tokens import Keyring
from crossfade.shim.buses import hide_credentials, open_bus
from crossfade.shim.domains import answer_type
from crossfade.shim.hooks import report
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects

from .killing import kill_in_mid_call, open_call
from .stack import LOOK_UP, ORDER, REPORT, SEAMS, SEARCH, SUMMARISE, DemoFailedError, Stack
from .traffic import Traffic
from .verdict import Evidence, Verdict, Way, judge
from .walking import Walk

if TYPE_CHECKING:
    import subprocess
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence

    from crossfade.migrations.playbook import Playbook
    from crossfade.shim.ports import Bus

    from .stack import Desk
    from .traffic import Kind
    from .verdict import Kill, Moved

_FIRST: Final[Mapping[Kind, int]] = {"ask": 20, "look": 8, "report": 2}  # answers before anything moves
_AFTER: Final[Mapping[Kind, int]] = {"ask": 15, "look": 8, "report": 2}  # and at each step once everything has moved
_SLOW: Final = 25.0  # seconds after which a step that brings no answers has failed
_WALK: Final = 75.0  # seconds after which a seam that is still on its way has failed
_QUIET: Final = timedelta(seconds=3)  # twice; a team says days, its month's end among them
_RETIRE: Final = 45.0  # seconds after which a seam that is not retired has failed
_IDLE: Final = 10  # seconds after which the broker of a demo that was killed has nobody left
_ON_BUS: Final = ("bus", "retired")
_TOOLS: Final = {SEARCH: "search", SUMMARISE: "summarise", REPORT: "write_report"}  # the journal's names
_ASKED: Final = {LOOK_UP: ("search", "l"), ORDER: ("write_report", "r")}  # what a route leads to, whose requests


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


def tell(work: Path, teller: Teller, *, keep: bool = False, regression: str = SUMMARISE, bus: str = "") -> Verdict:
    """Run the demo in the empty folder ``work``, with a bug in the next version of ``regression`` (empty: none).

    ``bus`` is the URL of a broker that is there, on which the demo has a prefix of its own; without one an embedded
    broker is started. Raises ``DemoFailedError`` when a step cannot be carried out.
    """
    if bus:
        with Stack(work, bus, f"demo_{os.urandom(4).hex()}", regression) as stack:
            return _Story(stack, teller).run(keep=keep)
    path = work / "bus"
    try:
        with Stack(work, f"embedded://{path}?idle={_IDLE}", "cf", regression) as stack:
            return _Story(stack, teller).run(keep=keep)
    finally:
        stop_server(path)


class _Story:
    def __init__(self, stack: Stack, teller: Teller) -> None:
        self._stack = stack
        self._teller = teller
        self._subjects = Subjects(stack.prefix)
        self._began = time.monotonic()
        self._moves: dict[str, list[Moved]] = {seam: [] for seam in SEAMS}
        self._ways: dict[str, Way] = {}
        self._kills: list[Kill] = []
        self._misses = 0

    def run(self, *, keep: bool) -> Verdict:
        desk = self._prepare()
        self._stack.await_workers()
        self._teller.result("3 workers up, for when a seam moves")
        traffic = Traffic(desk.page, Keyring.load(Path(desk.state) / "stream-keys.json"))
        traffic.start()
        try:
            self._stand_at_legacy(traffic)
            traffic.phase = "moving"  # a seam here, a seam there: answers are nobody's alone
            asyncio.run(self._walk([file.read_text(encoding="utf-8") for file in self._stack.playbooks]))
            self._await_answers(traffic, "bus")
            self._kill_workers(traffic, desk)
            self._teller.step("people leave, each with the answer that is still to come")
        finally:
            traffic.stop()
        verdict = judge(
            journal=self._stack.journal,
            asked=traffic.asked,
            evidence=asyncio.run(self._seen()),
            seconds=time.monotonic() - self._began,
        )
        self._teller.result(f"{len(traffic.asked)} requests; {verdict.unknown} were told that nobody can know")
        if keep:
            self._keep(desk)
        return verdict

    def _keep(self, desk: Desk) -> None:
        playbooks = self._stack.playbooks[0].parent
        self._teller.wait(
            f"\nThe desk is at {desk.page}: ask it something, have a report written, see its steps as they happen."
            f"\nThe dashboard is at {desk.control}, the operator's token is {desk.token}"
            f"\nIts routes are in {desk.routes}, its playbooks in {playbooks}, the bus is {self._where}"
        )

    def _prepare(self) -> Desk:
        stack = self._stack
        self._teller.step("A documentation desk: page -> agent -> search, fetch, summarise, write a report")
        passages = stack.index()
        self._teller.result(f"{passages:,} passages of Python's own documentation indexed")
        asyncio.run(self._touch_bus())
        self._teller.result(self._broker())
        stack.begin_worker()
        stack.begin_worker()
        desk = stack.start_services()
        stack.begin_route_worker(desk)
        self._teller.result(f"4 services up, crossfade proxy in front of them; people ask at {desk.page}")
        return desk

    def _broker(self) -> str:
        if self._stack.bus.startswith("embedded:"):
            return "embedded broker up: a real nats-server on a directory"
        return f"broker {self._where}, prefix {self._stack.prefix}: what the demo makes there stays"

    @property
    def _where(self) -> str:
        return hide_credentials(self._stack.bus)

    def _stand_at_legacy(self, traffic: Traffic) -> None:
        self._teller.step("legacy: three functions inside the agent, and two routes: GET /search, POST /reports")
        self._await_answers(traffic, "legacy", _FIRST)

    async def _walk(self, playbooks: list[str]) -> None:
        """Put the playbooks in force; from here on `crossfade control` moves the seams, and nobody else does."""
        async with self._bus() as bus:
            walk = Walk(bus, self._subjects)
            for text in playbooks:
                self._describe(await walk.apply(text))
            self._teller.step("the controller looks each second, and moves what its evidence lets through")
            seams = await walk.follow(self._tell_move, seconds=_WALK)
            self._ways = {
                seam: Way(status=progress.status, reason=progress.reason, moves=self._moves[seam])
                for seam, progress in seams.items()
            }
            for seam, way in self._ways.items():
                if way.status != "done":
                    self._teller.result(f"{seam} is {way.status} at {way.stage}: {way.reason}")
            await self._retire(walk)

    async def _retire(self, walk: Walk) -> None:
        """Lead the legacy code out where the way is done: people do that, so no playbook does."""
        done = [seam for seam, way in self._ways.items() if way.status == "done"]
        quiet = f"{_QUIET.seconds} s"
        self._teller.step(f"crossfade migrate retire: no legacy hit for {quiet} at bus, and for {quiet} as a tripwire")
        gone, held = await walk.retire(done, self._tell_move, period=_QUIET, seconds=_RETIRE)
        for seam, deletion in gone.items():
            self._ways[seam] = replace(self._ways[seam], status="retired")
            place = deletion.place.replace(f"{self._stack.work}/", "")
            self._teller.result(f"{seam}, acknowledged. {place}: {deletion.what}")
        for seam, why in held.items():
            self._ways[seam] = replace(self._ways[seam], reason=why)
            self._teller.result(f"{seam} is not retired: {why}")

    def _describe(self, playbook: Playbook) -> None:
        self._teller.step(f"crossfade migrate apply {playbook.name}: {', '.join(playbook.seams)}")
        for step in playbook.steps:
            gate, abort = "; ".join(asked(step.gate)), "; ".join(asked(step.abort))
            ahead = f"goes on when {gate}" if gate else "the last step"
            self._teller.result(f"{step}: {ahead}. Goes back when {abort}")

    def _tell_move(self, move: Moved) -> None:
        self._moves[move.seam].append(move)
        back = " BACK" if move.ruling == "rollback" else ""
        self._teller.result(f"{move.seam}{back} to {move.to}: {move.reason}")

    def _kill_workers(self, traffic: Traffic, desk: Desk) -> None:
        """Kill the routes' worker first: until nobody can know what became of its report, the others die.

        Killed is only a worker in the middle of what has reached the bus; that there are enough of them is seen to.
        """
        stack, on_bus = self._stack, {seam for seam, way in self._ways.items() if way.stage in _ON_BUS}
        if routes := [seam for seam in (LOOK_UP, ORDER) if seam in on_bus]:
            self._teller.step(f"kill -9 the proxy's worker in the middle of {' and '.join(routes)}")
            self._kill(stack.route_workers, partial(self._on_routes, routes))
            stack.begin_route_worker(desk)
        stack.begin_worker()
        stack.await_workers()
        read = SEARCH if SEARCH in on_bus else SUMMARISE
        kills = ((read, "a read: another worker runs it"), (REPORT, "unsafe: nobody starts it again"))
        for seam, promise in kills:
            if seam in on_bus:
                self._teller.step(f"kill -9 a worker in the middle of {seam} ({promise})")
                self._kill(stack.workers, partial(self._in_function, seam))
        self._await_answers(traffic, "bus")

    def _on_routes(self, routes: Sequence[str], _pid: int) -> str:
        """What the one worker of the routes waits for: the services' journal shows it begun and not ended."""
        caught = [open_call(self._stack.journal, _ASKED[seam][0], request=_ASKED[seam][1]) for seam in routes]
        return " and ".join(caught) if all(caught) else ""

    def _in_function(self, seam: str, pid: int) -> str:
        return open_call(self._stack.journal, _TOOLS[seam], pid=pid)

    def _kill(self, workers: list[subprocess.Popen[str]], in_flight: Callable[[int], str]) -> None:
        kill, caught = kill_in_mid_call(workers, in_flight)
        if kill is None:
            self._misses += 1
            self._teller.result("no call in flight could be caught: this run proves nothing")
            return
        self._kills.append(kill)
        self._teller.result(f"worker {kill.pid} died while it served {caught}")

    def _await_answers(self, traffic: Traffic, phase: str, enough: Mapping[Kind, int] = _AFTER) -> None:
        traffic.phase = phase
        if not traffic.wait_for(enough, seconds=_SLOW):
            failures = {item.failure for item in traffic.asked if item.failure}
            raise DemoFailedError(f"too few answers at stage {phase}: {sorted(failures)[:3] or 'people still wait'}")
        answers, looked_up, reports = (traffic.answered(phase, kind) for kind in enough)
        self._teller.result(f"{answers} answers, {looked_up} searches, {reports} reports")

    async def _touch_bus(self) -> None:
        async with self._bus():
            pass

    async def _seen(self) -> Evidence:
        async with self._bus() as bus:
            return Evidence(
                ways=self._ways,
                kills=self._kills,
                missed_kills=self._misses,
                routed=await self._routed(bus),
                observed=sum([1 async for _ in bus.read(self._subjects.observations())]),
                verdicts={seam: dict(counts) for seam, counts in (await self._compared(bus)).items()},
                regression=self._stack.regression,
            )

    async def _routed(self, bus: Bus) -> dict[str, int]:
        counted: Counter[str] = Counter()
        async for stored in bus.read(self._subjects.call_filter("result")):
            if stored.event.type == answer_type("http", "value"):
                counted[stored.event.get("seam") or ""] += 1
        return dict(counted)

    async def _compared(self, bus: Bus) -> dict[str, Counter[str]]:
        counted: dict[str, Counter[str]] = {seam: Counter() for seam in SEAMS}
        async for stored in bus.read(self._subjects.verdicts()):
            payload: dict[str, Any] = json.loads(stored.event.data or b"{}")
            counted[payload["seam"]][payload["verdict"]] += 1
        return counted

    @asynccontextmanager
    async def _bus(self) -> AsyncGenerator[Bus]:
        bus = open_bus(self._stack.bus, BusSettings(prefix=self._stack.prefix, client_name="crossfade demo"), report)
        try:
            await bus.open()
            yield bus
        finally:
            await bus.close()
