"""Kill and pause everything that embedded:// consists of, for many rounds; what was acknowledged must be there.

The processes are real: applications that publish and journal each acknowledgement, the server, its keeper, and
the starters that come and go. Each start of a server looks for another one on the same data, so "never two" is
checked at every start, not sampled.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from crossfade.adapters.embedded import ensure_server, open_bus
from crossfade.shim.errors import BusUnavailableError
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from integration.embedded.observed import (
    end_everything,
    keepers_of,
    paused,
    processes_naming,
    servers_on,
    until,
    wrapper,
)

if TYPE_CHECKING:
    from collections.abc import Callable

APP = Path(__file__).with_name("embedded_app.py")
APPS = 3
HEALED = 30.0  # seconds until somebody is acknowledged something again; it takes about 0.3

# A server first writes down that it is there, then looks whether another one is: of two, one sees the other.
WITNESS = (
    'HERE="$(dirname "$0")"',
    'echo $$ >> "$HERE/starts"',
    'OTHERS=$(tail -n 8 "$HERE/starts" | grep -vx $$ | paste -sd, -)',
    'LOOK="ps -ww -o pid=,stat=,command= -p"',
    '[ -n "$OTHERS" ] && $LOOK "$OTHERS" | grep -v " Z" | grep server.conf >> "$HERE/doubles"',
)
HONEST = 'exec "$SERVER" "$@"'
# Closing what was inherited drops the lock; the unusual name hides the process from the check that comes second.
SABOTAGED = 'exec "$SERVER" -c "$(dirname "$2")/./server.conf" 3<&- 4<&- 5<&- 6<&- 7<&- 8<&- 9<&-'


@dataclass(kw_only=True)
class Verdict:
    """What a run of rounds came to."""

    did: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    doubles: list[str] = field(default_factory=list)
    acknowledged: set[str] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)
    orphans: list[int] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def wrong(self) -> str:
        """Empty when every promise was kept."""
        return "; ".join(
            f"{name}: {found}"
            for name, found in (
                ("two servers at once", self.doubles),
                ("acknowledged and gone", sorted(self.lost)[:5]),
                ("left running", self.orphans),
            )
            if found
        )


class Rounds:
    """The applications, and what is done to them and to the server they share."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.store = folder / "bus"
        self.folder = folder
        self.random = random.Random(seed)
        self.apps: list[subprocess.Popen[bytes]] = []
        self.named = 0
        self.did: Counter[str] = Counter()
        (folder / "journal").mkdir()

    def __enter__(self) -> Self:
        for _ in range(APPS):
            self.start_app()
        self.wait_for_acknowledgements()
        return self

    def __exit__(self, *_: object) -> None:
        while self.apps:
            self.end_app(self.apps[0])

    # -- the applications --------------------------------------------------------------------------------------

    def start_app(self) -> None:
        self.named += 1
        name = f"app{self.named}"
        log = (self.folder / "apps.log").open("ab")
        with log:
            self.apps.append(
                subprocess.Popen(
                    [sys.executable, APP, self.store, self.folder / "journal" / name, name], stdout=log, stderr=log
                )
            )

    def end_app(self, app: subprocess.Popen[bytes]) -> None:
        self.apps.remove(app)
        app.kill()
        app.wait()

    def acknowledged(self) -> set[str]:
        """Every id in the journals; a line that a SIGKILL cut short was not written down, so it does not count."""
        lines = [line for path in (self.folder / "journal").iterdir() for line in path.read_text().splitlines(True)]
        return {line.strip() for line in lines if line.endswith("\n")}

    def journalled(self) -> int:
        return sum(path.stat().st_size for path in (self.folder / "journal").iterdir())

    def wait_for_acknowledgements(self) -> None:
        """Until the applications together were acknowledged several events more."""
        before = self.journalled()
        until(lambda: self.journalled() > before + 40, within=HEALED)

    # -- what is done to them ----------------------------------------------------------------------------------

    def actions(self) -> list[tuple[int, Callable[[], bool]]]:
        return [
            (30, self.kill_server),
            (5, self.end_server),
            (15, self.pause_server),
            (6, self.look_for_a_paused_server),
            (12, self.kill_app),
            (8, self.pause_app),
            (10, self.kill_keeper),
            (6, self.pause_keeper),
            (10, self.kill_server_and_starter),
        ]

    def play(self, rounds: int) -> None:
        weights, acts = zip(*self.actions(), strict=True)
        for act in self.random.choices(acts, weights, k=rounds):
            if act():
                self.did[act.__name__] += 1
            else:
                self.did["nothing to act on"] += 1
            self.wait_for_acknowledgements()

    def signal_server(self, signum: signal.Signals) -> bool:
        pids = servers_on(self.store)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)
        until(lambda: not set(pids) & set(servers_on(self.store)))
        return bool(pids)

    def kill_server(self) -> bool:
        return self.signal_server(signal.SIGKILL)

    def end_server(self) -> bool:
        return self.signal_server(signal.SIGTERM)

    def pause_server(self) -> bool:
        return self.pause(servers_on(self.store))

    def look_for_a_paused_server(self) -> bool:
        """A caller that arrives while the server is paused must be refused, and must start no other."""
        pids = servers_on(self.store)
        if not pids:
            return False
        with paused(pids[0]), contextlib.suppress(BusUnavailableError):
            ensure_server(self.store, timeout=1.3)
            return False
        return True

    def kill_app(self) -> bool:
        self.end_app(self.random.choice(self.apps))
        self.start_app()
        return True

    def pause_app(self) -> bool:
        return self.pause([self.random.choice(self.apps).pid])

    def kill_keeper(self) -> bool:
        ensure_server(self.store)
        until(lambda: keepers_of(self.store))
        return self.kill(keepers_of(self.store))

    def pause_keeper(self) -> bool:
        ensure_server(self.store)
        until(lambda: keepers_of(self.store))
        return self.pause(keepers_of(self.store))

    def kill_server_and_starter(self) -> bool:
        """Whoever starts the next server is killed too, somewhere between its first and its last step."""
        self.signal_server(signal.SIGKILL)
        deadline = time.monotonic() + 1
        while time.monotonic() < deadline:
            starters = processes_naming(self.store, "_embedded.starter")
            if starters:
                time.sleep(self.random.uniform(0, 0.05))
                return self.kill(starters)
        return False

    def kill(self, pids: list[int]) -> bool:
        killed = 0
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
        return bool(killed)

    def pause(self, pids: list[int]) -> bool:
        for pid in pids[:1]:
            with paused(pid):
                time.sleep(self.random.uniform(0.02, 0.3))
        return bool(pids)


