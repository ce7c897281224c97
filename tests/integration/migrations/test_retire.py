"""A seam is led out on the real server: hits by build, two quiet periods, somebody's word, and what can go."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

import pytest

from crossfade.migrations.cli._session import session
from crossfade.migrations.controller import Controller
from crossfade.shim import connection, current_call, handler, seam, tool
from crossfade.shim.config import Config
from crossfade.shim.instances import Instance
from integration.shim import kit
from support.commands import crossfade, until

PERIOD = "1s"


@pytest.fixture
def url(nats_server, prefix, monkeypatch):
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.setattr(seam.registry, "_handlers", {})
    monkeypatch.setattr("crossfade.shim._runtime.REPORT_EVERY", 0.1)
    return nats_server.url


@pytest.fixture
def connected(url, prefix):
    """This process on the bus, as build 2.1."""
    with connection.connect(url, config=Config(prefix=prefix, build="2.1"), required=True) as made:
        yield made


class Retiring:
    """One seam, commands about it, and a controller that looks whenever somebody asks."""

    def __init__(self, url, name):
        self._url, self._name = url, name

    def look(self):
        async def tick():
            async with session(self._url, None) as opened:
                assert await Controller(opened.bus, opened.subjects, instance="controller").tick()

        asyncio.run(tick())

    def retire(self, *words, code=0, period=PERIOD):
        done = crossfade("migrate", "retire", self._name, "--bus", self._url, "--period", period, *words, width=400)
        assert done.code == code, (done.out, done.err)
        return done

    def check(self):
        self.look()
        done = crossfade(
            "migrate", "retire", self._name, "--bus", self._url, "--period", PERIOD, "--check", "--json", width=400
        )
        assert done.code in (0, 1), done.err
        return done.json

    def until_quiet(self):
        return until(lambda: not (found := self.check())["holds"] and found)

    def until_hits(self, n):
        """As of each build."""

        def told():
            found = self.check()
            hits = {build["build"]: build["legacy_hits"] for build in found["builds"]}
            return hits.get("2.1") == n and found

        return until(told)


def report(connected, name, *, ago, ends=False):
    """What a process of another build told of itself: so many seconds ago."""
    runtime = connected.runtime
    seen = runtime.bus.now() - timedelta(seconds=ago)
    told = Instance(instance="old_1", role="caller", seen=seen, seams={name: 99}, build="2.0")
    instances = runtime.policies.instances
    kit.on_loop(connected, instances.leave(told) if ends else instances.report(told))


def alarms(connected):
    return [json.loads(event.data) for event in kit.read(connected, "{p}e.>") if event.type == "seam.skipped"]


def test_a_body_is_led_out_and_named_for_deletion(url, connected, work, counts):
    """A hit and a silent build hold it at bus; at retired a hit is an alarm and costs the quiet, and the word given."""

    @tool("web.old", effects="none", stage="bus", timeout=5)
    def old(n: object = 1) -> str:
        return "body"

    @handler("web.old")
    def new(n: object = 1) -> str:
        return "new"

    work(old)
    led = Retiring(url, "web.old")
    assert "nobody has counted its legacy hits" in led.retire(code=4).err
    led.look()
    assert old() == "new"
    assert old(object()) == "body"  # cannot travel
    held = led.until_hits(1)
    assert any("since the legacy code ran in" in why and "of build 2.1 (1x)" in why for why in held["holds"])

    report(connected, "web.old", ago=60)
    assert "not heard of, killed or cut off: old_1 of build 2.0" in led.check()["holds"]
    assert "old_1 of build 2.0" in led.retire(code=4, period="0s").err
    report(connected, "web.old", ago=0, ends=True)
    led.until_quiet()
    done = led.retire("--reason", "nobody came")
    assert done.out.startswith("web.old: bus -> retired (revision 1). The legacy code stays as a tripwire")

    assert old() == "new"
    led.look()
    assert "too early: quiet for 0 min" in led.retire("--acknowledge", code=4, period="1h").err
    assert old(object()) == "body"
    (alarm,) = kit.until(lambda: alarms(connected))
    assert (alarm["seam"], alarm["reason"], alarm["build"], alarm["count"]) == ("web.old", "legacy-hit", "2.1", 1)
    assert counts.get("legacy-hit", seam="web.old") == 2
    led.until_hits(1)  # at this stage
    led.until_quiet()
    assert led.retire().out.splitlines()[1] == "  crossfade migrate retire web.old --period 1s --acknowledge"

    done = led.retire("--acknowledge")
    line = seam.registry.get("web.old").place.rpartition(":")[2]
    assert f"test_retire.py:{line}: the body: " in done.out
    assert "new answers." in done.out
    assert 'Leave old = shim.remote("web.old", signature=...)' in done.out
    assert led.retire("--json").json["next"] == "delete"
    assert old(object()) == "body"
    assert led.until_hits(2)["next"] == "acknowledge"


def test_a_body_that_serves_itself_moves(url, connected, work):
    """Nothing can be deleted; the call site becomes a remote."""

    @tool("web.own", effects="none", stage="retired", timeout=5)
    def own() -> str:
        return "bus" if current_call() else "body"

    work(own)
    led = Retiring(url, "web.own")
    assert own() == "bus"
    led.until_quiet()
    done = led.retire("--acknowledge")
    assert "delete nothing: the body itself answers on the bus" in done.out
    assert 'leave own = shim.remote("web.own", signature=...)' in done.out
