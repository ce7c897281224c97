"""A folder with modules of a user's, in which commands are typed: in this process, or in one of their own."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

from support import commands
from support.commands import SOON, Done, until

CROSSFADE = str(Path(sys.executable).with_name("crossfade"))
MODULES = {
    "shop.py": """
import os, time
from pathlib import Path
from crossfade import shim

@shim.tool("shop.quote", effects="none")
def quote(item: str, api_key: str = "") -> str:
    return f"{item} by {os.getpid()}"

@shim.tool("shop.pay")
def pay(order: str) -> str:
    return f"{order} by {os.getpid()}"

@shim.tool("shop.slow", effects="none", stage="bus", timeout=20)
def slow(name: str, go: str) -> int:
    Path(f"{name}.begun").write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.01)
    return os.getpid()
""",
    "noting.py": """
import shop
from crossfade import shim

@shim.tool("shop.note", effects="none")
def note(items: list[str]) -> None:
    items.append("noted")
""",
    "empty.py": "",
    "broken.py": "def f(:\n",
    "raising.py": "wanted = {}['missing']\n",
    "lacking.py": "import no_such_dependency\n",
}


def write_modules(folder: Path) -> Path:
    """The modules above, in ``folder``."""
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    return folder


@dataclass(kw_only=True)
class Shell:
    """A folder and an environment in which commands are typed; what it started is ended with it."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    def run(self, *words: str, code: int = 0, **environment: str) -> Done:
        """A command in this process, at a fraction of the cost; ``process`` is for what is different in its own."""
        settings = {"COLUMNS": "120", **self.environment, **environment}
        with contextlib.chdir(self.folder), mock.patch.dict(os.environ, settings):
            done = commands.crossfade(*words, width=int(settings["COLUMNS"]))
        return self._judged(done, code, words)

    def process(self, *words: str, code: int = 0, traceback: bool = False, seconds: float = 60) -> Done:
        """A command in a process of its own, to its end."""
        process = self.start(*words)
        out, err = process.communicate(timeout=seconds)
        assert traceback or "Traceback" not in err, err
        return self._judged(Done(process.returncode, out, err), code, words)

    @staticmethod
    def _judged(done: Done, code: int, words: tuple[str, ...]) -> Done:
        assert done.code == code, f"{words} exited {done.code}:\n{done.out}\n{done.err}"
        return done

    def start(self, *words: str, command: tuple[str, ...] = (CROSSFADE,), **environment: str) -> subprocess.Popen[str]:
        """A command in a process of its own, which goes on."""
        process = subprocess.Popen(
            [*command, *words],
            cwd=self.folder,
            env=os.environ | self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def python(self, code: str) -> subprocess.Popen[str]:
        """A process of the user's own."""
        return self.start("-c", f"import shop; from crossfade import shim; {code}", command=(sys.executable,))

    def declare(self, code: str = "shim.connect(required=True).close()") -> None:
        """What starting the shop's own process does: its seams are known on the bus."""
        process = self.python(code)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err

    def worker(self, *options: str) -> subprocess.Popen[str]:
        """A worker that serves the shop; its first line is in ``ready``."""
        process = self.start("worker", "shop", *options)
        process.ready = process.stdout.readline()
        assert process.ready, process.communicate()
        return process

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


def await_file(path: Path) -> str:
    """The text of a file that somebody is about to write."""
    return until(lambda: path.exists() and path.read_text(), f"{path.name} did not appear")


def await_health(address: str) -> tuple[int, Any]:
    """What a worker answers once it no longer says that it is starting."""
    end = time.monotonic() + SOON
    while True:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        if found["status"] != "starting" or time.monotonic() > end:
            return answer.status, found
        time.sleep(0.01)