async def read_ids(store: Path) -> set[str]:
    bus = open_bus(f"embedded://{store}", BusSettings(), Counters())
    await bus.open()
    try:
        return {stored.event.id async for stored in bus.read("cfe.>")}
    finally:
        await bus.close()


async def judge(folder: Path, monkeypatch, *, rounds: int, seed: int, last_line: str = HONEST) -> Verdict:
    """Play the rounds, let everything end by itself, read back, count."""
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", str(wrapper(folder, *WITNESS, last_line)))
    began = time.monotonic()
    store = folder / "bus"
    try:
        with Rounds(folder, seed) as played:
            played.play(rounds)
        seconds = time.monotonic() - began
        found = await read_ids(store)
        ensure_server(store, idle=0.5)
        with contextlib.suppress(AssertionError):
            until(lambda: not servers_on(store), within=15)
    finally:
        orphans = end_everything(store)
    doubles = folder / "doubles"
    return Verdict(
        did=played.did,
        starts=len((folder / "starts").read_text().split()),
        doubles=doubles.read_text().splitlines() if doubles.exists() else [],
        acknowledged=played.acknowledged(),
        lost=played.acknowledged() - found,
        orphans=orphans,
        seconds=seconds,
    )


def told(verdict: Verdict, seed: int) -> str:
    did = ", ".join(f"{name} {times}" for name, times in sorted(verdict.did.items()))
    return (
        f"embedded rounds (seed {seed}): {verdict.did.total()} in {verdict.seconds:.0f} s, {verdict.starts} servers "
        f"started, {len(verdict.acknowledged)} events acknowledged, {len(verdict.lost)} lost; {did}"
    )


def check(verdict: Verdict, rounds: int) -> None:
    assert not verdict.wrong, verdict.wrong
    acted = verdict.did.total() - verdict.did["nothing to act on"]
    assert acted >= 0.8 * rounds, verdict.did
    assert verdict.did["kill_server"] >= rounds * 0.15, verdict.did
    assert verdict.starts > verdict.did["kill_server"], "killing the server did not end it"
    assert len(verdict.acknowledged) > 5 * rounds


@pytest.mark.timeout(400)
async def test_nothing_acknowledged_is_lost_and_no_second_server_ever_runs(tmp_path, monkeypatch, note):
    """40 rounds of SIGKILL and SIGSTOP on apps, server, keeper, starters: acknowledged is readable, one server."""
    verdict = await judge(tmp_path, monkeypatch, rounds=40, seed=20)
    note(told(verdict, 20))
    check(verdict, 40)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("seed", [20, 1, 2, 3, 4])
async def test_other_seeds(tmp_path, monkeypatch, note, seed):
    """200 rounds, and with other seeds."""
    verdict = await judge(tmp_path, monkeypatch, rounds=200, seed=seed)
    note(told(verdict, seed))
    check(verdict, 200)


@pytest.mark.slow
@pytest.mark.timeout(110)
async def test_without_the_inherited_lock_the_check_fails(tmp_path, monkeypatch, note):
    """Vacuity guard: with a server that drops the lock, a pause is enough for a second one, and it is seen."""
    monkeypatch.setattr(Rounds, "actions", lambda self: [(1, self.look_for_a_paused_server), (1, self.kill_server)])
    verdict = await judge(tmp_path, monkeypatch, rounds=8, seed=3, last_line=SABOTAGED)
    note(told(verdict, 3) + f"; sabotaged: {len(verdict.doubles)} times two servers")
    assert "two servers at once" in verdict.wrong
    with pytest.raises(AssertionError, match="two servers at once"):
        check(verdict, 8)
