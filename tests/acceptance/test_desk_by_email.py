"""The desk's workflow: an email becomes a report, beside services that know nothing of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

from crossfade.shim.buses import open_bus
from crossfade.shim.events import Event
from crossfade.shim.hooks import report
from crossfade.shim.ports import BusSettings
from crossfade.shim.subjects import Subjects
from support.desks import environment


def crossfade(*words, home, env):
    command = [sys.executable, "-m", "crossfade", *words]
    return subprocess.Popen(command, cwd=home, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(*words, home, env):
    process = crossfade(*words, home=home, env=env)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return json.loads(out)


def email(subject):
    data = {"sender": "ann@example.com", "recipients": ["reports@desk.example"], "subject": subject, "text": "please"}
    return Event(type="email.received", source="urn:mail", extensions={"userid": "ann"}, data=json.dumps(data).encode())


async def told(url, prefix, run):
    """What ann's page sees of the run until the workflow is completed."""
    bus = open_bus(url, BusSettings(prefix=prefix), report)
    await bus.open()
    subjects, found = Subjects(prefix), []
    try:
        async with asyncio.timeout(60):
            async for stored in bus.read(subjects.ui_run(run, user="ann"), follow=True):
                found.append((stored.event.type, stored.event.subject, json.loads(stored.event.data or b"{}")))
                if stored.event.type in ("workflow.completed", "workflow.failed"):
                    return found
    finally:
        await bus.close()


async def publish(url, prefix, event):
    bus = open_bus(url, BusSettings(prefix=prefix), report)
    await bus.open()
    await bus.publish(Subjects(prefix).fact(event.type, user="ann"), event)
    await bus.close()


async def waiting(home, env):
    """The instance, once it waits for a person."""
    async with asyncio.timeout(60):
        while True:
            found = await asyncio.to_thread(lambda: said("workflow", "list", "--json", home=home, env=env))
            if found and found[0]["at"] == ["approved"]:
                return found[0]["instance"]


async def test_an_email_becomes_a_report(tmp_path, nats_server, prefix):
    """Research by the agent, two tools side by side, a person's yes, the report written once; the page sees it all."""
    (tmp_path / "crossfade.toml").write_text(f'prefix = "{prefix}"\n')
    env = environment(tmp_path, DESK_REPORT_SECONDS="0.2") | {"CROSSFADE_BUS": nats_server.url}
    running = [
        crossfade("worker", "desk.tools", "desk.by_email", home=tmp_path, env=env),
        crossfade("workflow", "run", "desk.by_email", home=tmp_path, env=env),
    ]
    try:
        for process in running:
            assert process.stdout.readline(), process.communicate()
        event = email("How do I copy a list?")
        page = asyncio.create_task(told(nats_server.url, prefix, event.id))
        await publish(nats_server.url, prefix, event)
        instance = await waiting(tmp_path, env)
        said(
            "workflow", "signal", instance, "approved", "--approve", "--by", "editor", "--json", home=tmp_path, env=env
        )
        seen = await page
        shown = said("workflow", "show", instance, "--json", home=tmp_path, env=env)
    finally:
        for process in running:
            process.terminate()
            process.communicate(timeout=30)

    kinds = [kind for kind, _, _ in seen]
    assert kinds[-1] == "workflow.completed"
    assert {"workflow.started", "call.started", "agent.task.progress", "tool.progress", "workflow.shown"} <= set(kinds)
    assert {data["step"] for kind, _, data in seen if kind == "workflow.advanced"} >= {"answer", "further", "summary"}
    written = tmp_path / "reports" / shown["value"]
    assert "list.copy" in written.read_text()
    journal = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert len([line for line in journal if (line["tool"], line["phase"]) == ("write_report", "begin")]) == 1
