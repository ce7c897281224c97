"""What lies on the bus becomes recorded calls; what cannot be read is counted."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

from crossfade.migrations.replay.selecting import Gathering, Selection
from crossfade.shim import hooks
from crossfade.shim.events import Event
from crossfade.shim.subjects import Subjects
from unit.migrations.replay.conftest import REDACTOR

SUBJECTS = Subjects()


async def put(bus, kind, callid, payload, **extensions):
    """One event of a call of ``web.search``."""
    types = {"observed": "tool.observed", "invoke": "tool.invoke", "result": "tool.result"}
    subject = SUBJECTS.observation("web.search")
    if kind != "observed":
        subject = SUBJECTS.call(kind, domain="tool", seam="web.search", run="r", callid=callid)
    known = {"seam": "web.search", "callid": callid, "correlationid": "r", **extensions}
    data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    await bus.publish(subject, Event(type=types[kind], source="urn:x", extensions=known, data=data))


async def gathered(bus, recording, **wanted):
    selection = Selection(seams=("web.search",), **wanted)
    await Gathering(bus, SUBJECTS, REDACTOR).gather({"web.search": "tool"}, selection, recording)
    return {call.callid: call for call in recording.selected(selection)}


OBSERVED = {"arguments": {"q": "x"}, "outcome": "value", "value": [1], "duration_ms": 20.0, "kind": "k"}


async def test_observations_are_calls(bus, recording):
    """With arguments, outcome, time and cause; what was sampled out, or is a stream's, says so."""
    began = datetime(2026, 3, 2, 9, tzinfo=UTC)
    await put(bus, "observed", "c1", {**OBSERVED, "started": began.isoformat()}, causationid="outer")
    await put(bus, "observed", "c2", {"outcome": "value", "duration_ms": 1.0})
    await put(bus, "observed", "c3", {"arguments": {}, "outcome": "value", "duration_ms": 1.0})
    found = await gathered(bus, recording)

    whole = found["c1"]
    assert (json.loads(whole.arguments), whole.outcome.value, whole.seconds) == ({"q": "x"}, [1], 0.02)
    assert (whole.begun, whole.run, whole.cause, whole.unfit) == (began.timestamp(), "r", "outer", "")
    assert (found["c2"].unfit, found["c3"].unfit) == ("sampled-out", "no-outcome")


async def test_commands_and_results_are_calls(bus, recording):
    """An answer is redacted as an observation would be; sealed arguments, and an end that nobody knows, are unfit."""
    for callid, sealed in (("c1", {}), ("c2", {"sealed": {"token": "..."}}), ("c3", {}), ("c4", {}), ("c5", {})):
        await put(bus, "invoke", callid, {"arguments": {"q": callid}, **sealed})
    answer = {"outcome": "value", "value": {"password": "p"}, "timings": {"handler_ms": 30.0, "queue_ms": 10.0}}
    for callid, ended in (("c1", answer), ("c2", answer), ("c3", {"outcome": "unknown", "reason": "overdue"})):
        await put(bus, "result", callid, ended)
    await put(bus, "result", "c4", {**answer, "items": 3})
    found = await gathered(bus, recording)

    assert found["c1"].outcome.value == REDACTOR.value({"password": "p"})
    assert (found["c1"].seconds, found["c1"].unfit) == (0.04, "")
    assert [found[f"c{n}"].unfit for n in (2, 3, 4, 5)] == ["redacted", "unknown", "no-items", "unfinished"]


async def test_what_cannot_be_read_is_counted(bus, recording):
    """One broken event costs itself."""
    await put(bus, "observed", "c1", b"nonsense")
    await put(bus, "observed", "c2", {"arguments": {}, "duration_ms": "long"})
    await put(bus, "observed", "c3", OBSERVED)

    assert set(await gathered(bus, recording)) == {"c3"}
    assert hooks.report.hooks.get("skipped", seam="web.search", reason="recorded-JSONDecodeError") == 1
    assert hooks.report.hooks.get("skipped", seam="web.search") >= 2


async def test_only_what_may_matter_is_read(bus, recording):
    """Nothing from before, but for what clocks may differ by."""
    await put(bus, "observed", "c1", OBSERVED)
    now = bus.now()

    assert set(await gathered(bus, recording, since=now + timedelta(seconds=120))) == set()
    assert len(recording) == 0
