"""Several data-plane processes on one address: the parent starts them, replaces the dead, and passes signals on.

Linux and macOS only: workers are forked before there is any event loop or thread, and share the port by SO_REUSEPORT.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
import traceback
from typing import TYPE_CHECKING

from crossfade.shim.errors import ConfigurationError, CrossfadeError
from crossfade.shim.hooks import report
from crossfade.shim.watching import flush

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Ready = Callable[[], None]
    Work = Callable[[int, Ready], None]

# A worker that dies this soon after its start would die again: the next try waits, twice as long each time.
_SETTLED = 5.0
_FIRST_WAIT = 0.1
_LONGEST_WAIT = 10.0
_HOPELESS = 78  # EX_CONFIG: a worker has said why it cannot serve, and starting it again would not help
# Windows has neither the last nor workers.
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if sys.platform != "win32" else ()))


def heed_signals() -> None:
    """Let in the signals that were held back until their handlers were there; harmless where none were."""
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)


def reserve(host: str, port: int) -> socket.socket:
    """Bind the address all workers will share, without listening; the port 0 becomes a real one for all of them.

    Raises ``OSError`` when somebody has it: by SO_REUSEPORT alone two proxies would share it unnoticed.
    """
    if not hasattr(socket, "SO_REUSEPORT") or not hasattr(os, "fork"):
        raise ConfigurationError("this system cannot share a port among processes: use 1", where="workers")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
    reserved = socket.socket(family, socket.SOCK_STREAM)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    reserved.bind((host, port))
    return reserved


class Supervisor:
    """Keeps ``count`` processes running ``work``; ``ready`` is called once, when all have called theirs.

    ``work`` is given a pipe that ends when this process does, and what to call when it serves. It starts with signals
    held back and calls ``heed_signals`` when it has its handlers. A SIGHUP is passed on when ``accept`` says so.
    """

    def __init__(self, count: int, work: Work, *, accept: Callable[[], bool], ready: Ready) -> None:
        self._count = count
        self._work = work
        self._accept = accept
        self._ready: Ready | None = ready
        self._well = True
        self._stopping = False
        self._began: dict[int, float] = {}  # process id -> when it was started
        self._due: list[float] = [0.0] * count  # when a missing worker may be started
        self._wait = _FIRST_WAIT
        self._started = 0
        self._lifeline, self._held = os.pipe()
        self._wakeup, self._waker = os.pipe()
        for end in (self._wakeup, self._waker):
            os.set_blocking(end, False)

    def run(self) -> bool:
        """Supervise until told to stop by SIGTERM or SIGINT and all workers have ended; whether they ended well."""
        before = {number: signal.signal(number, self._pass_on) for number in _PASSED_ON}
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        woken = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        try:
            while self._began or not self._stopping:
                self._start_due()
                self._sleep()
                self._reap()
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            for end in (self._lifeline, self._held, self._wakeup, self._waker):
                os.close(end)
        return self._well

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        if number in {signal.SIGTERM, signal.SIGINT}:
            self._stopping = True
        elif not self._accept():
            return
        for pid in list(self._began):
            os.kill(pid, number)

    def _start_due(self) -> None:
        now = time.monotonic()
        for due in [due for due in self._due if due <= now and not self._stopping]:
            self._due.remove(due)
            self._start()

    def _start(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
        pid = os.fork()
        if pid:
            self._began[pid] = time.monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
            return
        status = 1
        try:
            os.setpgid(0, 0)  # Ctrl-C is for the parent, which passes it on: twice would mean at once
            os.close(self._held)
            signal.set_wakeup_fd(-1)
            for number in (*_PASSED_ON, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._work(self._lifeline, lambda: _write(self._waker, b"+"))
            status = 0
        except CrossfadeError as error:
            sys.stderr.write(f"crossfade: {error}\n")
            status = _HOPELESS
        except BaseException:
            traceback.print_exc()
        finally:
            flush()  # telemetry's exit handlers do not run here either
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _sleep(self) -> None:
        timeout = max(0.0, min(self._due) - time.monotonic()) if self._due and not self._stopping else 1.0
        select.select([self._wakeup], [], [], min(timeout, 1.0))
        try:
            woken = os.read(self._wakeup, 4096)
        except BlockingIOError:
            return
        self._started += woken.count(b"+")
        if self._started >= self._count and self._ready is not None:
            self._ready()
            self._ready = None

    def _reap(self) -> None:
        for pid, began in list(self._began.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if not ended:
                continue
            del self._began[pid]
            if self._ready is not None and os.waitstatus_to_exitcode(status) == _HOPELESS and not self._stopping:
                self._pass_on(signal.SIGTERM, None)
            if self._stopping:
                self._well = self._well and status == 0
                continue
            now = time.monotonic()
            self._wait = _FIRST_WAIT if now - began > _SETTLED else min(self._wait * 2, _LONGEST_WAIT)
            self._due.append(now + self._wait)
            report.count("restarted", reason="worker-died")
            sys.stderr.write(f"worker {pid} died; another starts in {self._wait:.1f} s\n")


def _write(descriptor: int, data: bytes) -> None:
    os.write(descriptor, data)
