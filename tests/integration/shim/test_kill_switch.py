"""Invariant 11: never connected is legacy, whatever code or file says; CROSSFADE_OFF needs no broker."""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
import threading
import time

import pytest

from crossfade.shim import BusError, ConfigurationError, current_call, tool
from crossfade.shim import connect as shim_connect
from crossfade.shim.config import Config, load_config
from integration.shim import kit
from support.nats_server import free_port


def declare(stage="bus"):
    @tool("web.search", effects="none", stage=stage, timeout=5)
    def search() -> str:
        return "bus" if current_call() else "body"

    return search


def test_never_connected_is_legacy(tmp_path, monkeypatch):
    """Code says bus, the file says bus, the environment names a broker: nobody called ``connect``."""
    (tmp_path / "crossfade.toml").write_text('bus = "memory://x"\n[seams."web.search"]\nstage = "bus"\n')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_BUS", "memory://y")
    assert load_config().bus == "memory://y"
    search = declare()
    assert search() == "body"
    assert search.__crossfade_seam__.route is None
    assert kit.own_threads() == []


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_off_forces_legacy_in_this_process(connect, monkeypatch, value, work):
    """Code says bus, a worker serves, live state says bus: the body answers."""
    monkeypatch.setenv("CROSSFADE_OFF", value)
    search = declare()
    connection = connect()
    work(connection, search)
    kit.set_live(connection, "web.search", {"stage": "bus", "effects": "none"})
    kit.until(lambda: "web.search" in connection.runtime._live)
    assert search() == "body"
    assert search.__crossfade_seam__.route is None


def test_off_needs_no_broker(monkeypatch, prefix, counts):
    """Nobody listens where the bus should be."""
    monkeypatch.setenv("CROSSFADE_OFF", "1")
    search = declare()
    with shim_connect(f"nats://127.0.0.1:{free_port()}", config=Config(prefix=prefix), wait=0.1):
        assert search() == "body"


def test_not_off_diverts(connect, monkeypatch, work):
    """The control: the same process without the switch takes the bus."""
    monkeypatch.setenv("CROSSFADE_OFF", "0")
    search = declare()
    work(connect(), search)
    assert search() == "bus"


def test_an_unclear_switch_is_refused(connect, monkeypatch):
    """A kill switch is never guessed."""
    monkeypatch.setenv("CROSSFADE_OFF", "maybe")
    with pytest.raises(ConfigurationError, match="CROSSFADE_OFF"):
        connect()


def test_rollback_reaches_a_running_process_at_once(own_server, connect, work, note):
    """Live state back to legacy: the next calls are answered by the body."""
    search = declare()
    connection = connect(own_server.url)
    work(connection, search)
    assert search() == "bus"
    began = time.monotonic()
    kit.set_live(connection, "web.search", {"stage": "legacy"})
    kit.until(lambda: search() == "body", timeout=3)
    note(f"rollback reached this process after {(time.monotonic() - began) * 1000:.0f} ms")


def test_rollback_of_a_stopped_broker_is_not_needed(own_server, connect, work, counts):
    """The broker is gone: each call is provably not sent, so the body answers without waiting for the deadline."""
    search = declare()
    connection = connect(own_server.url)
    work(connection, search)
    assert search() == "bus"
    own_server.stop()
    kit.until(lambda: not connection.connected)
    began = time.monotonic()
    assert [search() for _ in range(20)] == ["body"] * 20
    assert time.monotonic() - began < 1
    assert counts.get("fallback", reason="BusUnavailableError") == 20


def test_closing_is_legacy_again(connect, work):
    """connect, close, connect: each time the seam follows."""
    search = declare()
    with connect() as connection:
        assert search.__crossfade_seam__.route is not None
    assert search() == "body"
    assert not connection.connected
    connection.close()
    with pytest.raises(ConfigurationError, match="closed"):
        _ = connection.runtime
    again = connect()
    work(again, search)
    assert search() == "bus"


def test_a_seam_declared_after_connecting_follows_its_policy(connect, work):
    """A module that is imported later is no exception."""
    connection = connect()
    search = declare()
    kit.until(lambda: search.__crossfade_seam__.route is not None)
    work(connection, search)
    assert search() == "bus"


def test_a_second_connect_returns_the_first_or_refuses(connect, prefix):
    """One connection per process; another bus is an error that names the first without its password."""
    config = Config(prefix=prefix)
    first = connect()
    assert shim_connect(f"memory://{prefix}", config=config) is first
    with pytest.raises(ConfigurationError, match="close that connection first"):
        shim_connect("memory://other", config=config)


def test_a_required_second_connect_is_not_satisfied_by_a_broken_first(prefix, counts):
    """``required`` holds whoever connected first; the first connection lives on."""
    url, config = f"nats://127.0.0.1:{free_port()}", Config(prefix=prefix)
    with shim_connect(url, config=config, wait=0.1) as first:
        with pytest.raises(BusError):
            shim_connect(url, config=config, wait=0.2, required=True)
        assert first.runtime.url == url


def test_a_reloaded_module_leaves_no_seam_on_the_bus(connect, tmp_path, monkeypatch):
    """References to the function from before the reload go legacy: no policy change would reach them any more."""
    (tmp_path / "reloaded_tools.py").write_text(
        "from crossfade.shim import tool\n"
        "@tool('web.reloaded', effects='none', stage='bus', timeout=1)\n"
        "def search() -> str:\n    return 'body'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("reloaded_tools")
    connect()
    old = module.search
    assert old.__crossfade_seam__.route is not None
    new = importlib.reload(module).search
    kit.until(lambda: new.__crossfade_seam__.route is not None)
    assert old() == "body"


def test_an_interrupted_caller_gives_its_call_up(connect, work, counts):
    """Ctrl-C in a plain caller and a cancelled task raise at once; what comes later is counted as late."""
    release, began = threading.Event(), threading.Semaphore(0)

    @tool("slow.one", effects="none", stage="bus", timeout=20)
    def slow() -> str:
        began.release()
        assert release.wait(kit.SOON)
        return "late"

    @tool("slow.atwo", effects="none", stage="bus", timeout=20)
    async def aslow() -> str:
        return slow.__crossfade_seam__.function()

    async def main():
        task = asyncio.create_task(aslow())
        await asyncio.to_thread(began.acquire)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    connection = connect()
    work(connection, slow, aslow)
    asyncio.run(main())

    def interrupt():
        began.acquire()
        main_thread = threading.main_thread().ident
        kit.until(lambda: sys._current_frames()[main_thread].f_code.co_name == "wait")  # in Future.result
        signal.pthread_kill(main_thread, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        slow()
    kit.until(lambda: not connection.runtime.calls._asked)
    release.set()
    kit.until(lambda: counts.get("late") == 2)
