"""A peer in an environment of its own, made by uv; it answers ``peers/driver.py``'s lines of JSON.

Never beside our own packages: resolved together, one package holds another back without a word (mitmproxy became
0.14.0), so the versions are read from the running peer and compared with the least that counts.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from crossfade.shim.errors import CrossfadeError

from .measuring import Side
from .processes import cpu_of, with_children

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

_DRIVER: Final = Path(__file__).parent / "peers" / "driver.py"
_INSTALLING: Final = 300.0  # seconds, downloads among them
_ANSWERING: Final = 120.0
_ENDING: Final = 30.0
# What would make uv or its Python look at our own environment.
_OURS: Final = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "UV_PROJECT_ENVIRONMENT")


class PeerUnavailableError(CrossfadeError):
    """A peer cannot be measured; the text says what is missing and how to get it."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """Somebody else's way to do the same.

    ``module``: a file in ``peers/``. ``least``: package -> the least version that counts; the key may name an extra,
    as in ``celery[redis]``. ``environ``: settings for the peer.
    """

    name: str
    module: str
    least: Mapping[str, str]
    environ: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A peer that has answered its first call; ``title``: its versions and setting."""

    title: str
    side: Side


@contextmanager
def opened(
    peer: Peer, question: Mapping[str, Any], *, url: str = "", batched: bool = False, pids: tuple[int, ...] = ()
) -> Generator[Opened]:
    """Start ``peer`` on the broker ``url``; its CPU time includes ``pids``. ``batched``: it times whole batches.

    Raises ``PeerUnavailableError``: no uv, packages that cannot be had, versions below the least, no answer.
    """
    command = _command(peer)
    environ = {name: value for name, value in os.environ.items() if name not in _OURS} | dict(peer.environ)
    with tempfile.TemporaryDirectory(prefix="crossfade-peer-") as folder, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - ours
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, cwd=folder, env=environ
        )
        line = _Line(peer, process, said)
        try:
            versions = line.ask({"url": url, "question": question, "batched": batched}, timeout=_INSTALLING)
            check_versions(peer, versions)
            setting = line.read(timeout=_ANSWERING)["setting"]
            shown = ", ".join(f"{package} {version}" for package, version in versions.items())
            side = Side(run=line.ask, cpu=cpu_of(process.pid, *pids, this_process=False))
            yield Opened(title=f"{shown}, {setting}", side=side)
        finally:
            _end(process)


def check_versions(peer: Peer, versions: Mapping[str, str]) -> None:
    """Raise ``PeerUnavailableError`` when a package is older than the least that counts."""
    for package, least in _packages(peer).items():
        if numbers(versions[package]) < numbers(least):
            raise PeerUnavailableError(
                f"{package} {versions[package]} was resolved, and {least} is the least that counts: "
                f"see what holds it back (uv pip install --dry-run '{package}>={least}')"
            )


def _command(peer: Peer) -> list[str]:
    uv = shutil.which("uv")
    if uv is None:
        raise PeerUnavailableError("uv is missing, which makes the peers' environments: pip install uv")
    wanted = [part for package, least in peer.least.items() for part in ("--with", f"{package}>={least}")]
    python = ("--python", f"{sys.version_info.major}.{sys.version_info.minor}")
    run = (uv, "run", "--quiet", "--no-project", "--isolated", *python, *wanted)
    return [*run, "python", str(_DRIVER), peer.module, *_packages(peer)]


def _packages(peer: Peer) -> dict[str, str]:
    return {package.partition("[")[0]: least for package, least in peer.least.items()}


def numbers(version: str) -> tuple[int, ...]:
    """Enough of a version's order for releases: its leading numbers."""
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


class _Line:
    """What is said to and heard from a peer's driver."""

    def __init__(self, peer: Peer, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._peer = peer
        self._process = process
        self._said = said

    def ask(self, value: object, *, timeout: float = _ANSWERING) -> Any:
        """Send a line and read the answer. Raises ``PeerUnavailableError``."""
        assert self._process.stdin  # noqa: S101 - a pipe
        with suppress(BrokenPipeError):  # it has ended: reading says why
            self._process.stdin.write(json.dumps(value).encode() + b"\n")
            self._process.stdin.flush()
        return self.read(timeout=timeout)

    def read(self, *, timeout: float) -> Any:
        """The next line within ``timeout`` seconds. Raises ``PeerUnavailableError``."""
        assert self._process.stdout  # noqa: S101 - a pipe
        late = threading.Timer(timeout, _kill, (self._process,))
        late.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        if line:
            return json.loads(line)
        raise PeerUnavailableError(f"{self._peer.name} could not be run: {self._why()}")

    def _why(self) -> str:
        self._process.wait(_ENDING)
        self._said.seek(0)
        words = self._said.read().decode(errors="replace").strip()
        if "No solution found" in words and "network" not in words:
            return f"no version that counts can be had: {words[-600:]}"
        if words.startswith("error:"):  # uv's own
            return f"uv could not install {', '.join(self._peer.least)} (is there a network?): {words[-600:]}"
        return words[-600:] or "it said nothing in time"


def _end(process: subprocess.Popen[bytes]) -> None:
    """Let it end its own worker; what does not end is ended, worker and all."""
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(BrokenPipeError):
                pipe.close()
    try:
        process.wait(_ENDING)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.wait(_ENDING)


def _kill(process: subprocess.Popen[bytes]) -> None:
    for pid in with_children([process.pid]) if sys.platform == "linux" else [process.pid]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
