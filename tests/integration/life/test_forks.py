"""A forked child: nothing of the parent's connection, a connection of its own with its first call."""

from __future__ import annotations

import json
import time

import pytest

from integration.shim import kit


def instances(bus):
    """Who observed what: instance -> values."""
    found = {}
    for event in kit.read(bus, "{p}o.>"):
        payload = json.loads(event.data)
        found.setdefault(payload["instance"], []).append(payload["value"])
    return found


def test_a_child_connects_with_its_first_call_and_is_somebody_else(app, bus, worker):
    """Over the bus at once, under an instance of its own; what the parent had buffered is sent once, by the parent."""
    code = """
        join(required=True)
        seen(1)
        pid = os.fork()
        if pid == 0:
            assert loops() == []
            assert diverted() == "bus"
            seen(2)
            assert loops() == ["crossfade"]
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert diverted() == "bus"
    """
    kit.finish(app(code))
    found = kit.until(lambda: len(found := instances(bus)) == 2 and found)
    assert sorted(found.values()) == [[1], [2]]


def test_every_kind_of_call_connects_a_child(app, worker):
    """Plain, coroutine, generator, async generator and submit, each first in a child of its own."""
    code = """
        import asyncio
        join(required=True)

        async def items():
            return [item async for item in astreamed()]

        firsts = [
            diverted,
            lambda: asyncio.run(adiverted()),
            lambda: list(streamed())[0],
            lambda: asyncio.run(items())[0],
            lambda: diverted.submit().result(10),
        ]
        for first in firsts:
            pid = os.fork()
            if pid == 0:
                assert first() == "bus"
                sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, first
    """
    kit.finish(app(code))


def test_a_child_that_calls_nothing_connects_to_nothing(app, bus):
    """A fork for other purposes pays nothing: no thread, no socket."""
    code = """
        join(required=True)
        pid = os.fork()
        if pid == 0:
            time.sleep(0.2)
            assert threading.active_count() == 1
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    kit.finish(app(code))


def test_a_child_of_a_parent_that_never_connected_stays_legacy(app):
    """Nobody decided to connect."""
    code = """
        pid = os.fork()
        if pid == 0:
            assert diverted() == "body"
            assert loops() == []
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    kit.finish(app(code))


def test_threads_of_a_child_share_its_one_connection(app, worker):
    """Eight first calls at once: one loop, every answer from the bus."""
    code = """
        join(required=True)
        pid = os.fork()
        if pid == 0:
            answers, start = [], threading.Barrier(8)

            def work():
                start.wait()
                answers.append(diverted())

            threads = [threading.Thread(target=work) for _ in range(8)]
            [thread.start() for thread in threads]
            [thread.join() for thread in threads]
            assert answers == ["bus"] * 8, answers
            assert loops() == ["crossfade"]
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    kit.finish(app(code))


def test_a_child_whose_broker_is_away_waits_once_and_runs_its_bodies(app):
    """The first call is held up for about a second, no other, and both are answered."""
    code = """
        import app as application
        from crossfade.shim import connection
        joined = join(required=True)
        pid = os.fork()
        if pid == 0:
            from crossfade.adapters import nats
            real = connection._start
            connection._start = lambda url, config: real("nats://127.0.0.1:1", config)
            began = time.monotonic()
            assert diverted() == "body"
            first = time.monotonic() - began
            assert diverted() == "body"
            second = time.monotonic() - began - first
            assert first < 3 and second < 0.2, (first, second)
            sys.exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    """
    kit.finish(app(code))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_children_flush_what_they_observed(app, bus, method):
    """Children of multiprocessing leave by ``os._exit``: what they observed a moment before is there all the same."""
    code = f"""
        import multiprocessing

        def work(n):
            if "{method}" != "fork":
                join(required=True)
            seen(n)

        if __name__ == "__main__":
            if "{method}" == "fork":
                join(required=True)
            context = multiprocessing.get_context("{method}")
            children = [context.Process(target=work, args=(n,)) for n in (1, 2)]
            [child.start() for child in children]
            [child.join(20) for child in children]
            assert [child.exitcode for child in children] == [0, 0]
    """
    kit.finish(app(code))
    found = kit.until(lambda: len(found := instances(bus)) == 2 and found)
    assert sorted(found.values()) == [[1], [2]]


def test_a_forked_pool_works_over_the_bus(app, worker):
    """multiprocessing.Pool under a connected parent: every worker joins, and the pool closes at once."""
    code = """
        import multiprocessing

        if __name__ == "__main__":
            join(required=True)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                assert set(pool.map(diverted, range(8))) == {"bus"}
                pool.close()
                pool.join()
    """
    began = time.monotonic()
    kit.finish(app(code))
    assert time.monotonic() - began < 15
