"""A process that calls or serves one seam: ``member.py URL FOLDER NAME ROLE PREFIX SEAM``; see ``fleet.py``.

It calls without a pause in two threads, counts its answers, and says them and its counters when asked. A worker
writes every start to its journal: the machine's monotonic time and the revision the command was sent under.
While the file ``hold`` is there its watch tells it nothing; a body waits while ``gate`` is there.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from crossfade.shim import connect, current_call, tool
from crossfade.shim._runtime import Runtime
from crossfade.shim.config import Config
from crossfade.shim.errors import CallError
from crossfade.shim.execution import Execution
from crossfade.shim.hooks import counters
from crossfade.shim.worker import Worker, WorkerOptions

url, folder, name, role, prefix, seam = sys.argv[1:]
hold, gate = Path(folder, f"hold.{name}"), Path(folder, "gate")
journal = Path(folder, f"starts.{name}").open("a", buffering=1)  # noqa: SIM115 - for as long as the process lives
barred, follow = Execution._barred, Runtime._follow


async def journalled(self, event, call):
    found = await barred(self, event, call)
    if not found:
        journal.write(f"{time.monotonic()} {event.get('policyrev')}\n")
    return found


def held(self, change):
    if hold.exists():
        self.thread.loop.call_later(0.02, held, self, change)
    else:
        follow(self, change)


Execution._barred, Runtime._follow = journalled, held
answers: Counter[str] = Counter()
calling = threading.Event()


@tool(seam, effects="none", timeout=5)
def body(n: int) -> str:
    while current_call() and gate.exists():
        time.sleep(0.01)
    return "bus" if current_call() else "body"


def call() -> None:
    while True:
        calling.wait()
        try:
            answers[body(1)] += 1
        except CallError as error:
            answers[type(error).__name__] += 1
        time.sleep(0.01)


connection = connect(url, config=Config(prefix=prefix), required=True, wait=40)
if role == "worker":
    worker = Worker(connection.runtime, WorkerOptions(concurrency=2, shadows=0, spool=Path(folder, f"spool.{name}")))
    threading.Thread(target=worker.run, daemon=True).start()
    while not worker.ready:
        time.sleep(0.01)
else:
    for _ in range(2):
        threading.Thread(target=call, daemon=True).start()
print(connection.runtime.instance, flush=True)
for line in sys.stdin:
    if line == "call\n":
        calling.set()
    elif line == "pause\n":
        calling.clear()
    counts = {f"{counted}:{reason}": n for (counted, _, reason), n in counters.snapshot().items()}
    print(json.dumps({"answers": answers, "counts": counts}), flush=True)
connection.close()
