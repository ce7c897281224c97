"""Streams: made as they should be, checked when they are there, never changed behind an operator's back."""

from __future__ import annotations

import asyncio
import json

import pytest

from crossfade.adapters.nats import open_bus
from crossfade.adapters.nats._streams import definitions
from crossfade.shim.errors import BusRefusedError, StreamMisconfiguredError
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from plugins.nats import api, until
from support.nats_server import NatsServer

_MINUTE = 60 * 1_000_000_000


def definition(prefix, name):
    found = {stream.name: dict(stream.config) for stream in definitions(prefix, 1)}
    return found[f"{prefix.upper()}_{name}"]


async def opening(url, prefix):
    bus = open_bus(url, BusSettings(prefix=prefix), Counters())
    try:
        await bus.open()
        return await bus.info()
    finally:
        await bus.close()


async def test_each_stream_has_its_own_fate(bus, bare, prefix):
    """Commands, facts and dead letters refuse when full; observations, verdicts and the UI forget the oldest."""
    names = ("CMD", "LOG", "OBS", "VER", "UI", "EVT", "DLQ", "ADV")
    configs = {name: (await api(bare, f"STREAM.INFO.{prefix.upper()}_{name}"))["config"] for name in names}
    assert {name: config["discard"] for name, config in configs.items()} == {
        "CMD": "new", "LOG": "old", "OBS": "old", "VER": "old", "UI": "old", "EVT": "new", "DLQ": "new", "ADV": "old",
    }  # fmt: skip
    assert all(config["max_bytes"] > 0 and config["storage"] == "file" for config in configs.values())
    assert configs["CMD"]["duplicate_window"] == 10 * _MINUTE


async def test_an_older_versions_streams_are_good_enough(nats_server, bare, prefix):
    """What an installation had before there was a stream of verdicts goes on: advisories about it are kept, too."""
    old = definition(prefix, "ADV")
    subjects = [subject for subject in old["subjects"] if "_VER." not in subject]
    await api(bare, f"STREAM.CREATE.{old['name']}", {**old, "subjects": subjects, "max_age": 0})
    await opening(nats_server.url, prefix)

    config = (await api(bare, f"STREAM.INFO.{old['name']}"))["config"]
    assert set(config["subjects"]) == set(old["subjects"])
    assert config["max_age"] == 0


async def test_the_log_is_fed_without_run_and_call(bus, bare, prefix, subjects, event):
    """The server copies commands and results to the log under subjects that do not grow with the calls."""
    for call in range(5):
        for kind in ("invoke", "result"):
            address = subjects.call(kind, domain="tool", seam="web.search", run=f"r{call}", callid=f"c{call}")
            await bus.publish(address, event(callid=f"c{call}"))

    async def copied():
        found = [stored async for stored in bus.read(f"{prefix}log.>")]
        return found if len(found) == 10 else None

    found = await until(copied)
    assert {stored.subject for stored in found} == {
        f"{prefix}log.0.-.tool.web-search.invoke",
        f"{prefix}log.0.-.tool.web-search.result",
    }
    assert [stored.event.get("callid") for stored in found[::2]] == [f"c{call}" for call in range(5)]


async def test_a_full_log_forgets_the_oldest_and_commands_go_on(bus, bare, prefix, command, event):
    """With discard=old the log takes what is new; the commands' stream is untouched by it."""
    log = f"{prefix.upper()}_LOG"
    config = (await api(bare, f"STREAM.INFO.{log}"))["config"]
    await api(bare, f"STREAM.UPDATE.{log}", {**config, "max_bytes": 20_000})
    for n in range(60):
        await bus.publish(command, event(data=b"%d" % n + b"x" * 800))

    async def newest():
        last = await bus.last(f"{prefix}log.>")
        return last is not None and last.event.data.startswith(b"59x")

    await until(newest)
    assert (await api(bare, f"STREAM.INFO.{log}"))["state"]["bytes"] <= 20_000
    assert (await api(bare, f"STREAM.INFO.{prefix.upper()}_CMD"))["state"]["messages"] == 60


