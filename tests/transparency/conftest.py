"""One connection per stage for a whole file: the same call sites at each."""

from __future__ import annotations

import threading

import pytest

from crossfade.adapters import memory
from crossfade.shim import connection, hooks, seam
from crossfade.shim.config import Config
from crossfade.shim.worker import Worker, WorkerOptions
from integration.shim import kit
from transparency import bench


@pytest.fixture
def counts(monkeypatch):
    """What crossfade counted during the test."""
    counters = hooks.Counters()
    monkeypatch.setattr(hooks.report, "hooks", counters)
    return counters


@pytest.fixture(scope="module", params=bench.STAGES)
def stage(request, tmp_path_factory):
    """Each stage, with every seam of ``kinds`` there; on the bus a worker of this process answers."""
    if request.param == "never connected":
        yield request.param
        return
    names = [found.name for found in seam.registry.all() if found.name.startswith("kinds.")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seam.registry, "_seams", {name: seam.registry.get(name) for name in names})
        config = Config(prefix="transparency", seams={name: {"stage": request.param} for name in names})
        connected = connection.connect("memory://transparency", config=config, required=True)
        with serving(connected, tmp_path_factory.mktemp("spool"), names if request.param == "bus" else ()):
            yield request.param
        connected.close()
    memory.forget("transparency")
    kit.until(lambda: not kit.own_threads(), what=f"left behind: {kit.own_threads()}")


@pytest.fixture
def on_bus(monkeypatch, prefix, tmp_path):
    """Puts functions declared by the test on a memory bus with a worker; ``observe`` leaves them to their bodies."""
    monkeypatch.setattr(seam.registry, "_seams", {})
    monkeypatch.setattr(seam.registry, "_handlers", {})
    closing = []

    def start(*functions, stage: str = "bus", names: tuple[str, ...] | None = None, **settings):
        served = names if names is not None else tuple(one.__crossfade_seam__.name for one in functions)
        config = Config(prefix=prefix, seams={name: {"stage": stage, **settings} for name in served})
        connected = connection.connect(f"memory://{prefix}", config=config, required=True)
        running = serving(connected, tmp_path / "spool", served if stage == "bus" else ())
        running.__enter__()
        closing.extend([lambda: running.__exit__(None, None, None), connected.close])
        return connected

    yield start
    for close in closing:
        close()
    memory.forget(prefix)
    kit.until(lambda: not kit.own_threads(), what=f"left behind: {kit.own_threads()}")


class serving:  # noqa: N801 - read as a word: with serving(...)
    """A worker in a thread of this process while the block runs."""

    def __init__(self, connected, spool, names):
        self._worker = Worker(connected.runtime, WorkerOptions(spool=spool)) if names else None
        self._thread = threading.Thread(target=self._worker.run, name="worker under test") if self._worker else None

    def __enter__(self):
        if self._worker is not None and self._thread is not None:
            self._thread.start()
            kit.until(lambda: self._worker.ready)
        return self._worker

    def __exit__(self, *_):
        if self._worker is not None and self._thread is not None:
            self._worker.stop()
            self._thread.join(kit.SOON)
            assert not self._thread.is_alive(), "the worker did not stop"
