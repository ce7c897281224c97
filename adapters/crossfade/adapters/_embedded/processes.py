"""Which process is the server, proved rather than remembered: pids are reused."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


_ROOT = Path(__file__).parents[3]
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from crossfade.adapters._embedded.{0} import main; main()"


def boot_command(python: str, role: str, *arguments: str | Path) -> list[str]:
    """How to run the starter or the keeper: isolated, without site-packages, so in milliseconds."""
    return [python, "-I", "-S", "-c", _BOOT.format(role), str(_ROOT), *map(str, arguments)]


def server_pid(store: Path) -> int | None:
    """The live nats-server of this store, or ``None`` when there is none that can be proved."""
    pid = _read_pid(store / "server.pid")
    return pid if pid and has_open(pid, store / "lock") else None


def keeper_pid(store: Path) -> int | None:
    """The live keeper of this store, or ``None``."""
    pid = _read_pid(store / "keeper.lock")
    return pid if pid and has_open(pid, store / "keeper.lock") else None


def has_open(pid: int, lock: Path) -> bool:
    """Whether this process is the one that was started with this lock."""
    if Path("/proc/self/fd").is_dir():
        return _has_open_by_proc(pid, lock)
    return _has_open_by_ps(pid, lock)


def _has_open_by_proc(pid: int, lock: Path) -> bool:
    try:
        wanted = lock.stat()
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_same(entry, wanted) for entry in entries)
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return False  # gone, or another user's, which cannot be ours to signal


def _same(entry: os.DirEntry[str], wanted: os.stat_result) -> bool:
    try:
        found = entry.stat()
    except FileNotFoundError:  # closed since the listing
        return False
    return (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino)


def _has_open_by_ps(pid: int, lock: Path) -> bool:
    """Without /proc (macOS): both processes carry the store's path in their command line."""
    command = _command_by_ps(pid)
    if lock.name == "keeper.lock":
        return "adapters._embedded.keeper" in command and f" {lock.parent} " in command
    return _serves(command, lock.parent)


def unlocked_server_pid(store: Path) -> int | None:
    """Like ``server_pid`` for a server that holds another file than today's ``lock``, which was replaced."""
    pid = _read_pid(store / "server.pid")
    if not pid:
        return None
    proc = Path(f"/proc/{pid}/cmdline")
    try:
        words = proc.read_bytes() if Path("/proc/self/cmdline").exists() else None
    except (FileNotFoundError, ProcessLookupError):
        return None
    command = _command_by_ps(pid) if words is None else words.replace(b"\0", b" ").decode(errors="surrogateescape")
    return pid if _serves(command, store) else None


def _serves(command: str, store: Path) -> bool:
    return f"-c {store}/server.conf" in command


def _command_by_ps(pid: int) -> str:
    import subprocess  # noqa: PLC0415 - not where the keeper runs beside /proc: it would grow by a tenth

    command = ["/bin/ps", "-ww", "-o", "command=", "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()  # noqa: S603 - no shell


def terminate(pid: int, is_ours: Callable[[], bool]) -> bool:
    """SIGTERM to a process that ``is_ours``; returns whether it was sent.

    On Linux a pidfd is opened before the check, so the number cannot come to mean another process between the
    check and the signal. Elsewhere those are microseconds apart.
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    except (AttributeError, OSError):  # macOS, and sandboxes that forbid it
        return is_ours() and _kill(pid)
    try:
        if not is_ours():
            return False
        signal.pidfd_send_signal(handle, signal.SIGTERM)
    except ProcessLookupError:
        return False
    finally:
        os.close(handle)
    return True


def _kill(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        return False
    return True


def write_pid(handle: int, pid: int) -> None:
    """Make a lock file say who holds it."""
    os.ftruncate(handle, 0)
    os.pwrite(handle, str(pid).encode(), 0)


def _read_pid(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):  # not written yet
        return None
