"""``crossfade replay`` on what real callers and workers left on a real broker."""

from __future__ import annotations

import itertools
import json
import sys
import textwrap
import threading
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nats
import pytest

from crossfade import shim
from crossfade.migrations.replay import pacing
from crossfade.migrations.replays import Replays
from crossfade.shim import connection, hooks, seam
from crossfade.shim.config import Config
from crossfade.shim.events import Event
from integration.shim import kit
from support.commands import crossfade

_names = itertools.count(1)
APP = """
from crossfade import shim

ASKED = []

@shim.tool("shop.price", effects="none", stage="{stage}")
def price(item: str) -> int:
    ASKED.append(item)
    return len(item)

@shim.tool("shop.note", stage="observe")
def note(text: str) -> str:
    ASKED.append(text)
    return f"noted {{text}}"

@shim.tool("shop.quote", effects="none", stage="{stage}", timeout=20)
def quote(items: list[str]) -> dict[str, object]:
    return {{"cents": sum(price(item) for item in items), "note": note("quoted")}}
"""


ROUTES = """
upstreams: {legacy: "http://127.0.0.1:9"}
routes:
  - {seam: http.a, match: "GET /{rest...}", upstream: legacy}
"""


@pytest.fixture(autouse=True)
def counts(monkeypatch):
    """What a test declares and counts is its own."""
    monkeypatch.setattr(hooks.report, "hooks", hooks.Counters())
    for what in ("_seams", "_handlers", "_comparators"):
        monkeypatch.setattr(seam.registry, what, {})


@pytest.fixture
def app(tmp_path, monkeypatch, nats_server, prefix):
    """Writes the application's module, and imports it anew as a process that starts would."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CROSSFADE_BUS", nats_server.url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    class App:
        name = f"replayed_shop_{next(_names)}"

        def write(self, text):
            (tmp_path / f"{self.name}.py").write_text(textwrap.dedent(text))
            self.leave()

        def leave(self):
            sys.modules.pop(self.name, None)
            seam.registry._seams.clear()

        def load(self):
            return __import__(self.name)

        def connect(self):
            return connection.connect(nats_server.url, config=Config(prefix=prefix), required=True)

        def replay(self, *arguments):
            self.leave()
            return crossfade("replay", "--app", self.name, *arguments)

    made = App()
    yield made
    made.leave()


def test_observed_calls_are_replayed_with_what_they_asked_for(app):
    """The nested calls, harmful or not, are answered from the record; a change of the code is found."""
    app.write(APP.format(stage="observe"))
    shop = app.load()
    with app.connect() as connected:
        for items in (["tea"], ["tea", "coffee"]):
            with shim.correlate(user="alice"):
                shop.quote(items)
        kit.observed(connected, 7)

    done = app.replay("--seam", "shop.quote", "--json")

    assert done.code == 0, done.out + done.err
    assert done.json["seams"]["shop.quote"]["verdicts"] == {"match": 2}
    assert sys.modules[app.name].ASKED == []

    app.write(APP.format(stage="observe").replace("sum(", "1 + sum("))
    broken = app.replay("--seam", "shop.quote", "--json")
    assert broken.code == 1
    assert [call["differences"][0]["path"] for call in broken.json["calls"]] == ["$.cents", "$.cents"]

    dry = app.replay("--dry-run", "--json")
    assert {name: (s["calls"], s["skipped"]) for name, s in dry.json["seams"].items()} == {
        "shop.quote": (2, {}),
        "shop.price": (3, {}),
        "shop.note": (2, {"effects": 2}),
    }


STREAMS = """
from collections.abc import AsyncIterator, Iterator
from crossfade import shim

@shim.tool("shop.lines", effects="none", stage="observe")
def lines(n: int) -> Iterator[str]:
    for at in range(n):
        yield f"line {at}"

@shim.tool("shop.page", effects="none", stage="observe")
def page(n: int) -> list[str]:
    return [line.upper() for line in lines(n)]
