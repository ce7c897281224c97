"""The plugin: two fixtures, and ``connect`` kept away from brokers while tests run."""

from __future__ import annotations

import base64
import contextlib
import importlib.util
import os
import threading
from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from crossfade.adapters import memory
from crossfade.shim import connection, hooks
from crossfade.shim.config import Config
from crossfade.shim.events import new_id
from crossfade.shim.seam import registry

from ._bus import BusFixture
from ._connections import lend, unconnected
from ._stage import StageFixture, Workers
from ._threads import left_behind

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from crossfade.shim.seam import Handler, Seam

_before: Final = pytest.StashKey["connection.StandIn | None"]()
_closed: Final = pytest.StashKey[str]()


# -- the whole run ---------------------------------------------------------------------------------------------


def pytest_configure(config: pytest.Config) -> None:
    """From here on ``connect`` reaches no broker; a connection made before (by a conftest's imports) is closed."""
    config.stash[_before] = connection.stand_in
    connection.stand_in = unconnected
    earlier = connection.current()
    if earlier is not None:
        config.stash[_closed] = earlier.runtime.shown_url
        earlier.close()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give ``connect`` back."""
    connection.stand_in = config.stash.get(_before, None)


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Say whom the run was disconnected from."""
    url = config.stash.get(_closed, "")
    return [f"crossfade: closed the connection to {url}, tests connect by the fixture `bus` only"] if url else []


# -- one test --------------------------------------------------------------------------------------------------


class OneTest(NamedTuple):
    """What the fixtures of one test share."""

    bus: BusFixture
    stage: StageFixture


@pytest.fixture
def crossfade_test(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneTest]:
    """Behind ``bus`` and ``stage``: a broker, this process connected to it, and nothing of either left at the end."""
    threads = set(threading.enumerate())
    with contextlib.ExitStack() as cleanup:
        cleanup.enter_context(_neutral_environment())
        cleanup.enter_context(_own_declarations())
        counts = cleanup.enter_context(_own_counts())
        broker = cleanup.enter_context(_own_broker())
        connected = cleanup.enter_context(_connected(broker))
        workers = cleanup.enter_context(_workers(connected, broker, tmp_path_factory.mktemp("crossfade-spool")))
        yield OneTest(BusFixture(connected, broker, counts), StageFixture(connected, workers, request.node.nodeid))
    left = left_behind(threads)
    if left:
        pytest.fail(f"the test left threads behind, a call was still running: {'; '.join(left)}", pytrace=False)


@pytest.fixture
def bus(crossfade_test: OneTest) -> BusFixture:
    """A bus of this test's own: looks at events, calls and verdicts, and breaks the broker on demand.

    Seams start where their code says; ``crossfade.toml`` and every ``CROSSFADE_*`` variable are out of sight.
    """
    return crossfade_test.bus


@pytest.fixture
def stage(crossfade_test: OneTest) -> StageFixture:
    """Moves a seam at once: ``stage("web.search", "canary", percent=50)``."""
    return crossfade_test.stage


@contextlib.contextmanager
def _neutral_environment() -> Generator[None]:
    """No setting of the machine or the shell, and a key of our own for secret arguments where they can be sealed."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("CROSSFADE_")]:
            patch.delenv(name)
        if importlib.util.find_spec("cryptography"):
            patch.setenv("CROSSFADE_SEAL_KEY", f"test:{base64.b64encode(os.urandom(32)).decode()}")
        yield


@contextlib.contextmanager
def _own_declarations() -> Generator[None]:
    """Seams and handlers that a test function declares end with it; those of a module imported meanwhile stay."""
    before = set(_declared())
    try:
        yield
    finally:
        for declared in _declared():
            if declared not in before and "<locals>" in declared.function.__qualname__:
                registry.drop(declared)


def _declared() -> list[Seam | Handler]:
    return [*registry.all(), *registry.handlers()]


@contextlib.contextmanager
def _own_counts() -> Generator[hooks.Counters]:
    """Counts of this test alone, beside wherever they go otherwise."""
    counts, before = hooks.Counters(), hooks.report.hooks
    both = _Both(counts, before)
    hooks.report.hooks = both
    try:
        yield counts
    finally:
        if hooks.report.hooks is both:  # else the test sent them elsewhere
            hooks.report.hooks = before


class _Both:
    def __init__(self, ours: hooks.Counters, theirs: hooks.Hooks) -> None:
        self._all = ours, theirs

    def count(self, name: str, *, seam: str = "-", reason: str = "-", n: int = 1) -> None:
        for counts in self._all:
            counts.count(name, seam=seam, reason=reason, n=n)


@contextlib.contextmanager
def _own_broker() -> Generator[memory.MemoryBroker]:
    broker = memory.broker(new_id())
    try:
        yield broker
    finally:
        memory.forget(broker.name)


@contextlib.contextmanager
def _connected(broker: memory.MemoryBroker) -> Generator[connection.Connection]:
    """This process on ``broker``, and whoever connects meanwhile with it."""
    before, connection.stand_in = connection.stand_in, None
    try:
        url = f"memory://{broker.name}"
        connected = connection.connect(url, config=Config(bus=url), required=True)
        try:
            connection.stand_in = lend(connected)
            yield connected
        finally:
            connected.close()
    finally:
        connection.stand_in = before


@contextlib.contextmanager
def _workers(connected: connection.Connection, broker: memory.MemoryBroker, spool: Path) -> Generator[Workers]:
    workers = Workers(connected, broker, spool)
    try:
        workers.serve_staged()
        yield workers
    finally:
        workers.stop()
