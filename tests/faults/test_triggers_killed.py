"""Killed for good between the moment that an arrival is durable and the word that its sender waits for."""

from __future__ import annotations

import contextlib
import smtplib
import subprocess
import sys

import httpx
import pytest
from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion

from crossfade.adapters.nats import open_bus
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings
from plugins.nats import until
from support.commands import Process
from support.mosquitto import Mosquitto
from support.needs import needs
from unit.triggers.test_signatures import signed

DYING = """
import os, signal, sys
from crossfade.adapters.triggers.intake import Intake
from crossfade.migrations.cli import main
take = Intake.take

async def dies(self, arrival, **more):
    await take(self, arrival, **more)
    os.kill(os.getpid(), signal.SIGKILL)

Intake.take = dies
sys.exit(main())
"""


def post(where):
    answer = httpx.post(where["hook"], content=b"{}", headers=signed("bearer", b"{}"), timeout=20, trust_env=False)
    assert answer.status_code == 202


def mail(where):
    host, _, port = where["mail"].removeprefix("smtp://").partition(":")
    with smtplib.SMTP(host, int(port), timeout=20) as client:
        client.sendmail("a@s.example", "b@d.example", "Message-ID: <1@s>\r\n\r\nx")


@pytest.mark.slow
@needs("mosquitto")
async def test_what_was_taken_before_a_kill_is_taken_once(tmp_path, prefix, nats_server, monkeypatch):
    """Webhook, mail and MQTT: the sender hears nothing and tries again; one fact each, and its retry a duplicate."""
    monkeypatch.setenv("CROSSFADE_BUS", nats_server.url)
    monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
    monkeypatch.setenv("HOOK", "key")
    with Mosquitto(tmp_path / "mosquitto") as broker:
        (tmp_path / "triggers.yaml").write_text(
            f"""
            triggers:
              hook: {{webhook: {{scheme: bearer, secret: [env:HOOK], listen: "127.0.0.1:0"}}}}
              mail: {{smtp: {{recipients: ["*"], listen: "127.0.0.1:0"}}}}
              plant: {{mqtt: {{url: "{broker.url}", topics: ["#"]}}}}
            """
        )
        for send in (post, mail, report(broker)):
            with dying(tmp_path) as process:
                where = process.ready()["triggers"]
                with contextlib.suppress(httpx.TransportError, smtplib.SMTPException, OSError):
                    send(where)
                assert process.process.wait(20) == -9
        with Process("trigger", "run", "triggers.yaml", "--json", folder=tmp_path) as process:
            where = process.ready()["triggers"]
            post(where)
            mail(where)
            report(broker, b"next")(where)
            found = await until(lambda: facts(nats_server.url, prefix), 20)

    assert sorted(found) == ["device.reported", "device.reported", "email.received", "webhook.received"]


def report(broker, payload=b"21.5"):
    def publish(_where):
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.connect("127.0.0.1", broker.port)
        client.loop_start()
        client.publish("devices/1", payload, qos=1).wait_for_publish(10)
        client.disconnect()
        client.loop_stop()

    return publish


def dying(folder):
    process = Process.__new__(Process)
    process._output = b""
    process.log = folder / "dying.log"
    with process.log.open("wb") as log:
        process.process = subprocess.Popen(
            [sys.executable, "-c", DYING, "trigger", "run", "triggers.yaml", "--json"],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    return process


async def facts(url, prefix):
    """The types of all facts, once MQTT's second message is among them."""
    bus = open_bus(url, BusSettings(prefix=prefix), Counters())
    await bus.open()
    try:
        found = [stored.event async for stored in bus.read(f"{prefix}e.>")]
    finally:
        await bus.close()
    return [event.type for event in found] if any(b"next" in (event.data or b"") for event in found) else None
