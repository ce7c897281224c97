"""All of the desk as processes: its services, and on a bus the control plane and the proxy in front of them."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlsplit

from desk import corpus


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where everything is. ``page`` is for people; on a bus it is the proxy, and the frontend is behind it.

    ``routes`` is the proxy's file, ``control`` the control plane with its dashboard, ``state`` its folder and
    ``token`` its operator's, shown at its first start only. All of them are ``""`` without a bus.
    """

    page: str
    frontend: str
    routes: str = ""
    control: str = ""
    state: str = ""
    token: str = ""


class Processes:
    """Everything that was started; a context, which ends all of it."""

    def __init__(self, *, verbose: bool = False) -> None:
        self._shared = ["--verbose"] if verbose else []
        self._exits = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._exits.close()

    def start_legacy(self, port: int) -> Addresses:
        """Every tool is a service, and nothing knows of a bus."""
        tools = {name: self._service("tool", name) for name in ("search", "fetch", "summarise", "write_report")}
        urls = {name: _url(process) for name, process in tools.items()}
        named = [f"--{name.replace('_', '-')}={url}" for name, url in urls.items() if name != "search"]
        agent = _url(self._service("agent", *named))
        where = ("--agent", agent, "--search", urls["search"], "--fetch", urls["fetch"])
        page = _url(self._service("frontend", *where, "--port", str(port)))
        return Addresses(page=page, frontend=page)

    def start_on_bus(self, port: int) -> Addresses:
        """The agent calls its seams as functions; the page follows reports by their events, through the proxy."""
        state, routes = corpus.home() / "control", corpus.home() / "routes.yaml"
        tools = self._service("tool", "fetch"), self._service("tool", "search")
        control = self._crossfade("control", "--listen", "127.0.0.1:0", "--state", str(state))
        fetch, search = map(_url, tools)
        agent = _url(self._service("agent", "--fetch", fetch))
        where = ("--agent", agent, "--search", search, "--fetch", fetch)
        frontend = _url(self._service("frontend", *where, "--stream-keys", str(state / "stream-keys.json")))
        ready = _ready(control)
        _write_routes(routes, frontend=frontend, control=ready["url"])
        proxy = self._crossfade("proxy", "--config", str(routes), "--listen", f"127.0.0.1:{port}")
        page = _url(proxy)
        self._exits.callback(_stop, control)  # ends before the proxy, which waits for the streams that control serves
        return Addresses(
            page=page,
            frontend=frontend,
            routes=str(routes),
            control=ready["url"],
            state=str(state),
            token=ready["tokens"].get("operate", ""),
        )

    def _service(self, name: str, *arguments: str) -> subprocess.Popen[str]:
        return self._begin(f"desk.services.{name}", *arguments, *self._shared)

    def _crossfade(self, *arguments: str) -> subprocess.Popen[str]:
        with (corpus.home() / f"{arguments[0]}.log").open("a", encoding="utf-8") as log:
            return self._begin("crossfade", *arguments, "--json", log=log)

    def _begin(self, *command: str, log: IO[str] | None = None) -> subprocess.Popen[str]:
        """Start a process that ends with this one; its first line will say where it listens."""
        here = str(Path(__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        process = subprocess.Popen(  # noqa: S603 - our own modules
            [sys.executable, "-m", *command, "--stop-with-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
            start_new_session=True,  # Ctrl-C is for this process, which then stops them in order
        )
        self._exits.callback(_stop, process)
        return process


def _write_routes(path: Path, *, frontend: str, control: str) -> None:
    """The file that comes with the desk, with today's addresses in the place of those in it."""
    shipped = files("desk").joinpath("routes.yaml").read_text(encoding="utf-8")
    filled = shipped.replace("http://127.0.0.1:8000", frontend).replace("127.0.0.1:8081", urlsplit(control).netloc)
    path.write_text(filled, encoding="utf-8")


def _url(process: subprocess.Popen[str]) -> str:
    """Wait for its address."""
    return str(_ready(process)["url"])


def _ready(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for its first line, which says where it listens: ask once."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        arguments = process.args if isinstance(process.args, list) else [process.args]
        raise SystemExit(f"desk: this did not start: {' '.join(map(str, arguments[1:]))}")
    said: dict[str, Any] = json.loads(line)
    return said


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=12)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
