"""The desk's page in a real browser: a report followed by its events, through the proxy, over a network that drops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest

from crossfade.adapters.embedded import stop
from support.commands import Process, until
from support.needs import locate, needs
from support.project import TOP
from support.tcp_link import TcpLink

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = needs("chromium")

DESK = TOP / "examples" / "desk"
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SECONDS = 5.0  # that a report takes, in four steps
STEPS = ["typesetting “The essentials”", "typesetting “In detail”", "typesetting “Related”", "binding", "done"]
SOON = 20_000  # milliseconds


class Stack:
    """Broker, worker, control plane, desk and the proxy in front, all processes; ``link`` is the network."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self._folder = folder
        self._running = running
        (folder / "crossfade.toml").write_text('[seams."desk.report"]\nstage = "bus"\n')
        fetch, search = self._service("tool", "fetch"), self._service("tool", "search")
        agent = self._service("agent", "--fetch", fetch)
        self._crossfade("worker", "desk.tools", "--json")
        control = self._crossfade("control", "--listen", "127.0.0.1:0", "--json", "--heartbeat", "1")["url"]
        keys = folder / ".crossfade" / "control" / "stream-keys.json"
        self.frontend = self._service(
            "frontend", "--agent", agent, "--search", search, "--fetch", fetch, "--stream-keys", str(keys)
        )
        routes = {"listen": "127.0.0.1:0", "upstreams": {"legacy": self.frontend}, "control": urlsplit(control).netloc}
        (folder / "routes.yaml").write_text(json.dumps(routes))
        self.proxy = self._crossfade("proxy", "--config", "routes.yaml", "--json")["url"]
        self.link = running.enter_context(TcpLink(urlsplit(self.proxy).port))
        self.url = f"http://127.0.0.1:{self.link.port}"

    def reports(self) -> int:
        """How many reports have been written."""
        return len(list((self._folder / "reports").glob("*.md")))

    def _service(self, *arguments: str) -> str:
        process = subprocess.Popen(
            [sys.executable, "-m", f"desk.services.{arguments[0]}", *arguments[1:], "--stop-with-stdin"],
            cwd=self._folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._running.callback(_end, process)
        return json.loads(process.stdout.readline())["url"]

    def _crossfade(self, *arguments: str) -> dict[str, str]:
        process = self._running.enter_context(Process(*arguments, folder=self._folder))
        return process.ready()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """One stack for all pages."""
    folder = tmp_path_factory.mktemp("desk")
    bus = f"embedded://{folder}/bus?idle=60"
    settings = {
        "CROSSFADE_BUS": bus,
        "DESK_HOME": str(folder),
        "DESK_JOURNAL": str(folder / "journal.jsonl"),
        "DESK_REPORT_SECONDS": str(SECONDS),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(DESK), os.environ.get("PYTHONPATH")))),
    }
    with pytest.MonkeyPatch.context() as patch, ExitStack() as running:
        for name, value in settings.items():
            patch.setenv(name, value)
        subprocess.run([sys.executable, "-m", "desk", "index"], cwd=folder, check=True, capture_output=True)
        running.callback(stop, folder / "bus")
        yield Stack(folder, running)


@pytest.fixture(scope="module")
def browser():
    """Debian's Chromium, without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=locate("chromium"), args=FLAGS)
        yield found
        found.close()


class Page:
    """A visitor's page with an answer on it, and all that it asked for since."""

    def __init__(self, browser, stack, **options) -> None:
        self.page = browser.new_page(**options)
        self.asked: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.asked.append(urlsplit(request.url).path))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda said: self.errors.append(said.text) if "Security" in said.text else None)
        self.page.goto(f"{stack.url}/?q=what+is+a+context+manager")

    def begin(self) -> None:
        """Ask for the report."""
        self.page.click("#write")

    def state(self, wanted: str) -> None:
        """Wait for what the stream's sign says."""
        self.page.wait_for_selector(f'#live[data-state="{wanted}"]', timeout=SOON)

    def step(self, n: int) -> None:
        """Wait for the n-th step."""
        self.page.wait_for_selector(f"#steps li:nth-child({n})", timeout=SOON)

    def steps(self) -> list[str]:
        """The steps it shows."""
        return self.page.locator("#steps li").all_text_contents()

    def height(self) -> float:
        """Of the card."""
        return self.page.locator("#live").bounding_box()["height"]


@pytest.fixture
def visit(browser, stack):
    """Opens pages, and asks at the end that none of them broke its own policy or raised."""
    opened: list[Page] = []

    def open_page(**options) -> Page:
        opened.append(Page(browser, stack, **options))
        return opened[-1]

    yield open_page
    for each in opened:
        each.page.close()
    assert [error for each in opened for error in each.errors] == []


def test_progress_appears_as_it_happens_and_nothing_asks_for_it(visit, stack):
    """Each step is on the page before the next one is due; one stream carries all, and no request polls."""
    page = visit()
    before = page.height()
    page.begin()
    page.step(1)
    written = stack.reports()
    page.step(3)
    assert stack.reports() == written, "the steps came when all was over"
    page.state("done")

    assert page.steps() == STEPS
    assert page.asked.count("/_crossfade/stream") == 1
    assert page.asked.count("/reports/begin") == 1
    assert not [path for path in page.asked if path.startswith(("/progress", "/_crossfade/tasks"))]
    assert page.height() == before, "the card jumped"
    page.page.click("#open")
    page.page.wait_for_selector("text=The essentials")


def test_nothing_is_missing_after_the_network_drops_and_returns(visit, stack):
    """Cut after the first step, mended when the report is written: every step is there, once, in order."""
    page = visit()
    written = stack.reports()
    page.begin()
    page.step(1)
    seen = len(page.steps())
    stack.link.cut()
    page.state("waiting")
    until(lambda: stack.reports() > written, "the report was not written")
    assert len(page.steps()) == seen, "the cut did not cut"
    stack.link.mend()
    page.state("done")

    assert page.steps() == STEPS


def test_a_stream_that_was_refused_is_opened_again(visit, stack):
    """A token that is no good is a 401, after which a browser gives up: the page gets another one and goes on."""
    page = visit()
    real = page.page.request.post(f"{stack.url}/stream-token", data={}).json()["token"]
    answers = iter(["stream1.no.good.token"])
    page.page.route(
        "**/stream-token",
        lambda route: route.fulfill(json={"token": next(answers, real)}),
    )
    page.begin()
    page.state("done")

    assert page.steps() == STEPS
    assert page.asked.count("/stream-token") > 1


def test_a_page_hears_of_its_own_visitor_only(browser, visit, stack):
    """Two visitors: the other one's page shows nothing of this one's report."""
    mine, other = visit(), visit()
    other.begin()
    other.step(1)
    mine.begin()
    mine.state("done")
    other.state("done")

    assert (mine.steps(), other.steps()) == (STEPS, STEPS)


def test_a_report_needs_a_visitor(stack):
    """Without the cookie that a token comes with nobody could be told of it: 400, and what to do."""
    answer = httpx.post(f"{stack.frontend}/reports/begin", json={"topic": "lists"}, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "no_visitor")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_either_scheme(visit, scheme):
    """No sideways scrolling at 360 pixels, light or dark."""
    page = visit(color_scheme=scheme, viewport={"width": 360, "height": 740})
    assert page.page.evaluate("document.documentElement.scrollWidth") <= 360
