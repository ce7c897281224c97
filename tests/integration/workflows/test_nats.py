"""Workflows on the real server, whose engines are killed in the middle of everything."""

from __future__ import annotations

import os
import signal

import pytest

from crossfade.workflows.reducer import instance_id
from integration.shim import kit
from integration.workflows.desk import Desk

ORDERS = 25
KILLS = 4

PROGRAM = """
import logging, os, sys, threading
from pathlib import Path
from crossfade import shim
from crossfade.shim.config import Config
from crossfade.workflows import Engine, EngineOptions, Workflow, registry

@shim.tool("count.one", effects="none")
def count(number: int) -> int:
    return number

@shim.tool("write.line", timeout=60)
def write(number: int) -> int:
    with open("lines", "a") as lines:
        lines.write(f"{number}\\n")
    return number

orders = Workflow("killed.orders", on="order.placed", key="data.number")

@orders.tool("count.one", effects="none", attempts=5, backoff=0.1)
def counted(event):
    return {"number": event["number"]}

@orders.tool("write.line", timeout=60)
def written(event):
    return {"number": event["number"]}

@orders.wait("order.paid")
def paid(counted, written):
    return None

@orders.timer()
def rested(paid):
    return 0.2

@orders.emit("order.shipped")
def shipped(rested, written):
    return {"number": written}

if __name__ == "__main__":
    role, url, prefix = sys.argv[1:]
    with shim.connect(url, config=Config(prefix=prefix), required=True, wait=30) as connection:
        if role == "worker":
            from crossfade.shim.worker import Worker, WorkerOptions
            serving = Worker(connection.runtime, WorkerOptions(spool=Path("spool")))
        else:
            serving = Engine(connection.runtime, registry, EngineOptions(ack_wait=1))
        def say():
            print("ready", flush=True)
        threading.Thread(target=lambda: (sys.stdin.read(), serving.stop()), daemon=True).start()
        serving.run(when_ready=say)
"""


@pytest.fixture
def process(tmp_path, nats_server, prefix):
    running = []

    def start(role: str):
        process = kit.python(PROGRAM, role, nats_server.url, prefix, folder=tmp_path)
        running.append(process)
        assert process.stdout.readline() == "ready\n", process.communicate()
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_engines_killed_in_the_middle_lose_nothing_and_do_nothing_twice(process, connect, nats_server, tmp_path):
    """Two engines of which one is killed again and again: every order is shipped, each unsafe line written once."""
    opened = connect(nats_server.url)
    desk = Desk(opened)
    process("worker")
    engines = [process("engine"), process("engine")]
    for number in range(ORDERS):
        desk.publish("order.placed", {"number": number}, id=f"o{number}")
        desk.publish("order.paid", {"number": number}, id=f"p{number}")
        if number % (ORDERS // KILLS) == 3:
            os.kill(engines[0].pid, signal.SIGKILL)
            engines[0].wait()
            engines = [engines[1], process("engine")]
    for number in range(ORDERS):
        desk.until("killed.orders", str(number), "completed", timeout=60)

    assert sorted(map(int, (tmp_path / "lines").read_text().split())) == list(range(ORDERS))
    shipped = desk.facts("order.shipped", ORDERS)
    assert sorted(fact["number"] for fact in shipped) == list(range(ORDERS))
    ended = [fact["instance"] for fact in desk.facts("workflow.completed", ORDERS)]
    assert sorted(ended) == sorted(instance_id("killed.orders", str(number)) for number in range(ORDERS))