async def test_a_full_log_that_refuses_loses_history_in_silence(bare, bus, prefix, command, event):
    """Why the log discards old: one that discards new stops taking what comes, and nobody is told."""
    log = f"{prefix.upper()}_LOG"
    config = (await api(bare, f"STREAM.INFO.{log}"))["config"]
    await api(bare, f"STREAM.UPDATE.{log}", {**config, "max_bytes": 20_000, "discard": "new"})
    for n in range(60):
        await bus.publish(command, event(data=b"%d" % n + b"x" * 800))
    await asyncio.sleep(0.5)
    found = (await api(bare, f"STREAM.INFO.{log}"))["state"]["messages"]
    assert found < 30
    await api(bare, f"STREAM.UPDATE.{log}", {**config, "max_bytes": 10_000_000, "discard": "new"})

    async def caught_up():
        return (await api(bare, f"STREAM.INFO.{log}"))["state"]["messages"] == 60

    await until(caught_up, 60)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("CMD", {"discard": "old"}, "discard"),
        ("CMD", {"duplicate_window": _MINUTE}, "duplicate_window"),
        ("CMD", {"storage": "memory"}, "storage"),
        ("CMD", {"max_msgs_per_subject": 1, "discard": "new"}, "max_msgs_per_subject"),
        ("CMD", {"max_msgs": 10}, "max_msgs"),
        ("CMD", {"no_ack": True, "allow_atomic": False}, "no_ack"),
        ("EVT", {"retention": "workqueue"}, "retention"),
        ("OBS", {"discard": "new"}, "discard"),
        ("LOG", {"sources": [], "subjects": ["somewhere.else"]}, "source"),
    ],
)
async def test_a_stream_that_would_lose_events(nats_server, bare, prefix, name, change, said):  # noqa: PLR0917 - fixtures
    """A dangerous setting of a stream that exists refuses the start, named with its remedy, and is left alone."""
    config = {**definition(prefix, name), **change}
    if said == "source":
        config["subjects"] = [f"{prefix}other.>"]
    await api(bare, f"STREAM.CREATE.{prefix.upper()}_{name}", config)
    with pytest.raises(StreamMisconfiguredError, match=said) as caught:
        await opening(nats_server.url, prefix)
    assert f"{prefix.upper()}_{name}" in str(caught.value)
    there = (await api(bare, f"STREAM.INFO.{prefix.upper()}_{name}"))["config"]
    assert said == "source" or there.get(said) == change.get(said)


async def test_all_dangers_are_said_at_once(nats_server, bare, prefix):
    """Nobody has to start seven times to learn of seven faults."""
    config = {**definition(prefix, "CMD"), "discard": "old", "duplicate_window": _MINUTE}
    await api(bare, f"STREAM.CREATE.{prefix.upper()}_CMD", config)
    with pytest.raises(StreamMisconfiguredError) as caught:
        await opening(nats_server.url, prefix)
    assert "discard" in str(caught.value)
    assert "duplicate_window" in str(caught.value)


async def test_limits_an_operator_chose_are_kept(nats_server, bare, prefix):
    """Another size is no fault; a shorter age and a missing limit are warnings."""
    config = {**definition(prefix, "CMD"), "max_bytes": 50_000_000, "max_age": 60 * _MINUTE}
    await api(bare, f"STREAM.CREATE.{prefix.upper()}_CMD", config)
    await api(bare, f"STREAM.CREATE.{prefix.upper()}_EVT", {**definition(prefix, "EVT"), "max_bytes": -1})
    info = await opening(nats_server.url, prefix)
    assert any("CMD" in line and "3600" in line for line in info.warnings)
    assert any("EVT" in line and "no byte limit" in line for line in info.warnings)
    assert (await api(bare, f"STREAM.INFO.{prefix.upper()}_CMD"))["config"]["max_bytes"] == 50_000_000


async def test_a_trap_for_replies(nats_server, bare, prefix):
    """A stream that captures reply addresses is found at the start, not by callers that get acknowledgements."""
    await api(bare, f"STREAM.CREATE.TRAP{prefix}", {"name": f"TRAP{prefix}", "subjects": [f"{prefix}r.me"]})
    with pytest.raises(StreamMisconfiguredError, match=f"TRAP{prefix}.*replies"):
        await opening(nats_server.url, prefix)


async def test_twenty_processes_start_at_once(nats_server, prefix):
    """Streams are made once, whoever comes first."""
    found = await asyncio.gather(*(opening(nats_server.url, prefix) for _ in range(20)))
    assert [info.warnings for info in found] == [()] * 20


async def test_a_server_without_jetstream(tmp_path, hooks):
    """A server that stores nothing is refused with what to enable."""
    with NatsServer(tmp_path, jetstream=False) as server:
        bus = open_bus(server.url, BusSettings(connect_timeout=1), hooks)
        with pytest.raises(BusRefusedError, match="JetStream"):
            await bus.open()
        assert not bus.connected


@pytest.mark.parametrize(("version", "accepted"), [("2.11.9", False), ("2.12.0", True), ("3.0.0", True)])
async def test_the_servers_version(bus, monkeypatch, version, accepted):
    """A server older than 2.12 is refused with its version; the number is all that is made up here."""
    from crossfade.adapters.nats import _streams as streams

    monkeypatch.setattr(bus._connection, "server_info", lambda: ("here", version))
    if accepted:
        await streams.prepare(bus._connection, bus._prefix, 1)
    else:
        with pytest.raises(BusRefusedError, match=r"2\.11\.9.*2\.12"):
            await streams.prepare(bus._connection, bus._prefix, 1)


async def test_what_the_bus_says_of_itself(opened, nats_server):
    """info names server, version and limit; whether writes are synced is known only when the operator said so."""
    stated, unknown = await opened(nats_server.url + "?sync=always"), await opened(nats_server.url)
    info = await stated.info()
    assert (info.scheme, info.server) == ("nats", nats_server.url.removeprefix("nats://"))
    assert info.version == json.loads(json.dumps(nats_server.server_info()))["version"]
    assert (info.synced, (await unknown.info()).synced) == (True, None)
    assert info.max_event_bytes == 1024 * 1024 - 4096
