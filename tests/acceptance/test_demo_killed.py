"""A demo that is killed cannot stop what it started; everything ends all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORKERS = 60.0  # seconds in which two workers are up, on a busy machine
SOON = 15.0
BROKER = 45.0  # it stops ten seconds after its last client


def running(folder):
    """Processes that have ``folder`` in their environment, with their command lines; not what ended a moment ago."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (place / "environ").read_bytes():
                found[int(place.name)] = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    return found


def until(seconds, condition):
    end = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return found


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
def test_a_demo_that_is_killed_leaves_no_process(tmp_path):
    """kill -9: services and workers end within seconds, the broker when nobody has used it for a while."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "crossfade", "demo", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    ) as demo:
        try:
            ours = until(
                WORKERS,
                lambda: (
                    (found := running(tmp_path))
                    and sum("crossfade worker" in line for line in found.values()) >= 2
                    and sum("desk.services" in line for line in found.values()) == 4
                    and found
                ),
            )
            assert ours
        finally:
            demo.send_signal(signal.SIGKILL)

    def left():
        return {pid: line for pid, line in running(tmp_path).items() if "crossfade worker" in line or "desk" in line}

    try:
        assert until(SOON, lambda: not left()), left()
        assert until(BROKER, lambda: not running(tmp_path)), running(tmp_path)
    finally:
        for pid in running(tmp_path):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
