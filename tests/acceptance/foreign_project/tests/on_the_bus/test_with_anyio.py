import anyio
import pytest
from helpdesk import tools
from helpdesk.tickets import Priority

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio"


async def test_in_a_task_group(bus, stage):
    stage("tickets.classify", "bus")
    found = []

    async def classify(title):
        found.append(await tools.classify(title))

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(classify, "fire")

    assert found == [Priority.HIGH] * 5
    assert len(bus.calls("tickets.classify")) == 5


async def test_a_task_is_awaited(bus, stage):
    stage("desk.digest", "bus")

    task = await tools.digest.asubmit("printer")

    with anyio.fail_after(5):
        assert await task.aresult() == "Printer on fire, Printer out of paper"
