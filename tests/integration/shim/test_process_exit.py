"""Invariant 14 at the ends of a process: flushed within a bound, fork-safe, nothing left running."""

from __future__ import annotations

import signal
import textwrap
import threading
import time
from pathlib import Path

import pytest

from crossfade.shim import tool
from integration.shim import kit

PROGRAM = """
    import os, sys, threading, time, warnings
    warnings.simplefilter("error")
    from crossfade.shim import connect, counters, current_call, tool
    from crossfade.shim.config import Config
    from crossfade.shim.seam import registry

    @tool("web.search", effects="none", stage="observe")
    def search(n: int) -> int:
        return n

    @tool("web.diverted", effects="none", stage="bus", timeout=60)
    def diverted() -> str:
        return "bus" if current_call() else "body"

    def join(**options):
        return connect(sys.argv[1], config=Config(prefix=sys.argv[2]), **options)
"""


def program(code, own_server, prefix, tmp_path):
    whole = textwrap.dedent(PROGRAM) + textwrap.dedent(code)
    return kit.python(whole, own_server.url, prefix, folder=tmp_path)


def test_observations_are_flushed_when_the_interpreter_exits(own_server, connect, prefix, tmp_path):
    """The last call was a moment before the end of the script: every one of 500 is there, and nothing was said."""
    code = """
        join(required=True)
        for n in range(500):
            search(n)
    """
    assert kit.finish(program(code, own_server, prefix, tmp_path)) == ("", "")
    assert len(kit.observed(connect(own_server.url), 500)) == 500


def test_whoever_leaves_at_once_is_not_taken_for_there(connect, broker):
    """Having read a live policy it would report that it follows: never after its goodbye, or moves wait for it."""

    @tool("web.brief", effects="none")
    def brief() -> None: ...

    with connect() as first:
        kit.set_live(first, "web.brief", {"stage": "observe"})
    broker.delay("put", 0.05)  # the first report is under way when the policy comes
    broker.delay("delete", 0.2)  # and the next one would be before we are gone
    with connect():
        brief()
    broker.delay("delete", 0)
    there = connect()
    known = kit.on_loop(there, there.runtime.policies.instances.known())
    assert {instance.instance for instance in known} <= {there.runtime.instance}


@pytest.mark.parametrize("how", ["sys.exit(0)", "raise SystemExit", "1/0"])
def test_however_the_script_ends(own_server, connect, prefix, tmp_path, how):
    """exit, SystemExit and an error at the top flush alike."""
    process = program(f"\njoin(required=True)\nsearch(1)\n{how}\n", own_server, prefix, tmp_path)
    process.communicate(timeout=20)
    assert process.returncode == (1 if "/" in how else 0)
    assert len(kit.observed(connect(own_server.url), 1)) == 1


@pytest.mark.parametrize("broker", ["stopped", "paused"])
def test_exit_is_bounded_when_the_broker_is_away(own_server, prefix, tmp_path, broker, note):
    """What cannot be sent is given up within seconds, in silence but counted."""
    code = """
        connection = join(required=True)
        print("ready", flush=True)
        sys.stdin.readline()
        for n in range(500):
            search(n)
        import atexit
        atexit.register(lambda: print("exiting", flush=True))  # registered last, so it runs first
    """
    process = program(code, own_server, prefix, tmp_path)
    assert process.stdout.readline() == "ready\n"
    own_server.stop() if broker == "stopped" else own_server.pause()
    process.stdin.write("go\n")
    process.stdin.flush()
    assert process.stdout.readline() == "exiting\n"
    began = time.monotonic()
    kit.finish(process)
    took = time.monotonic() - began
    if broker == "paused":
        own_server.resume()
    note(f"exit with the broker {broker}: {took:.2f} s")
    assert took < 4


def test_a_waiting_thread_does_not_keep_the_process(own_server, prefix, tmp_path):
    """A daemon thread waits for an answer nobody gives: the process ends all the same."""
    code = """
        join(required=True)
        threading.Thread(target=diverted, daemon=True).start()
        time.sleep(0.3)
    """
    began = time.monotonic()
    kit.finish(program(code, own_server, prefix, tmp_path))
    assert time.monotonic() - began < 10


def test_sigterm_ends_a_process_at_once(own_server, prefix, tmp_path):
    """No handler of ours is in the way."""
    process = program(
        '\njoin(required=True)\nprint("ready", flush=True)\ntime.sleep(60)\n', own_server, prefix, tmp_path
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=5)
    assert process.returncode == -signal.SIGTERM


def test_a_forked_child_may_connect_for_itself(own_server, connect, prefix, tmp_path):
    """The parent's connection stays the parent's: both end well, and no observation comes twice."""
    code = """
        join(required=True)
        search(1)
        pid = os.fork()
        if pid == 0:
            with join(required=True) as mine:
                assert search.__crossfade_seam__.route is not None
                search(3)
            assert search(2) == 2  # closed again: legacy
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        search(4)
    """
    assert kit.finish(program(code, own_server, prefix, tmp_path)) == ("", "")
    seen = sorted(event.data for event in kit.observed(connect(own_server.url), 3))
    assert len(seen) == 3
    assert sum(b'"value": 2' in data for data in seen) == 0


def test_a_child_forked_while_others_hold_our_locks_does_not_hang(own_server, prefix, tmp_path):
    """The loop's thread counts and declares at any moment; its locks do not exist in the child."""
    code = """
        from crossfade.shim import connection
        join(required=True)
        held = threading.Barrier(2)

        def hold():
            with counters._lock, registry._lock, connection._lock:
                held.wait()
                time.sleep(60)

        threading.Thread(target=hold, daemon=True).start()
        held.wait()
        pid = os.fork()
        if pid == 0:
            counters.count("child")
            tool("child.tool", effects="none")(lambda: None)
            join(required=True).close()
            os._exit(7)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                print(os.waitstatus_to_exitcode(status), flush=True)
                break
            time.sleep(0.02)
        else:
            os.kill(pid, 9)
            print("hung", flush=True)
        os._exit(0)
    """
    out, _ = kit.finish(program(code, own_server, prefix, tmp_path))
    assert out == "7\n"


def test_closing_leaves_no_thread_and_no_descriptor(own_server, connect):
    """connect and close, again and again."""

    @tool("web.search", effects="none", stage="observe")
    def search() -> None: ...

    def descriptors():
        return len(list(Path("/dev/fd").iterdir()))

    connect(own_server.url).close()
    before, threads = descriptors(), threading.active_count()
    for _ in range(5):
        with connect(own_server.url):
            search()
        assert kit.own_threads() == []
    assert threading.active_count() == threads
    assert descriptors() <= before


def test_closing_flushes(own_server, connect):
    """What was observed before ``close`` is there."""

    @tool("web.search", effects="none", stage="observe")
    def search(n: int) -> None: ...

    with connect(own_server.url):
        for n in range(300):
            search(n)
    assert len(kit.observed(connect(own_server.url), 300)) == 300


def test_what_cannot_be_flushed_is_counted(connect, broker, counts):
    """The bus is gone when the process closes: dropped, reason exit."""

    @tool("web.search", effects="none", stage="observe")
    def search(n: int) -> None: ...

    connection = connect()
    broker.stop()
    for n in range(10):
        search(n)
    connection.close()
    assert counts.get("dropped", reason="exit") == 10
