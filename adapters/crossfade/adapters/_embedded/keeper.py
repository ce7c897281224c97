"""Stops a store's server when nobody has used it for a while; one small process beside each embedded server.

In use means: a client is connected, or ``ensure_server`` was called, or the server does not answer (unknown is
not idle). A server whose store was deleted is stopped at once: nothing that it says it has stored is. Time is the
monotonic clock, so a laptop that slept does not find its server gone.

Arguments: STORE and the descriptor of its locked ``keeper.lock``.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

from .locks import take_lock
from .processes import server_pid, terminate, write_pid
from .store import read_idle, read_record, touched
from .wire import connections

_ANSWER = 2.0  # seconds to wait for the server's answer
_GONE = 3.0  # seconds without a server until the keeper leaves: restarting one takes less


def main() -> None:
    """Keep until the server is gone."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir("/")
    store, own = Path(sys.argv[-2]), int(sys.argv[-1])
    while True:
        keep(store)
        os.close(own)
        # A server that was started since we looked saw us alive and started no keeper: look once more, now that
        # everybody can see that we are leaving.
        if read_idle(store) == 0 or not _is_held(store / "lock"):
            return
        again = take_lock(store / "keeper.lock")
        if again is None:
            return
        own = again
        write_pid(own, os.getpid())


def _is_held(lock: Path) -> bool:
    handle = take_lock(lock)
    if handle is not None:
        os.close(handle)
    return handle is None


def keep(store: Path) -> None:
    """Watch, and stop the server when it is idle; returns when it is gone or is never to be stopped."""
    used = seen = time.monotonic()
    mark, last = touched(store), server_pid(store)
    while (idle := read_idle(store)) > 0:
        now = time.monotonic()
        if (pid := server_pid(store)) is not None:
            seen, last = now, pid
            if _in_use(store) or touched(store) != mark:
                used, mark = time.monotonic(), touched(store)  # asking may have taken its time
            elif now - used >= idle:
                terminate(pid, partial(_still, store, pid))
        elif last is not None and not store.exists():
            terminate(last, lambda: not store.exists())
            return
        elif now - seen >= _GONE:
            return
        time.sleep(min(1.0, idle / 4))


def _still(store: Path, pid: int) -> bool:
    return server_pid(store) == pid


def _in_use(store: Path) -> bool:
    record = read_record(store)
    try:
        return record is None or connections(record, timeout=_ANSWER) > 0
    except (OSError, ValueError):
        return True
