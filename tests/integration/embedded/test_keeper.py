"""The server goes when nobody needs it, and not before."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from pathlib import Path

import nats
import pytest

from crossfade.adapters._embedded import keeper, locks, processes, starter
from crossfade.adapters._embedded import store as stores
from crossfade.adapters.embedded import ensure_server, stop
from integration.embedded.observed import keepers_of, paused, servers_on, until


def test_a_server_nobody_uses_is_stopped(store):
    """After the idle time the server ends by itself, then its keeper."""
    ensure_server(store, idle=0.4)
    assert len(keepers_of(store)) == 1
    until(lambda: not servers_on(store))
    until(lambda: not keepers_of(store))
    assert "Server Exiting" in (store / "server.log").read_text()  # asked to, not killed


async def test_a_connected_client_keeps_the_server(store):
    """In use means connected, not busy: a silent client keeps it, its leaving starts the clock."""
    address = ensure_server(store, idle=0.3)
    client = await nats.connect(address.url)
    await asyncio.sleep(1.5)  # five times the idle time: that nothing happens has no event
    assert len(servers_on(store)) == 1
    await client.close()
    until(lambda: not servers_on(store))


def test_a_server_that_is_asked_for_again_and_again_stays(store):
    """Short-lived processes between which nobody is connected count as use."""
    ensure_server(store, idle=1.0)
    pid = processes.server_pid(store)
    end = time.monotonic() + 3
    while time.monotonic() < end:
        ensure_server(store)
        assert servers_on(store) == [pid]


def test_a_server_that_does_not_answer_is_not_idle(store):
    """Unknown is not idle: time in which the server was paused does not count, and it gets no signal."""
    ensure_server(store, idle=4)
    pid = processes.server_pid(store)
    with paused(pid):
        assert keeper._in_use(store)
        time.sleep(5)
    end = time.monotonic() + 1.5  # a SIGTERM that had been waiting will have ended it by then
    while time.monotonic() < end:
        ensure_server(store)  # on a busy machine the 1.5 s may be longer than the idle time: it is in use
        assert servers_on(store) == [pid]


def test_idle_zero_means_never(store):
    """Without an idle time there is nothing to keep: no keeper runs, and one that runs leaves the server alone."""
    ensure_server(store, idle=0)
    assert not keepers_of(store)
    ensure_server(store, idle=60)
    assert len(keepers_of(store)) == 1
    ensure_server(store, idle=0)
    until(lambda: not keepers_of(store))
    assert len(servers_on(store)) == 1


def test_a_killed_keeper_is_replaced_by_the_next_caller(store):
    """SIGKILL of the keeper harms nobody; the next ensure_server starts another for the same server."""
    ensure_server(store)
    server, first = processes.server_pid(store), processes.keeper_pid(store)
    os.kill(first, signal.SIGKILL)
    until(lambda: not keepers_of(store))
    ensure_server(store)
    until(lambda: keepers_of(store))
    assert keepers_of(store) != [first]
    assert servers_on(store) == [server]


def test_a_store_has_one_keeper(store):
    """However often it is asked for, one is started, and it is known by the time the question is answered."""
    ensure_server(store)
    first = processes.keeper_pid(store)
    starter.start_keeper(store)
    assert keepers_of(store) == [first]


def test_a_server_started_while_the_keeper_was_leaving_is_kept(store, monkeypatch):
    """The starter saw this keeper alive and started no other, so the keeper looks again after letting go."""
    stores.create(store)
    server, own = locks.take_lock(store / "lock"), locks.take_lock(store / "keeper.lock")
    kept = []

    def keep(_: Path) -> None:
        kept.append(locks.take_lock(store / "keeper.lock"))
        if len(kept) == 2:
            os.close(server)

    monkeypatch.setattr("sys.argv", ["keeper", str(store), str(own)])
    monkeypatch.setattr(os, "chdir", lambda _: None)
    monkeypatch.setattr(keeper, "keep", keep)
    keeper.main()
    assert kept == [None, None], "it kept without its lock"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_the_keeper_is_small(store, note):
    """It lives as long as the server, so it may cost little memory: under 20 MB, most of it shared with any Python."""
    ensure_server(store)
    until(lambda: keepers_of(store))
    lines = Path(f"/proc/{keepers_of(store)[0]}/status").read_text().splitlines()
    resident = int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
    private = int(next(line for line in lines if line.startswith("RssAnon")).split()[1])
    note(f"embedded keeper: {resident / 1024:.1f} MB resident, {private / 1024:.1f} MB of it private")
    assert resident < 20 * 1024
    stop(store)


def test_a_server_whose_store_is_deleted_is_stopped(store):
    """Nothing that it says it has stored is; and nobody could find it any more to stop it."""
    ensure_server(store, idle=60)
    (server,), (keeper,) = servers_on(store), keepers_of(store)
    time.sleep(1.5)  # the keeper has looked once: that it did has no event
    shutil.rmtree(store)
    until(lambda: not Path(f"/proc/{server}").exists())
    until(lambda: not Path(f"/proc/{keeper}").exists())
