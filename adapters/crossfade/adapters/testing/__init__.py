"""Your own tests, with seams on a bus: a pytest plugin, nothing to install or start.

    # conftest.py
    pytest_plugins = ["crossfade.adapters.testing"]

    # test_tools.py
    def test_search_over_the_bus(bus, stage):
        stage("web.search", "bus")
        assert search("events") == ["events 1"]
        assert bus.calls("web.search")[0].arguments == {"query": "events"}

``bus`` is a broker in this process and the workers of whatever the test stages, new for each test; ``stage`` moves a
seam at once. In every other test ``shim.connect()`` connects to nothing, so that seams stay legacy and no test
reaches a broker it did not ask for. pytest is yours to install. (PYTEST_DONT_REWRITE: nothing here asserts, and a
conftest may import the types below before it names the plugin.)
"""

from __future__ import annotations

from crossfade.shim.errors import ConfigurationError

try:
    from ._plugin import bus, crossfade_test, pytest_configure, pytest_report_header, pytest_unconfigure, stage
except ModuleNotFoundError as error:
    if error.name != "pytest":
        raise
    raise ConfigurationError("crossfade.adapters.testing is a pytest plugin: pip install pytest") from error

from ._bus import BusFixture
from ._seen import SeenCall, SeenEvent
from ._stage import StageFixture

__all__ = [
    "BusFixture",
    "SeenCall",
    "SeenEvent",
    "StageFixture",
    "bus",
    "crossfade_test",
    "pytest_configure",
    "pytest_report_header",
    "pytest_unconfigure",
    "stage",
]
