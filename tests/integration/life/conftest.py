"""Programs of their own on a server of their own; what they left behind is read from the bus."""

from __future__ import annotations

import textwrap

import pytest

from crossfade.adapters import memory  # noqa: F401 - the entry point must resolve before the registry is replaced
from crossfade.shim import connection, seam
from crossfade.shim.config import Config
from integration.shim import kit

APP = """
    import os, sys, threading, time, warnings
    from crossfade import shim
    from crossfade.shim.config import Config

    @shim.tool("life.seen", effects="none", stage="observe")
    def seen(n: int) -> int:
        return n

    @shim.tool("life.diverted", effects="none", stage="bus", timeout=10)
    def diverted(n: int = 0) -> str:
        return "bus" if shim.current_call() else "body"

    @shim.tool("life.adiverted", effects="none", stage="bus", timeout=10)
    async def adiverted() -> str:
        return "bus" if shim.current_call() else "body"

    @shim.tool("life.streamed", effects="none", stage="bus", timeout=10)
    def streamed():
        yield "bus" if shim.current_call() else "body"

    @shim.tool("life.astreamed", effects="none", stage="bus", timeout=10)
    async def astreamed():
        yield "bus" if shim.current_call() else "body"

    BUS = os.environ["LIFE_BUS"]

    def join(**options):
        return shim.connect(BUS, config=Config(prefix=os.environ["LIFE_PREFIX"]), **options)

    def loops():
        return [thread.name for thread in threading.enumerate() if thread.name == "crossfade"]
"""


@pytest.fixture
def app(nats_server, prefix, tmp_path):
    """Starts a program that may ``from app import ...``; returns the process."""
    (tmp_path / "app.py").write_text(textwrap.dedent(APP))
    running = []

    def start(code):
        head = "from app import *\nimport app\n"
        environment = {"LIFE_BUS": nats_server.url, "LIFE_PREFIX": prefix, "PYTHONPATH": str(tmp_path)}
        process = kit.python(head + textwrap.dedent(code), folder=tmp_path, **environment)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def bus(nats_server, prefix, monkeypatch):
    """This process's own connection to the same bus; it declares no seam."""
    monkeypatch.setattr(seam.registry, "_seams", {})
    with connection.connect(nats_server.url, config=Config(prefix=prefix), required=True) as connected:
        yield connected
    kit.until(lambda: not kit.own_threads(), what=f"left behind: {kit.own_threads()}")


@pytest.fixture
def worker(app):
    """A process that serves the app's seams."""
    process = app(
        """
        from crossfade.shim.worker import Worker, WorkerOptions
        worker = Worker(join(required=True).runtime, WorkerOptions(grace=1))
        threading.Thread(target=worker.run, daemon=True).start()
        while not worker.ready:
            time.sleep(0.01)
        print("ready", flush=True)
        sys.stdin.readline()
        worker.stop()
        """
    )
    assert process.stdout.readline() == "ready\n"
    return process
