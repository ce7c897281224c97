"""The desk started by one command, alone and on a bus."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from crossfade.adapters.embedded import stop
from support.desks import (
    Running,
    environment,
    journal_of,
    stack,
    wait_for,
)


@contextmanager
def served(home) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "desk", "serve"], env=environment(home), stdout=subprocess.PIPE, text=True
    )
    try:
        url = process.stdout.readline().split()[3]
        yield Running(process, url)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_serve_takes_its_services_with_it(home, desk_importable, how):
    """However the desk ends, asked or killed, none of its processes stays behind."""
    with served(home) as desk:
        assert desk.post("/ask", {"question": "parse JSON"}).status_code == 200
        pids = {entry.pid for entry in journal_of(home).entries}
        assert len(pids) == 3  # agent (search), fetch, summarise
        desk.signal(how)
        assert desk.process.wait(timeout=30) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
        wait_for(lambda: all(is_gone(pid) for pid in pids), "end of the services")
        with pytest.raises(httpx.ConnectError):
            desk.get("/healthz")


def test_serve_on_a_bus_shows_its_page_through_the_proxy(home):
    """On a bus its page is live and behind the shipped routes, and nothing stays when its parent is gone."""
    bus = {"CROSSFADE_BUS": f"embedded://{home}/bus?idle=20"}
    process = subprocess.Popen(
        [sys.executable, "-m", "desk", "serve", "--json", "--stop-with-stdin"],
        env=environment(home, **bus),
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        addresses = json.loads(process.stdout.readline())
        desk = Running(process, addresses["page"])
        assert addresses["page"] != addresses["frontend"]
        assert 'id="live"' in desk.get("/?q=parse+JSON").text
        assert desk.get("/search?q=json").headers["via"]
        assert desk.post("/stream-token", {}).json()["token"]
        assert desk.get("/_crossfade/stream").status_code == 401  # control answers there, and wants that token
        assert addresses["frontend"] in Path(addresses["routes"]).read_text()
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        with pytest.raises(httpx.ConnectError):
            desk.get("/healthz")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
        stop(home / "bus")


def test_a_shadow_is_journaled_as_one_wherever_it_leads(home):
    """What is run again to be compared says so to the service behind the one that was asked."""
    with stack(home) as desk:
        shadow = {"Crossfade-Shadow": "?1"}
        httpx.get(f"{desk.frontend.url}/search?q=json&request_id=l1", headers=shadow, trust_env=False)
        httpx.get(f"{desk.frontend.url}/search?q=json&request_id=l2", trust_env=False)

    roles = {entry.request: entry.role for entry in journal_of(home).entries}
    assert roles == {"l1.1": "shadow", "l2.1": "legacy"}


def test_page_has_a_form_and_needs_nothing_from_elsewhere(standing):
    """The page asks with a plain form; every address in it is its own."""
    page = standing.frontend.get("/").text
    assert '<form class="ask" action="/" method="get"' in page
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("desk.css", "desk.js"):
        assert standing.frontend.get(f"/static/{asset}").status_code == 200
