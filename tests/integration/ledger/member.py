"""A worker process that a test kills or stops: ``member.py URL PREFIX SEAM FOLDER MODE NUMBER TIMEOUT``.

Modes say where it halts, having left the mark ``halted``: ``claimed`` (before the effect), ``effect`` (before the
result), ``logged`` (before the acknowledgement). ``run`` halts nowhere. It goes on when the mark ``go`` appears.
``unlogged`` cannot log results. ``call`` serves nothing: it calls the seam, twenty times a second until the mark
``go`` appears, and leaves a line per call in ``told.NUMBER``. ``no-nonce`` takes every claim it reads for its own, with
a slow body: tests must notice it.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from crossfade.shim import claims, connect, tool
from crossfade.shim.config import Config
from crossfade.shim.errors import BusUnavailableError, NotExecutedError, OutcomeUnknownError
from crossfade.shim.policies import LivePolicy
from crossfade.shim.seam import registry
from crossfade.shim.worker import Worker, WorkerOptions
from integration.ledger.world import Journal, shorten_grace

url, prefix, seam, folder, mode, number, timeout = sys.argv[1:]
journal = Journal(Path(folder) / "journal")


def sleep(seconds: float) -> None:
    threading.Event().wait(seconds)  # time.sleep fails under libfaketime: it takes monotonic deadlines for wall times


def halt(at: str) -> None:
    if at == mode:
        Path(folder, f"halted.{number}").touch()
        while not Path(folder, f"go.{number}").exists():
            sleep(0.01)


@tool(seam, timeout=float(timeout))
def body(arg: str) -> str:
    halt("claimed")
    journal.start(f"{arg}-{number}")
    halt("effect")
    if mode == "no-nonce":
        sleep(0.3)
    return f"{arg} by {number}"


async def halt_before_the_end(self, *args):
    await asyncio.to_thread(halt, "logged")  # beside the heartbeat: a hung loop would be handed every redelivery
    await end(self, *args)


async def take_for_ours(bus, place, record):
    stored = await bus.last(place.own)
    return claims.Won(position=stored.position, expires=record.expires) if stored else claims.Vanished()


if mode == "no-nonce":
    claims._read_owner = take_for_ours
shorten_grace()
end, Worker._end = Worker._end, halt_before_the_end


async def set_live(connection):
    live = LivePolicy(seam=seam, revision=1, settings={"stage": "bus", "fallback": "raise", "timeout": float(timeout)})
    connection.runtime._live[seam] = live
    connection.runtime._apply(registry.get(seam))


connection = connect(url, config=Config(prefix=prefix), required=True, wait=40)


def tell(number_of_call: int) -> None:
    try:
        told = body(f"m{number}c{number_of_call}").partition(" ")[2]
    except NotExecutedError as error:
        told = f"no {error.reason}"
    except OutcomeUnknownError:
        told = "unknown"
    with Path(folder, f"told.{number}").open("a") as file:
        file.write(f"{told}\n")


if mode == "call":
    connection.runtime.thread.run(set_live(connection))
    Path(folder, f"ready.{number}").touch()
    calls = 0
    while not Path(folder, f"go.{number}").exists():
        tell(calls)
        calls += 1
        sleep(0.05)
    connection.close()
    sys.exit()
worker = Worker(connection.runtime, WorkerOptions(ack_wait=1.0, shadows=0, spool=Path(folder, "spool")))
append = connection.runtime.bus.append


async def append_no_result(subject, event, **options):
    if subject.endswith(".result"):
        raise BusUnavailableError("the log is out of reach")
    return await append(subject, event, **options)


if mode == "unlogged":
    connection.runtime.bus.append = append_no_result
serving = threading.Thread(target=worker.run)
serving.start()
while not worker.ready:
    sleep(0.01)
Path(folder, f"ready.{number}").touch()
serving.join()
