"""Approvals answered through the control plane: who is believed, and what a broker's permissions keep others from."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import asynccontextmanager

import pytest

from crossfade.adapters.nats import open_bus
from crossfade.adapters.nats.permissions import configuration, user
from crossfade.migrations.bus_roles import BUCKETS, roles
from crossfade.shim import connection, hooks
from crossfade.shim.config import Config
from crossfade.shim.errors import BusRefusedError
from crossfade.shim.events import Event
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from crossfade.workflows import Engine, naming
from crossfade.workflows.reducer import instance_id
from crossfade.workflows.store import Store
from crossfade.workflows.workflow import Workflow, Workflows
from plugins.nats import until as comes
from support.nats_server import NatsServer

API = "/api/v1/approvals"


def payout(known, monkeypatch):
    """Waits for Viktor, who may only view; then for any operator; then for whoever."""
    monkeypatch.setattr("crossfade.workflows.workflow.registry", known)
    flow = Workflow("pay.out", on="payout.asked", key="data.number")

    @flow.approval(by=["viktor"], authenticated=True)
    def checked(event):
        return {"cents": event["cents"]}

    @flow.approval(authenticated=True)
    def released(checked):
        return None

    @flow.result
    def who(checked, released):
        return [checked, released]


@asynccontextmanager
async def engine(url, prefix, known):
    """Runs the workflows on a connection of its own."""
    made = await asyncio.to_thread(lambda: connection.connect(url, config=Config(prefix=prefix), required=True))
    running = Engine(made.runtime, known)
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    thread = asyncio.create_task(
        asyncio.to_thread(running.run, when_ready=lambda: loop.call_soon_threadsafe(ready.set))
    )
    try:
        async with asyncio.timeout(10):
            await ready.wait()
        yield running
    finally:
        running.stop()
        await thread
        await asyncio.to_thread(made.close)


@pytest.fixture
async def asked(serving, nats_server, prefix, monkeypatch):
    """A control plane, an engine, and an instance that waits for Viktor."""
    known = Workflows()
    payout(known, monkeypatch)
    async with serving(nats_server.url, dashboard=True) as plane, engine(nats_server.url, prefix, known):
        event = Event(type="payout.asked", source="urn:test", data=b'{"number": 7, "cents": 100}')
        await plane.control.bus.publish(plane.control.subjects.fact("payout.asked"), event)
        await until(plane, lambda found: found.steps["checked"].status == "waiting")
        yield plane


async def until(plane, condition):
    async def look():
        found = await Store(plane.control.bus).find(instance_id("pay.out", "7"))
        return found if found is not None and condition(found) else None

    return await comes(look)


async def answer(plane, step, secret, **body):
    return await plane.ask("POST", f"{API}/{instance_id('pay.out', '7')}/{step}", secret, json=body)


async def test_who_is_named_answers_with_any_role_and_nobody_else_does(asked):
    """An operator is not Viktor; Viktor with ``view`` is; what names nobody takes ``operate``. The end says who."""
    plane = asked
    (view,) = (await plane.ask("GET", API, plane.view)).json()
    assert (view["step"], view["by"], view["authenticated"]) == ("checked", ["viktor"], True)
    assert view["question"] == {"cents": 100}

    refused = await answer(plane, "checked", plane.operate, answer="approve")
    assert (refused.status_code, "waits for viktor, and this credential is olga" in refused.text) == (403, True)
    assert (await answer(plane, "checked", None, answer="approve")).status_code == 401
    assert (await answer(plane, "checkd", plane.view, answer="approve")).status_code == 409
    done = await answer(plane, "checked", plane.view, answer="approve", comment="seen")
    assert (done.status_code, done.json()["by"]) == (200, "viktor")

    await until(plane, lambda found: found.steps["released"].status == "waiting")
    assert (await answer(plane, "released", plane.view, answer="approve")).status_code == 403
    assert (await answer(plane, "released", plane.operate, answer="approve")).status_code == 200
    ended = await until(plane, lambda found: found.ended)
    assert [(said["by"], said["authenticated"]) for said in ended.value] == [("viktor", True), ("olga", True)]
    late = await answer(plane, "released", plane.operate, answer="reject")
    assert (late.status_code, "completed" in late.text) == (409, True)
    assert (await plane.ask("POST", f"{API}/{'0' * 32}/x", plane.operate, json={"answer": "reject"})).status_code == 404


async def test_who_claims_to_be_somebody_on_the_bus_is_not_believed(asked, counts):
    """A signal written by hand, with the right name, on the subject of signals has no effect, and is counted."""
    plane = asked
    said = {"workflow": "pay.out", "instance": instance_id("pay.out", "7"), "action": "approve", "step": "checked"}
    event = Event(type=naming.SIGNALLED, source="urn:test", data=json.dumps({**said, "by": "viktor"}).encode())
    await plane.control.bus.publish(naming.signals(plane.control.subjects, "pay.out"), event)

    await comes(lambda: counts.get("ignored", seam="pay.out", reason="not-authenticated"))
    found = await until(plane, lambda _found: True)
    assert found.steps["checked"].status == "waiting"


async def test_the_users_that_the_docs_give_keep_others_from_answering(tmp_path):
    """An app connects and publishes facts, but no answer and no state."""
    subjects = Subjects("cf")
    config = configuration(user(role, "cf") for role in roles(subjects).values())
    with NatsServer(tmp_path, config=re.sub(r"\$[A-Z]+_PASSWORD", "secret", config)) as server:
        async with (
            opened(server, "controller") as control,
            opened(server, "caller") as app,
            opened(server, "engine") as engine,
        ):
            answer = Event(type=naming.SIGNALLED, source="urn:test", data=b"{}")
            await control.publish(naming.answers(subjects, user="alice"), answer)
            await control.prepare(BUCKETS)
            await engine.state("workflows").put("x", b"{}")
            await app.publish(subjects.fact("order.placed"), Event(type="order.placed", source="urn:test", data=b"{}"))
            for forbidden in (
                app.publish(naming.answers(subjects, user="alice"), answer),
                engine.publish(naming.answers(subjects, user="alice"), answer),
                app.state("workflows").put("x", b"{}"),
            ):
                with pytest.raises(BusRefusedError, match="permission"):
                    await forbidden


@asynccontextmanager
async def opened(server, role):
    url = f"nats://{role}:secret@127.0.0.1:{server.port}?inbox=_INBOX_{role}"
    bus = open_bus(url, BusSettings(prefix="cf"), hooks.report)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()
