"""One loop per process however it is used, and ends of a process that leave nothing running and nothing uncounted."""

from __future__ import annotations

import json
import signal
import time

import pytest

from integration.shim import kit


def values(bus, n):
    """What was observed, once there are ``n``."""
    return sorted(json.loads(event.data)["value"] for event in kit.observed(bus, n))


def test_one_loop_however_many_connect(app):
    """Threads, coroutines and modules that each call connect share one thread, one socket, one instance."""
    code = """
        import asyncio
        warnings.simplefilter("error")
        joined = []
        threads = [threading.Thread(target=lambda: joined.append(join(required=True))) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]

        async def main():
            return [join(required=True), *await asyncio.gather(*(asyncio.to_thread(join) for _ in range(4)))]

        joined += asyncio.run(main())
        assert len({id(one) for one in joined}) == 1
        assert loops() == ["crossfade"]
        before = threading.active_count()
        seen(1)
        joined[0].close()
        joined[3].close()
        assert loops() == []
        assert [thread.name for thread in threading.enumerate() if "crossfade" in thread.name] == []
    """
    assert kit.finish(app(code)) == ("", "")


def test_connecting_again_after_closing(app, bus):
    """Each connection is an instance of its own; seams follow the one there is."""
    code = """
        for n in range(3):
            with join(required=True):
                assert seen(n) == n
                assert loops() == ["crossfade"]
            assert seen(99) == 99
            assert loops() == []
    """
    assert kit.finish(app(code)) == ("", "")
    assert values(bus, 3) == [0, 1, 2]


@pytest.mark.parametrize(
    ("end", "status"),
    [
        ("sys.exit(3)", 3),
        ("raise RuntimeError('unhandled')", 1),
        ("threading.Thread(target=lambda: 1/0).start()", 0),
        ("import asyncio; asyncio.run(asyncio.sleep(0))", 0),
        (
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(4)); os.kill(os.getpid(), 15); time.sleep(9)",
            4,
        ),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", -signal.SIGINT),
    ],
    ids=["exit", "unhandled", "a thread's error", "asyncio", "SIGTERM handled", "SIGINT"],
)
def test_an_orderly_end_flushes(app, bus, end, status):
    """Every observation is there, and the process ends within the bound."""
    process = app(f"import signal\njoin(required=True)\n[seen(n) for n in range(50)]\n{end}\n")
    began = time.monotonic()
    process.communicate(timeout=20)
    assert process.returncode == status
    assert time.monotonic() - began < 10
    assert values(bus, 50) == list(range(50))


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), 15); time.sleep(9)", "os.kill(os.getpid(), 9)"])
def test_a_sudden_end_loses_only_what_was_buffered(app, bus, end):
    """No code of ours runs then: what was published before is there, the last moments' observations may not be."""
    process = app(
        f"""
        from crossfade.shim import counters
        join(required=True)
        [seen(n) for n in range(50)]
        while counters.get("observed") < 50:
            time.sleep(0.01)
        time.sleep(0.2)  # until the client has written what it buffers
        [seen(n) for n in range(100, 150)]
        {end}
        """
    )
    process.communicate(timeout=20)
    found = values(bus, 50)
    assert found[:50] == list(range(50))
    assert set(found[50:]) <= set(range(100, 150))


def test_what_an_exit_cannot_send_is_counted(app, prefix):
    """The broker is away: the process ends within the bound, and the count says how many were lost."""
    process = app(
        """
        import atexit
        from crossfade.shim import counters
        from crossfade.adapters import memory
        connection = shim.connect("memory://here", required=True)
        memory.broker("here").stop()
        [seen(n) for n in range(20)]
        began = time.monotonic()
        connection.close()
        print(counters.get("dropped", reason="exit"), time.monotonic() - began < 3)
        """
    )
    assert kit.finish(process)[0].split() == ["20", "True"]


def test_a_call_in_flight_ends_when_its_connection_closes(app):
    """Other threads' calls are told, not left hanging: idempotent ones run their bodies."""
    code = """
        connection = join(required=True)  # nobody serves
        answers = []
        threads = [threading.Thread(target=lambda: answers.append(diverted())) for _ in range(4)]
        [thread.start() for thread in threads]
        time.sleep(0.2)
        began = time.monotonic()
        connection.close()
        [thread.join(5) for thread in threads]
        assert answers == ["body"] * 4, answers
        assert time.monotonic() - began < 5
        assert loops() == []
    """
    assert kit.finish(app(code)) == ("", "")


@pytest.mark.slow
def test_a_blocked_loop_does_not_keep_the_process(app):
    """Closing at exit is bounded even when the loop is blocked by somebody's callback."""
    code = """
        connection = join(required=True)
        connection.runtime.thread.loop.call_soon_threadsafe(time.sleep, 60)
        time.sleep(0.1)
    """
    process = app(code)
    began = time.monotonic()
    process.communicate(timeout=40)
    assert time.monotonic() - began < 20