"""


def test_a_recorded_stream_is_replayed(app):
    """Item by item, as far as its caller took it; inside another call it is answered with the items of then."""
    app.write(STREAMS)
    shop = app.load()
    with app.connect() as connected:
        assert len(list(shop.lines(4))) == 4
        items = shop.lines(1000)
        assert [next(items), next(items)] == ["line 0", "line 1"]
        items.close()
        assert shop.page(2) == ["LINE 0", "LINE 1"]
        kit.observed(connected, 4)

    done = app.replay("--json")
    assert done.code == 0, done.out + done.err
    assert {name: found["verdicts"] for name, found in done.json["seams"].items()} == {
        "shop.lines": {"match": 3},
        "shop.page": {"match": 1},
    }

    app.write(STREAMS.replace("range(n):", "range(n):\n        if at == 2: continue"))
    broken = app.replay("--seam", "shop.lines")
    assert broken.code == 1
    assert '$[2]  missing  "line 2"' in broken.out


def test_calls_over_the_bus_are_replayed_and_a_pass_is_told(app, tmp_path):
    """From commands and results; published verdicts are a replay's, and gates hear that it passed."""
    app.write(APP.format(stage="bus"))
    shop = app.load()
    with app.connect() as connected, kit.Workers(tmp_path / "spool") as workers:
        workers.start(connected, shop.quote, shop.price)
        with shim.correlate(user="alice"):
            assert shop.quote(["tea"])["cents"] == 3
            assert shop.price("coffee") == 6
        kit.observed(connected, 1)

    done = app.replay("--json", "--publish", "--junit", "replay.xml", "--since", "1h")

    assert done.code == 0, done.out + done.err
    seams = done.json["seams"]
    assert {name: found["verdicts"] for name, found in seams.items()} == {
        "shop.quote": {"match": 1},
        "shop.price": {"match": 2},
        "shop.note": {"skipped": 1},
    }
    assert 'tests="4" failures="0" errors="0" skipped="1"' in (tmp_path / "replay.xml").read_text()
    with app.connect() as connected:
        told = [json.loads(event.data) for event in kit.read(connected, "{p}v.>")]
        assert [(each["source"], each["replay"]) for each in told] == [("replay", True)] * 4
        replays = Replays(connected.runtime.bus)
        assert kit.on_loop(connected, replays.last("shop.quote")) is not None
        assert kit.on_loop(connected, replays.last("shop.note")) is None


def test_what_only_the_log_still_holds_is_replayed(app, nats_server, prefix, tmp_path):
    """Commands and results a day later, when the calls themselves are gone: with their nested calls, and by range."""
    app.write(APP.format(stage="bus"))
    shop = app.load()
    with app.connect() as connected, kit.Workers(tmp_path / "spool") as workers:
        workers.start(connected, shop.quote, shop.price)
        with shim.correlate(user="alice"):
            assert shop.quote(["tea", "coffee"])["cents"] == 9
        kit.observed(connected, 1)
        kit.until(lambda: len(kit.read(connected, "{p}log.>")) >= 6, what="the log is not fed")
        connected.runtime.thread.run(_purged(nats_server.url, f"{prefix.upper()}_CMD"), timeout=kit.SOON)
        assert kit.read(connected, "{p}.>") == []

    named = ("--seam", "shop.quote", "--seam", "shop.price", "--json")
    everything = app.replay(*named)
    days = app.replay(*named, "--since", "2d")
    before = app.replay(*named, "--since", "3d", "--until", "2d")

    for done in (everything, days):
        assert done.code == 0, done.out + done.err
        seams = done.json["seams"]
        assert {name: found["verdicts"] for name, found in seams.items()} == {
            "shop.quote": {"match": 1},
            "shop.price": {"match": 2},
        }
    assert sys.modules[app.name].ASKED.count("quoted") == 0
    assert before.code == 1
    assert before.json["seams"]["shop.quote"]["calls"] == 0


async def _purged(url, stream):
    client = await nats.connect(url)
    await client.jetstream().purge_stream(stream)
    await client.close()


