"""The desk as a user would run it: a copy of its code, its services as processes, workers beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from crossfade.shim.errors import ConfigurationError, CrossfadeError

if TYPE_CHECKING:
    from types import TracebackType

_REPORT: Final = 1.0  # seconds the long-running tool takes
_STOP: Final = 10.0  # seconds a process gets to end by itself
_WORKER_ACK_WAIT: Final = 2.0  # seconds; a killed worker's calls wait this long, and the audience with them


def desk_source() -> Path:
    """Where the desk's code is: in the wheel beside this file, in a checkout under ``examples``."""
    for candidate in (Path(__file__).with_name("desk_source"), Path(__file__).parents[4] / "examples" / "desk"):
        if (candidate / "desk" / "tools.py").is_file():
            return candidate
    raise ConfigurationError("this installation carries no desk: reinstall crossfade", where="demo")


class DemoFailedError(CrossfadeError):
    """The demo could not be carried out; the text says at which step."""


@dataclass
class Stack:
    """Everything that runs: used as a context manager, it leaves no process behind.

    Killed, it cannot stop them: each one reads its standard input, a pipe that we hold, and stops when that ends.
    """

    work: Path
    bus: str
    regression: bool = True
    _exits: ExitStack = field(default_factory=ExitStack)
    workers: list[subprocess.Popen[str]] = field(default_factory=list)
    _first_line: dict[int, str] = field(default_factory=dict)

    def __enter__(self) -> Self:
        shutil.copytree(desk_source(), self.code, ignore=shutil.ignore_patterns("__pycache__"))
        (self.work / "logs").mkdir()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._exits.close()

    @property
    def code(self) -> Path:
        """The copy of the desk's code that runs."""
        return self.work / "code"

    @property
    def journal(self) -> Path:
        """The desk's effects journal."""
        return self.work / "journal.jsonl"

    def index(self) -> int:
        """Build the desk's index; returns the number of passages."""
        done = subprocess.run(
            [sys.executable, "-m", "desk", "index"],
            env=self._environment("legacy"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DemoFailedError(f"the desk could not build its index:\n{done.stderr[-2000:]}")
        return int(done.stdout.split()[0])

    def start_services(self) -> tuple[str, int]:
        """Start the desk's services; returns the address of its page and how many processes there are."""
        fetch = self._service("tool", "fetch")
        search = self._service("tool", "search")
        agent = self._service("agent", "--fetch", fetch)
        page = self._service("frontend", "--agent", agent, "--search", search, "--fetch", fetch)
        return page, 4

    def start_worker(self) -> subprocess.Popen[str]:
        """Start a worker that serves the desk's seams, and wait until it is ready."""
        modules = ["desk.tools", *(["desk.next_version"] if self.regression else [])]
        command = [
            "-m",
            "crossfade",
            "worker",
            *modules,
            "--ack-wait",
            str(_WORKER_ACK_WAIT),
            "--stop-with-stdin",
            "--json",
        ]
        process = self._start(f"worker-{len(self.workers) + 1}", command, role="worker")
        self.workers.append(process)
        return process

    def _service(self, name: str, *arguments: str) -> str:
        process = self._start(
            "-".join((name, *arguments[:1])).strip("-"),
            ["-m", f"desk.services.{name}", *arguments, "--stop-with-stdin"],
            role="legacy",
        )
        return str(json.loads(self._first_line[process.pid])["url"])

    def _start(self, name: str, arguments: list[str], *, role: str) -> subprocess.Popen[str]:
        log = (self.work / "logs" / f"{name.replace('/', '_')}.log").open("w", encoding="utf-8")
        with log:
            process = subprocess.Popen(  # noqa: S603 - our own interpreter
                [sys.executable, *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.work,
                env=self._environment(role),
                start_new_session=True,  # Ctrl-C is for us; we stop them in order
            )
        self._exits.callback(stop, process)
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise DemoFailedError(f"{name} did not start:\n{(self.work / 'logs' / f'{name}.log').read_text()[-2000:]}")
        self._first_line[process.pid] = line
        return process

    def _environment(self, role: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("CROSSFADE_", "DESK_"))}
        return kept | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self.code), os.environ.get("PYTHONPATH")))),
            "CROSSFADE_BUS": self.bus,
            "DESK_HOME": str(self.work / "desk"),
            "DESK_JOURNAL": str(self.journal),
            "DESK_ROLE": role,
            "DESK_REPORT_SECONDS": str(_REPORT),
        }


def stop(process: subprocess.Popen[str]) -> None:
    """End a process politely, then not."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(timeout=_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
