"""What a replay leaves on the bus is marked as one, and is nobody's live evidence."""

from __future__ import annotations

import json
from datetime import timedelta

from crossfade.migrations.evidence import Evidence
from crossfade.migrations.replay.publishing import Publishing
from crossfade.migrations.replay.running import Replayed
from crossfade.shim.comparison import Verdict
from crossfade.shim.schemas import SeamCompared
from crossfade.shim.subjects import Subjects
from unit.migrations.replay.conftest import call


def done():
    attributes = {"correlationid": "r", "tenantid": "acme", "policyrev": "3", "obsseq": "7"}
    made = call("web.search", {"q": "x"}, 1, callid="c1", run="r", attributes=attributes)
    return Replayed(call=made, verdict=Verdict(kind="match"), handler="app:search@1", seconds=0.2)


async def test_a_verdict_is_published_as_a_replays(bus):
    """With the recorded call it replays; no evidence counts it, and a second replay is not taken for the first."""
    subjects = Subjects()
    for _ in range(2):
        await Publishing(bus, subjects).tell(done())
    stored = [each async for each in bus.read(subjects.verdicts("web.search"))]
    payload = json.loads(stored[0].event.data)
    evidence = Evidence(seam="web.search", revision=3, since=bus.now() - timedelta(hours=1))

    assert len(stored) == 2
    assert (payload["source"], payload["replay"]) == ("replay", True)
    assert (stored[0].event.get("replayof"), stored[0].subject) == ("c1", subjects.verdict("web.search", tenant="acme"))
    SeamCompared.model_validate(payload)
    assert [evidence.add(each) for each in stored] == [False, False]
    assert evidence.compared == 0