def test_pace_and_concurrency_hold_from_the_command_line(app, monkeypatch):
    """Recorded pauses by the speed, cut short, and never more a second than the rate; verdicts stay the same."""
    app.write(APP.format(stage="observe"))
    shop = app.load()
    with app.connect() as connected:
        for item in ("tea", "coffee", "rum"):
            shop.price(item)
        kit.observed(connected, 3)
    now, waited = [0.0], []

    async def sleep(seconds):
        waited.append(round(seconds, 3))
        now[0] += seconds

    loop = types.SimpleNamespace(time=lambda: now[0])
    monkeypatch.setattr(pacing, "asyncio", types.SimpleNamespace(get_running_loop=lambda: loop, sleep=sleep))

    for arguments, begun in (
        (["--rate", "0.5", "--concurrency", "3"], [0, 2, 2]),
        (["--speed", "10x", "--max-gap", "1s", "--rate", "4"], [0, 0.25, 0.25]),
        (["--speed", "max"], [0, 0, 0]),
    ):
        waited.clear()
        done = app.replay("--seam", "shop.price", "--json", *arguments)
        assert done.code == 0, done.out + done.err
        assert done.json["seams"]["shop.price"]["verdicts"] == {"match": 3}
        assert waited == begun


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--seam", "shop.nothing"], "cannot run shop.nothing; it has shop.note"),
        (["--effects", "allow"], "--sandbox PREFIX"),
        (["--sandbox", "x"], "--effects allow"),
        (["--since", "yesterday"], "is no time"),
        (["--speed", "fast"], "max, or 1x"),
        (["--header", "Bearer"], "is no header"),
        (["--rules", "none.yaml"], "there is no such file"),
    ],
)
def test_wrong_usage_is_told(app, arguments, said):
    """In one line that says what to do, with exit code 2."""
    app.write(APP.format(stage="observe"))
    done = app.replay(*arguments)
    assert done.code == 2
    assert said in done.err


def test_nothing_to_compare_is_no_pass(app):
    """An empty bus proves nothing."""
    app.write(APP.format(stage="observe"))
    done = app.replay()
    assert done.code == 1
    assert "FAILED: no recorded call could be compared" in done.out


def test_recorded_requests_are_sent_to_a_candidate(app, tmp_path):
    """A GET is compared with what the service answers now, a POST is not sent, credentials are ours."""
    seen = []

    class Candidate(BaseHTTPRequestHandler):
        def do_GET(self):
            seen.append((self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.send_header("Content-Type", "text/plain")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, *_):
            pass

    with app.connect() as connected:
        for n, (method, secret) in enumerate([("GET", "a"), ("GET", ""), ("POST", "")]):
            kit.on_loop(connected, connected.runtime.bus.publish(*request(connected, n, method, secret)))
    (tmp_path / "rules.yaml").write_text('"$.body": ignore\n')
    (tmp_path / "routes.yaml").write_text(ROUTES)
    with ThreadingHTTPServer(("127.0.0.1", 0), Candidate) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            url = f"http://127.0.0.1:{server.server_port}"
            asked = ("replay", "--http", url, "--json", "--header", "Authorization: Bearer ours")
            done = crossfade(*asked, "--seam", "http.a")
            dry = crossfade(*asked, "--routes", "routes.yaml", "--dry-run")
            assert len(seen) == 2
            ruled = crossfade(*asked, "--routes", "routes.yaml", "--rules", "rules.yaml", "--build", "1.4.2")
        finally:
            server.shutdown()
            serving.join()

    assert done.code == 1, done.out + done.err
    found = done.json["seams"]["http.a"]
    assert (found["verdicts"], found["reasons"]) == ({"match": 1, "mismatch": 1, "skipped": 1}, {"skipped:effects": 1})
    assert ruled.code == 0, ruled.out + ruled.err
    assert sorted(seen) == [("/0", "Bearer ours")] * 2 + [("/1", "Bearer ours")] * 2
    assert dry.json["seams"] == {"http.a": {"calls": 3, "skipped": {"effects": 1}}}
    assert ruled.code == 0, ruled.out + ruled.err
    assert ruled.json["build"] == "1.4.2"
    assert ruled.json["seams"]["http.a"]["verdicts"].get("mismatch", 0) == 0
    assert ruled.json["seams"]["http.a"]["compared"] == 2


def request(connected, n, method, secret):
    """What a proxy leaves behind of a request, and where."""
    runtime = connected.runtime
    arguments = {"method": method, "target": f"/{n}", "headers": []}
    if secret:
        arguments["credentials"] = runtime.redactor.digest(b'[["authorization", "Bearer theirs"]]')
    text = "ok" if n == 0 else "it was this"
    payload = {
        "arguments": arguments,
        "outcome": "value",
        "value": {"status": 200, "headers": [["Content-Type", "text/plain"]], "text": text, "body": ""},
        "duration_ms": 1.0,
        "redaction": runtime.redactor.fingerprint,
    }
    extensions = {"seam": "http.a", "callid": f"call{n}"}
    data = json.dumps(payload).encode()
    event = Event(type="http.observed", source="urn:x", id=f"call{n}", extensions=extensions, data=data)
    return runtime.subjects.observation("http.a"), event
