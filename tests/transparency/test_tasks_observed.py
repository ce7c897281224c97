"""What a submitted call leaves behind where its body answers."""

from __future__ import annotations

import json

from crossfade.shim import tool
from integration.shim import kit


def test_a_submitted_call_is_observed(on_bus):
    """At observe a task leaves an observation, as a call does."""

    @tool("tasks.observed", effects="none")
    async def observed(x: int) -> int:
        return 2 * x

    connection = on_bus(observed, stage="observe")
    assert observed.submit(2).result(10) == 4
    (event,) = kit.observed(connection)
    assert json.loads(event.data)["value"] == 4
