"""Looking at a store's server, and stopping it, without touching anything else."""

from __future__ import annotations

import os
import subprocess

import nats
import pytest

from crossfade.adapters._embedded import processes
from crossfade.adapters._embedded import store as stores
from crossfade.adapters.embedded import ensure_server, status, stop
from crossfade.shim.errors import BusUnavailableError
from integration.embedded.observed import keepers_of, paused, servers_on, until


def test_a_store_that_never_had_a_server_is_not_running(store):
    """Asking starts nothing and creates nothing."""
    found = status(store)
    assert (found.running, found.answering, found.pid, found.port, found.store_bytes) == (False, False, None, None, 0)
    assert found.idle == 60
    assert not store.exists()
    assert stop(store) is False


async def test_a_running_server_is_described(store):
    """Process, port, version, clients, bytes, age: what `crossfade bus status` shows."""
    address = ensure_server(store, idle=30)
    client = await nats.connect(address.url)
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.jetstream().publish("s", b"x" * 10_000)
    found = status(store)
    await client.close()
    assert found.running
    assert found.answering
    assert [found.pid] == servers_on(store)
    assert (found.port, found.connections, found.idle, found.version) == (address.port, 1, 30, "2.15.1")
    assert found.store_bytes > 10_000
    assert 0 <= found.uptime < 60


def test_stop_ends_the_server_and_its_keeper(store):
    """After stop nothing runs on the store, and it can be started again."""
    ensure_server(store)
    assert stop(store)
    assert not servers_on(store)
    until(lambda: not keepers_of(store))
    assert not status(store).running
    ensure_server(store)


def test_a_paused_server_is_not_killed_by_stop(store):
    """Nothing stronger than SIGTERM is ever sent; the error says how to let the server go on."""
    ensure_server(store)
    pid = processes.server_pid(store)
    with paused(pid), pytest.raises(BusUnavailableError, match=f"kill -CONT {pid}"):
        stop(store, timeout=0.3)
    until(lambda: not servers_on(store))  # the SIGTERM was waiting for it


def test_a_reused_pid_is_never_signalled(store):
    """A stale pid file that names an innocent process: it is not believed, shown or signalled."""
    stores.create(store)
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        (store / "lock").touch()
        (store / "server.pid").write_text(str(innocent.pid))
        (store / "keeper.lock").write_text(str(innocent.pid))
        assert status(store).pid is None
        assert stop(store) is False
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()


def test_a_pid_that_changes_hands_before_the_signal_is_left_alone(store):
    """The check comes after the process is held fast: what is not ours any more gets no signal."""
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        assert processes.terminate(innocent.pid, lambda: False) is False
        assert innocent.poll() is None
    finally:
        innocent.kill()
        innocent.wait()
    assert processes.terminate(innocent.pid, lambda: True) is False  # gone: no error


def test_without_pidfd_and_proc_the_server_is_still_known(store, monkeypatch):
    """macOS has neither: the command line says whose process it is."""
    ensure_server(store)
    server, keeper = processes.server_pid(store), processes.keeper_pid(store)
    monkeypatch.setattr(processes, "has_open", processes._has_open_by_ps)
    monkeypatch.delattr(os, "pidfd_open")
    assert (processes.server_pid(store), processes.keeper_pid(store)) == (server, keeper)
    assert not processes._has_open_by_ps(os.getpid(), store / "lock")
    assert stop(store)
    assert not servers_on(store)
