"""The desk as a user would run it: a copy of its code, its services as processes, workers beside them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from crossfade.shim.errors import ConfigurationError, CrossfadeError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

SEARCH: Final = "desk.search"
SUMMARISE: Final = "desk.summarise"
REPORT: Final = "desk.report"
LOOK_UP: Final = "http.search"
ORDER: Final = "http.reports"

FUNCTIONS: Final[Mapping[str, str]] = {SEARCH: "search", SUMMARISE: "summarise", REPORT: "report"}
"""By seam: the module of ``desk.next_version`` that holds the next version of a function."""

ROUTES: Final[Mapping[str, str]] = {LOOK_UP: "look_up", ORDER: "order"}
"""The same of a route."""

SEAMS: Final = (*FUNCTIONS, *ROUTES)

_CREDENTIALS: Final = ("CROSSFADE_KAFKA_USER", "CROSSFADE_KAFKA_PASSWORD")  # the bus's, for every process of the stack
_REPORT: Final = 0.6  # seconds the long-running tool takes
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


@dataclass(frozen=True, kw_only=True)
class Desk:
    """Where the desk is, as it says itself.

    ``page`` for people, ``frontend`` behind it, the proxy's file ``routes``, and ``control`` with its ``state`` folder
    and its operator's ``token``.
    """

    page: str
    frontend: str
    routes: str
    control: str
    state: str
    token: str


@dataclass
class Stack:
    """Everything that runs: used as a context manager, it leaves no process behind.

    Killed, it cannot stop them: each one reads its standard input, a pipe that we hold, and stops when that ends.
    ``regression`` names the seam whose next version the workers run, empty for none.
    """

    work: Path
    bus: str
    prefix: str
    regression: str = ""
    _exits: ExitStack = field(default_factory=ExitStack)
    workers: list[subprocess.Popen[str]] = field(default_factory=list)
    route_workers: list[subprocess.Popen[str]] = field(default_factory=list)
    _begun: list[tuple[str, subprocess.Popen[str]]] = field(default_factory=list)
    _started: int = 0
    _seal_key: str = field(default_factory=lambda: b64encode(os.urandom(32)).decode())

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

    @property
    def playbooks(self) -> list[Path]:
        """The playbooks that come with the desk."""
        return sorted((self.code / "desk" / "playbooks").glob("*.yaml"))

    def start_services(self) -> Desk:
        """Start the desk's services, and the control plane and the proxy that stand in front of them."""
        process = self._begin("desk", ["-m", "desk", "serve", "--json", "--stop-with-stdin"], role="legacy")
        return Desk(**json.loads(self._first_line("desk", process)))

    def begin_worker(self) -> None:
        """Begin one more worker that serves the desk's functions; ``await_workers`` waits for it."""
        self._begin_crossfade_worker("worker", self.workers, ["desk.tools", *self._next_version(FUNCTIONS)])

    def begin_route_worker(self, desk: Desk) -> None:
        """Begin one more worker that asks the desk's frontend for the routes, but for one that has a next version."""
        old = [option for seam in ROUTES if seam != self.regression for option in ("--seam", seam)]
        asking = ["--http", desk.frontend, "--routes", desk.routes, *old]
        self._begin_crossfade_worker("route-worker", self.route_workers, [*self._next_version(ROUTES), *asking])

    def await_workers(self) -> None:
        """Wait until every worker that was begun is ready."""
        while self._begun:
            self._first_line(*self._begun.pop())

    def _next_version(self, modules: Mapping[str, str]) -> list[str]:
        return [f"desk.next_version.{modules[self.regression]}"] if self.regression in modules else []

    def _begin_crossfade_worker(self, kind: str, running: list[subprocess.Popen[str]], arguments: list[str]) -> None:
        self._started += 1
        name = f"{kind}-{self._started}"
        options = ["--ack-wait", str(_WORKER_ACK_WAIT), "--stop-with-stdin", "--json"]
        process = self._begin(name, ["-m", "crossfade", "worker", *arguments, *options], role="worker")
        running.append(process)
        self._begun.append((name, process))

    def _begin(self, name: str, arguments: list[str], *, role: str) -> subprocess.Popen[str]:
        log = (self.work / "logs" / f"{name}.log").open("w", encoding="utf-8")
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
        return process

    def _first_line(self, name: str, process: subprocess.Popen[str]) -> str:
        """What it says when it is ready; asked for once."""
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise DemoFailedError(f"{name} did not start:\n{(self.work / 'logs' / f'{name}.log').read_text()[-2000:]}")
        return line

    def _environment(self, role: str) -> dict[str, str]:
        kept = {
            name: value
            for name, value in os.environ.items()
            if name in _CREDENTIALS or not name.startswith(("CROSSFADE_", "DESK_"))
        }
        return kept | {
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self.code), os.environ.get("PYTHONPATH")))),
            "CROSSFADE_BUS": self.bus,
            "CROSSFADE_PREFIX": self.prefix,
            "CROSSFADE_CONFIG": str(self.code / "desk" / "crossfade.toml"),
            "CROSSFADE_SEAL_KEY": f"demo:{self._seal_key}",  # a visitor's cookie may travel, and only sealed
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
