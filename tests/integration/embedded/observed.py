"""What can be seen of an embedded server from outside: processes, not our own bookkeeping."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from support.nats_server import binary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def until(condition: Callable[[], object], *, within: float = 10.0) -> None:
    """Wait until it holds."""
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def processes_naming(store: Path, word: str) -> list[int]:
    """Live processes whose command line has this store and this word."""
    return [pid for pid, command in _command_lines() if str(store) in command and word in command]


def _command_lines() -> Iterator[tuple[int, str]]:
    """Every process with its command line; a zombie has none."""
    if not Path("/proc/self/cmdline").exists():
        yield from _command_lines_by_ps()
        return
    for name in os.listdir("/proc"):  # noqa: PTH208 - called hundreds of times a second
        if name.isdigit():
            with contextlib.suppress(OSError):  # ended meanwhile
                yield (
                    int(name),
                    Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
                )


def _command_lines_by_ps() -> Iterator[tuple[int, str]]:
    done = subprocess.run(["ps", "-axww", "-o", "pid=,stat=,command="], capture_output=True, text=True, check=True)
    for line in done.stdout.splitlines():
        pid, state, command = line.split(maxsplit=2)
        if not state.startswith("Z"):
            yield int(pid), command


def servers_on(store: Path) -> list[int]:
    """Live nats-servers on this data, whatever configuration they were started with."""
    return processes_naming(store, "server.conf")


def keepers_of(store: Path) -> list[int]:
    return processes_naming(store, "_embedded.keeper")


def end_everything(store: Path) -> list[int]:
    """SIGKILL whatever runs on the store; returns the servers that did."""
    servers = servers_on(store)
    for pid in servers + processes_naming(store, "adapters._embedded"):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not servers_on(store))
    return servers


@contextlib.contextmanager
def paused(pid: int):
    """SIGSTOP, and it has stopped: the signal is sent at once, and each thread stops when it gets its turn."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: _states(pid) == {"T"})
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def _states(pid: int) -> set[str]:
    """The states of its threads, by proc(5)."""
    return {stat.read_text().rpartition(")")[2].split()[0] for stat in Path(f"/proc/{pid}/task").glob("*/stat")}


def wrapper(folder: Path, *lines: str) -> Path:
    """A nats-server of one's own: a shell script that ends in these lines; ``$SERVER`` is the real one."""
    script = folder / "nats-server"
    script.write_text(
        "\n".join(
            ["#!/bin/sh", f"SERVER='{binary()}'", 'case "$1" in --version) exec "$SERVER" "$1";; esac', *lines, ""]
        )
    )
    script.chmod(0o755)
    return script


def open_files() -> int:
    """Descriptors of this process."""
    return len(os.listdir("/dev/fd"))  # noqa: PTH208 - listing opens one descriptor in either case
