"""One side against itself: on a share of shadow runs, where that does nothing, and never as evidence."""

from __future__ import annotations

import itertools
import json

import pytest

from crossfade.shim import handler, hooks, tool
from crossfade.shim.seam import registry
from crossfade.shim.services import legacy_of, services
from integration.shim import kit


@pytest.fixture(autouse=True)
def declared(monkeypatch):
    """What a test declares beside seams is forgotten after it."""
    monkeypatch.setattr(registry, "_handlers", {})


def compared(connection, n, source="noise"):
    """The first ``n`` comparisons from ``source``."""

    def found():
        payloads = [json.loads(event.data) for event in kit.read(connection, "{p}v.>")]
        return len(wanted := [payload for payload in payloads if payload["source"] == source]) >= n and wanted

    return kit.until(found, what=f"no {n} of {source}")


def serve(work, connection, *functions, **options):
    worker = work(connection, *functions, **options)
    kit.until(lambda: worker.ready)


def counted(name, reason):
    return hooks.report.hooks.get(name, seam="web.drawn", reason=reason)


def declare(legacy, new, effects="none"):
    """A seam whose body answers what ``legacy`` gives next, and its handler."""

    @tool("web.drawn", effects=effects, stage="shadow")
    def drawn(n: int) -> dict[str, int]:
        return {"n": n, "id": next(legacy)}

    if new is not None:

        @handler("web.drawn")
        def newer(n: int) -> dict[str, int]:
            return {"n": n, "id": next(new)}

    return drawn


def test_the_body_runs_once_more_beside_its_handler(connect, work):
    """Against the recorded answer, as the handler is; what only the code makes differ is not in it."""
    drawn = declare(itertools.count(), itertools.repeat(-1))
    connection = connect(web__drawn={"noise": 1.0})
    serve(work, connection, drawn)
    drawn(1)
    [noise] = compared(connection, 1)
    [raw] = compared(connection, 1, "shadow")
    assert (noise["verdict"], noise["handler"]) == ("mismatch", "self")
    assert [difference["path"] for difference in noise["differences"]] == ["$.id"]
    assert (noise["differences"][0]["legacy"], noise["differences"][0]["bus"]) == ("0", "1")
    assert raw["differences"][0]["bus"] == "-1"
    assert noise["callid"] == raw["callid"]


def test_where_there_is_only_a_handler_it_is_compared_with_itself(connect, work, monkeypatch):
    """A worker without the legacy code says whose noise it is; legacy's answer has no part in it."""
    drawn = declare(itertools.repeat(7), itertools.count(100))
    connection = connect(web__drawn={"noise": 1.0, "effects": "none"})
    monkeypatch.setattr("crossfade.shim.shadowing.legacy_of", lambda service, registry: None)
    serve(work, connection, drawn)
    drawn(1)
    [noise] = compared(connection, 1)
    assert noise["handler"].endswith("newer")
    assert (noise["differences"][0]["legacy"], noise["differences"][0]["bus"]) == ("100", "101")


def test_a_body_that_cannot_run_here_is_nobody(connect):
    """A method without ``bind`` has nothing to run on."""

    class Desk:
        @tool("web.drawn", effects="none")
        def drawn(self, n: int) -> int:
            return n

    @handler("web.drawn")
    def newer(n: int) -> int:
        return n

    assert Desk
    connect()
    [service] = services(registry)
    assert legacy_of(service, registry) is None


@pytest.mark.parametrize("setting", [{"noise": 1.0}, {"repeat": 3}])
def test_what_is_not_known_to_do_nothing_does_not_run_again(connect, work, setting):
    """An idempotent seam is compared once, and that it was not done is counted."""
    runs = itertools.count()
    drawn = declare(itertools.repeat(0), runs, effects="idempotent")
    connection = connect(web__drawn=setting)
    serve(work, connection, drawn)
    drawn(1)
    compared(connection, 1, "shadow")
    [name] = setting
    kit.until(lambda: counted("skipped", f"{name}-effects"))
    assert next(runs) == 1


def test_nothing_runs_again_unless_it_is_asked_for(connect, work):
    """The default share is none, and a share takes the calls that it would take anywhere."""
    runs = itertools.count()
    drawn = declare(runs, itertools.repeat(0))
    connection = connect()
    serve(work, connection, drawn)
    drawn(1)
    compared(connection, 1, "shadow")
    drawn(2)
    compared(connection, 2, "shadow")
    assert next(runs) == 2
    assert hooks.report.hooks.get("noise") == 0


def test_a_body_that_ends_its_process_costs_one_sample(connect, work):
    """The comparison stands; the second run's error is what that side answered."""

    def dying():
        yield 0
        raise SystemExit

    drawn = declare(dying(), itertools.repeat(0))
    connection = connect(web__drawn={"noise": 1.0})
    serve(work, connection, drawn)
    drawn(1)
    [noise] = compared(connection, 1)
    assert noise["differences"][0]["kind"] == "outcome"
    assert [raw["verdict"] for raw in compared(connection, 1, "shadow")] == ["match"]


def test_a_model_is_asked_as_often_as_the_policy_says(connect, work):
    """Two good answers of three match, with what the runs amount to beside the verdict."""
    drawn = declare(itertools.repeat(0), itertools.cycle([0, 9, 0]))
    connection = connect(web__drawn={"repeat": 3})
    serve(work, connection, drawn)
    drawn(1)
    [found] = compared(connection, 1, "shadow")
    assert found["verdict"] == "match"
    assert found["repeated"] == {
        "runs": 3, "matched": 2, "structure": 2, "pairs": 2, "varied": 2, "asked": 0, "flipped": 0,
    }  # fmt: skip
