"""The command line as a user runs it, and worker processes, on an embedded broker of the test's own."""

from __future__ import annotations

import io
import json
import os
import selectors
import subprocess
import sys
import textwrap
import time
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

from crossfade.migrations.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SOON = 20.0  # seconds in which something that must happen has happened, on a busy machine


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def crossfade(*arguments: object, width: int = 80) -> Done:
    """Run ``crossfade ARGUMENTS`` in this process; an exception that is no exit is a traceback at the user's."""
    out, err = io.StringIO(), io.StringIO()
    argv = ["crossfade", *map(str, arguments)]
    with (
        mock.patch.object(sys, "argv", argv),
        mock.patch.dict(os.environ, {"COLUMNS": str(width)}),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        try:
            code = main()
        except SystemExit as exit_:
            code = exit_.code if isinstance(exit_.code, int) else int(bool(exit_.code))
    return Done(code or 0, out.getvalue(), err.getvalue())


class Process:
    """A ``crossfade`` process of its own, whose first line of output says that it is ready."""

    def __init__(self, *arguments: object, folder: Path) -> None:
        self._output = b""
        self.log = folder / f"process-{time.monotonic_ns()}.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "crossfade", *map(str, arguments)],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()

    def line(self) -> str:
        """The next line of its output; nothing when it has ended."""
        assert self.process.stdout is not None
        pipe = self.process.stdout.fileno()
        with selectors.DefaultSelector() as selector:
            selector.register(pipe, selectors.EVENT_READ)
            while b"\n" not in self._output:
                assert selector.select(SOON), f"no word from it:\n{self.log.read_text()}"
                read = os.read(pipe, 4096)
                if not read:
                    return ""
                self._output += read
        line, _, self._output = self._output.partition(b"\n")
        return f"{line.decode()}\n"

    def ready(self) -> Any:
        """Its ready line, as JSON."""
        line = self.line()
        assert line, self.log.read_text()
        return json.loads(line)


def python(code: str, *, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own, to its end."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def until(condition: Any, what: str = "") -> Any:
    """The first true result of ``condition``, for what offers no event."""
    end = time.monotonic() + SOON
    while not (result := condition()):
        assert time.monotonic() < end, what or "not in time"
        time.sleep(0.02)
    return result
