"""A real MQTT broker and a real client: every message of QoS 1 is a fact, repetitions are none."""

from __future__ import annotations

import contextlib
import json

import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from crossfade.adapters.triggers import supervising
from crossfade.adapters.triggers.mqtt import MqttReader, Subscription
from crossfade.adapters.triggers.topics import Topics
from crossfade.shim.errors import BusUnavailableError, ConfigurationError
from plugins.nats import until
from support.mosquitto import Mosquitto
from support.needs import needs

pytestmark = needs("mosquitto")


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with Mosquitto(tmp_path_factory.mktemp("mosquitto")) as running:
        yield running


@pytest.fixture
def own(tmp_path):
    """A broker this test may stop."""
    with Mosquitto(tmp_path / "mosquitto") as running:
        yield running


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A lost connection is made again soon."""
    monkeypatch.setattr(supervising, "_FIRST", 0.05)
    monkeypatch.setattr(supervising, "_LONGEST", 0.2)


def reader(world, broker, *topics, **settings):
    settings = {"client_id": f"crossfade-{world.subjects.prefix}", **settings}
    patterns = tuple(Topics(topic) for topic in topics or ("devices/{tenant}/{user}/#",))
    return MqttReader(Subscription(url=broker.url, topics=patterns, **settings), world.intake("plant"))


@contextlib.contextmanager
def device(broker):
    """A client that publishes, each message acknowledged by the broker."""
    client = paho.Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()

    def publish(topic, payload=b"21.5", *, ident=None, **more):
        properties = Properties(PacketTypes.PUBLISH)
        if ident:
            properties.UserProperty = ("id", ident)
        client.publish(topic, payload, **{"qos": 1, **more}, properties=properties).wait_for_publish(10)

    yield publish
    client.disconnect()
    client.loop_stop()


async def reported(world, n):
    """The data of ``n`` facts, once they are there; no more come with them."""

    async def enough():
        found = await world.facts("device.reported")
        return found if len(found) >= n else None

    found = await until(enough, 20)
    assert len(found) == n
    return [await world.data(fact) for fact in found]


async def test_a_message_is_a_fact_of_its_topics_tenant_and_user(world, shared):
    """Two levels of the topic say whose it is; JSON, text and bytes travel as what they are."""
    async with world.running(reader(world, shared)) as where:
        assert where["plant"] == shared.url
        with device(shared) as publish:
            publish("devices/acme/alice/t", b'{"celsius": 21.5}')
            publish("devices/acme/alice/t", b"warm")
            publish("devices/acme/alice/t", b"\xff", ident="7")
        data = await reported(world, 3)

    facts = await world.facts("device.reported", tenant="acme", user="alice")
    assert [fact.subject for fact in facts] == ["devices/acme/alice/t"] * 3
    assert data[0]["data"] == {"celsius": 21.5}
    assert (data[1]["text"], data[1]["retained"], data[1]["qos"]) == ("warm", False, 1)
    assert (data[2]["body"], data[2]["properties"]) == ("/w==", {"id": "7"})


async def test_the_same_value_twice_is_two_reports_and_the_same_id_is_one(world, shared):
    """Only its sender can say that a message is a repetition."""
    async with world.running(reader(world, shared)):
        with device(shared) as publish:
            for _ in "ab":
                publish("devices/acme/alice/t")
            for _ in "ab":
                publish("devices/acme/alice/t", ident="1")
            publish("devices/acme/alice/t", ident="2")
        await reported(world, 4)


async def test_a_message_whose_acknowledgement_was_lost_is_no_second_fact(world, shared, monkeypatch, counts):
    """Killed between the fact and the acknowledgement: the broker sends it again, and it is a duplicate."""
    dying = reader(world, shared)
    acked = paho.Client.ack
    monkeypatch.setattr(paho.Client, "ack", lambda *_args: 0)
    async with world.running(dying):
        with device(shared) as publish:
            publish("devices/acme/alice/t")
        await reported(world, 1)

    monkeypatch.setattr(paho.Client, "ack", acked)
    async with world.running(reader(world, shared)):
        await until(lambda: counts.get("trigger-duplicate", seam="plant"))
        with device(shared) as publish:
            publish("devices/acme/alice/t", b"next")
        await reported(world, 2)


async def test_what_comes_while_nobody_is_there_is_kept(world, shared):
    """The session stays with the broker: a restart misses nothing."""
    async with world.running(reader(world, shared)):
        pass
    with device(shared) as publish:
        for n in range(20):
            publish("devices/acme/alice/t", str(n).encode())
    async with world.running(reader(world, shared)):
        assert [data["data"] for data in await reported(world, 20)] == list(range(20))


async def test_a_bus_that_is_away_is_waited_for(worlds, broker, shared, counts):
    """Nothing is acknowledged before it is durable; in order, and each once, when the bus is back."""
    world = await worlds(broker.url)
    async with world.running(reader(world, shared)):
        with device(shared) as publish:
            publish("devices/acme/alice/t", b"0")
            await reported(world, 1)
            broker.stop()
            for n in range(1, 100):  # more than are handed over without an acknowledgement
                publish("devices/acme/alice/t", str(n).encode())
            await until(lambda: counts.get("mqtt-delayed", seam="plant"))
        broker.start()
        await until(lambda: world.bus.connected)
        assert [data["data"] for data in await reported(world, 100)] == list(range(100))


async def test_what_is_not_durable_is_not_acknowledged(world, shared, monkeypatch, counts):
    """Stopped while the bus takes nothing: the broker still has the message, and hands it over again."""

    async def away(*_args, **_kwargs):
        raise BusUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr(world.bus, "publish", away)
        async with world.running(reader(world, shared)):
            with device(shared) as publish:
                publish("devices/acme/alice/t")
            await until(lambda: counts.get("mqtt-delayed", seam="plant"))
    assert await world.facts("device.reported") == []
    async with world.running(reader(world, shared)):
        await reported(world, 1)


async def test_a_broker_that_restarts_is_connected_to_again(world, own, counts):
    """The failure is counted and shown, then messages come in again."""
    async with world.running(reader(world, own)) as where:
        own.stop()
        await until(lambda: counts.get("trigger-failed", seam="plant", reason="MqttLostError"))
        assert (await where["triggers"].health()).triggers == {"plant": "failing"}
        own.start()
        await until(lambda: _running(where), 20)
        with device(own) as publish:
            publish("devices/acme/alice/t")
        await reported(world, 1)


async def _running(where):
    return (await where["triggers"].health()).status == "serving"


async def test_a_new_session_may_repeat_packet_ids(world, own):
    """A broker that forgot the session counts from 1 again: the same value in the same packet is another report."""
    first = reader(world, own)
    async with world.running(first):
        with device(own) as publish:
            publish("devices/acme/alice/t")
        await reported(world, 1)
    own.stop()
    for path in own.directory.glob("*.db"):
        path.unlink()
    own.start()
    async with world.running(reader(world, own)):
        with device(own) as publish:
            publish("devices/acme/alice/t")
        await reported(world, 2)


async def test_a_retained_message_is_one_fact(world, shared):
    """It comes with a new subscription and says so; a restart does not repeat it."""
    with device(shared) as publish:
        publish("retained/acme/t", b"on", retain=True)
    try:
        for _ in "ab":
            async with world.running(reader(world, shared, "retained/{tenant}/#")):
                (data,) = await reported(world, 1)
    finally:
        with device(shared) as publish:
            publish("retained/acme/t", b"", retain=True)

    assert (data["retained"], data["text"]) == (True, "on")


async def test_a_topic_nobody_asks_for_any_more_is_let_go(world, shared, counts):
    """A subscription that was taken out of the settings still lives in the session: counted, acknowledged, no fact."""
    async with world.running(reader(world, shared, "old/#")):
        pass
    with device(shared) as publish:
        publish("old/1")
    async with world.running(reader(world, shared, "new/#")):
        await until(lambda: counts.get("trigger-refused", seam="plant", reason="topic"))

    assert await world.facts("device.reported") == []


async def test_a_large_message_is_a_claim_check(world, shared):
    """Larger than an event may be, and whole."""
    async with world.running(reader(world, shared)):
        with device(shared) as publish:
            publish("devices/acme/alice/t", json.dumps("x" * 2_000_000).encode())
        (data,) = await reported(world, 1)

    assert data["data"] == "x" * 2_000_000


async def test_a_broker_that_refuses_us_ends_the_process_and_says_why(world, tmp_path):
    """At the start somebody must act; the password is not shown."""
    with Mosquitto(tmp_path / "strict", config="allow_anonymous false") as strict:
        refused = reader(world, strict, username="ada", password=b"s3cret")
        with pytest.raises(ConfigurationError, match="refuses us") as error:
            async with world.running(refused):
                pass
    assert "s3cret" not in str(error.value) + repr(refused._settings)


async def test_qos_0_never_holds_the_rest_up(world, shared, monkeypatch, counts):
    """Such messages are facts while there is room, and are counted when they are lost."""
    from crossfade.adapters.triggers import mqtt

    monkeypatch.setattr(mqtt, "_WAITING", 0)
    async with world.running(reader(world, shared)):
        with device(shared) as publish:
            publish("devices/acme/alice/t", qos=0)
            publish("devices/acme/alice/t", b"1")
        await until(lambda: counts.get("dropped", seam="plant", reason="qos0"))
        assert [data["qos"] for data in await reported(world, 1)] == [1]


@pytest.mark.parametrize(
    ("settings", "where"),
    [
        ({"url": "http://h"}, "url"),
        ({"url": "mqtt://h:x"}, "url"),
        ({"url": "mqtt://user:pw@h"}, "url"),
        ({"topics": ()}, "topics"),
        ({"type": "Device"}, "type"),
        ({"password": b"x"}, "password"),
    ],
)
def test_what_makes_no_subscription_is_said(settings, where):
    """The error names the setting."""
    with pytest.raises(ConfigurationError) as refused:
        Subscription(**{"url": "mqtt://h", "topics": (Topics("#"),), "client_id": "c", **settings})
    assert refused.value.where == where
    assert "user:pw" not in str(refused.value)
