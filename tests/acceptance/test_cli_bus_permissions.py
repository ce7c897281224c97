"""The roles that ``crossfade bus permissions`` prints, on a server that enforces them: enough for each, and no more."""

from __future__ import annotations

import importlib
import json
import re
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta

import nats
import pytest

from crossfade import shim
from crossfade.adapters.nats import open_bus
from crossfade.adapters.nats.permissions import user
from crossfade.migrations.bus_roles import BUCKETS, roles
from crossfade.shim import connection, hooks, seam
from crossfade.shim.bindings import to_nats
from crossfade.shim.config import Config
from crossfade.shim.coverage import Coverages
from crossfade.shim.errors import BusRefusedError, MalformedEventError
from crossfade.shim.events import Event
from crossfade.shim.instances import Instance, Instances
from crossfade.shim.ports import BusSettings, ConsumeOptions
from crossfade.shim.subjects import Subjects
from crossfade.workflows import naming
from plugins.nats import until as comes
from support.commands import Process, crossfade, until
from support.nats_server import NatsServer
from support.project import ROOTS, TOP, files

SUBJECTS = Subjects("cf")
ROLES = roles(SUBJECTS, files=["orders"])
LOOKS = (
    "traces list",
    "events tail --since 1h",
    "stage list",
    "migrate status",
    "dlq list",
    "workflow list",
    "doctor",
)
_ONCE = ConsumeOptions(ack_wait=0.2, max_deliver=1)
TOOLS = """
from crossfade import shim

@shim.tool("web.search", effects="none")
def search(query: str) -> str:
    return query * 3

@shim.tool("web.post")
def post(text: str) -> str:
    return text * 3
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server with the block as it is printed, prepared by its controller as the page says."""
    printed = crossfade("bus", "permissions", "--prefix", "cf", "--files", "orders")
    assert printed.code == 0, printed.err
    config = re.sub(r"\$[A-Z]+_PASSWORD", "secret", printed.out)
    with NatsServer(tmp_path_factory.mktemp("guarded"), config=config) as running:
        made = crossfade("bus", "prepare", "--files", "orders", "--bus", url(running, "controller"))
        assert made.code == 0, made.err
        yield running


@pytest.fixture(scope="module", autouse=True)
def worker(server, tmp_path_factory):
    """One that serves the tools for every test."""
    folder = tmp_path_factory.mktemp("worker")
    (folder / "tools.py").write_text(TOOLS)
    with Process("worker", "tools", "--json", "--bus", url(server, "worker"), folder=folder) as process:
        assert process.ready()
        yield


@pytest.fixture
def nothing_refused(server):
    """Whatever the test does, the server refuses nothing of it."""
    before = len(server.log())
    yield
    refused = [line for line in server.log()[before:].splitlines() if "Violation" in line]
    assert not refused, "\n".join(refused)


def url(server, role):
    return f"nats://{role}:secret@127.0.0.1:{server.port}?inbox=_INBOX_{role}&sync=always"


@contextmanager
def connected(server, role, **seams):
    """This process, as ``role``."""
    overrides = {name.replace("__", "."): changes for name, changes in seams.items()}
    made = connection.connect(url(server, role), config=Config(prefix="cf", seams=overrides), required=True)
    try:
        yield made
    finally:
        made.close()


def test_an_app_a_worker_and_who_looks_can_do_their_work(server, tmp_path, monkeypatch, nothing_refused):
    """Every stage with a read and a write, large values, a task; doctor; and what a viewer's commands show of it."""
    monkeypatch.setattr(seam.registry, "_seams", {})
    (tmp_path / "tools.py").write_text(TOOLS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    control = ("control", "--listen", "127.0.0.1:0", "--json", "--bus", url(server, "controller"))
    with (
        Process(*control, folder=tmp_path) as plane,
        connected(server, "caller"),
    ):
        tools = importlib.import_module("tools")
        assert plane.ready()
        for stage in ("observe", "shadow", "canary", "bus"):
            for name in ("web.search", "web.post"):
                as_("controller", server, f"stage set {name} {stage} --percent 100 --sample 1 --force")
            with shim.correlate(user="alice"):
                assert tools.search("x" * 300_000) == "x" * 900_000  # too large for an event
                assert tools.search("x") == "xxx"
                assert tools.post("y") == "yyy"
            if stage == "shadow":
                until(lambda: "seam.compared" in as_("viewer", server, "events tail --since 1h"), "no verdict")
        assert tools.post.submit("z").result(10) == "zzz"
        as_("controller", server, "doctor")

        shown = {command: as_("viewer", server, command) for command in LOOKS}
        assert shown["traces list"].count("web.search") == 4
        assert {"tool.invoke", "tool.observed", "seam.stage.changed"} <= set(shown["events tail --since 1h"].split())
        assert "unsafe" in shown["stage list"]


def as_(role, server, command):
    """What a command prints to somebody who has this role's password."""
    done = crossfade(*command.split(), "--bus", url(server, role))
    assert done.code == 0, done
    return done.out


FLOW = """
from crossfade.workflows import Workflow

flow = Workflow("orders.in", on="file.created", key="data.name")

@flow.tool("web.search")
def found(event):
    return {"query": event["name"]}

@flow.approval()
def approved(found):
    return {"found": found}
"""
TRIGGERS = """
modules: [tools]
triggers:
  orders:
    files: {directory: in, settle: 0.1}
    start: {seam: web.post, arguments: {text: name}}
"""


def test_an_engine_and_a_trigger_can_do_their_work(server, tmp_path, monkeypatch, nothing_refused):
    """A file starts a task and a workflow, whose step is a call and whose question an app's user answers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name, text in {"tools.py": TOOLS, "flows.py": FLOW, "triggers.yaml": TRIGGERS}.items():
        (tmp_path / name).write_text(text)
    engine = ("workflow", "run", "flows", "--json", "--bus", url(server, "engine"))
    trigger = ("trigger", "run", "triggers.yaml", "--json", "--bus", url(server, "trigger"))
    with Process(*engine, folder=tmp_path) as running, Process(*trigger, folder=tmp_path) as watching:
        assert running.ready()
        assert watching.ready()
        (tmp_path / "in" / "a.csv").write_text("1,2")
        waiting = until(lambda: json.loads(as_("viewer", server, "workflow list --json")), "no instance")
        until(lambda: "approved" in as_("viewer", server, "workflow list"), "no question")
        as_("caller", server, f"workflow signal {waiting[0]['instance']} approved --approve --by boss")
        until(lambda: as_("viewer", server, "workflow list") == "No instance lives.\n", "not ended")


async def test_a_worker_may_clear_up_after_another(server, nothing_refused):
    """It asks the broker about deliveries of every stream, and forgets the broker's notes."""
    async with opened(server, "worker") as bus:
        async with bus.consume("dying", [SUBJECTS.observations("web.lost", kind="shadow")], _ONCE) as deliveries:
            await bus.publish(SUBJECTS.observation("web.lost", shadow=True), _event("tool.observed"))
            assert await deliveries.next(timeout=10)
        await comes(bus.reap, 20)


@asynccontextmanager
async def opened(server, role):
    bus = open_bus(url(server, role), BusSettings(prefix="cf"), hooks.report)
    await bus.open()
    try:
        yield bus
    finally:
        await bus.close()


def _event(kind):
    return Event(type=kind, source="urn:test", data=b"{}")


DELETING = [
    "$JS.API.STREAM.DELETE.CF_CMD",
    "$JS.API.STREAM.PURGE.CF_OBS",
    "$JS.API.STREAM.RESTORE.CF_CMD",
    "$JS.API.DIRECT.GET.CF_UI",
]
DECIDING = ["$KV.cf_policy.web-search", "cfe.-.-.seam-stage-changed", "cfe.-.-.workflow-answer"]
MAKING = ["$JS.API.STREAM.CREATE.X", "$JS.API.STREAM.CREATE.CF_CMD", "$JS.API.STREAM.UPDATE.CF_CMD"]
STEALING = [
    "$JS.API.CONSUMER.CREATE.CF_CMD.web-post",
    "$JS.API.CONSUMER.MSG.NEXT.CF_CMD.web-post",
    "$JS.ACK.CF_CMD.web-post.1",
]
CALL = "cf.0.-.-.tool.web-post.r.c."
FORBIDDEN = {
    "caller": [*DELETING, *DECIDING, *MAKING, *STEALING, "$KV.cf_workflows.x", "cfv.-.web-post", "cfr.someone"],
    "worker": [*DELETING, *DECIDING, *MAKING, "$KV.cf_workflows.x", "$KV.cf_evidence.x", "$KV.cf_leases.x"],
    "engine": [*DELETING, *DECIDING, *MAKING, "$KV.cf_evidence.x", "cfv.-.web-post"],
    "trigger": [*DELETING, *DECIDING, *MAKING, *STEALING, "$KV.cf_workflows.x"],
    "controller": [*DELETING, "$JS.API.STREAM.CREATE.X", "$KV.cf_workflows.x", "$JS.ACK.CF_CMD.web-post.1"],
    "viewer": [
        *DELETING,
        *DECIDING,
        *MAKING,
        f"{CALL}invoke",
        f"{CALL}result",
        "cfe.-.-.order-placed",
        "cfo.-.x.observed",
    ]
    + [f"$KV.cf_{bucket}.x" for bucket in BUCKETS]
    + ["$O.cf_objects.M.x", "cfdlq.-.x", "cfui.-.alice.r.x", "cfr.cancel"],
}
OTHERS = {name: [f"_INBOX_{other}.>" for other in ROLES if other != name] + ["_INBOX.>", ">"] for name in ROLES}
OTHERS["viewer"] += ["cfr.>", "cfr.someone", "cf.>", "cfui.>"]


@pytest.mark.parametrize("role", ROLES)
async def test_what_is_not_a_roles_work_is_refused(server, role):
    """Each forbidden subject by itself, also whatever another's inbox hears; what is its work passes the same look."""
    allowed = user(ROLES[role], "cf")
    assert await refused(server, role, publish=FORBIDDEN[role]) == {each.lower() for each in FORBIDDEN[role]}
    assert await refused(server, role, subscribe=OTHERS[role]) == {each.lower() for each in OTHERS[role]}
    assert await refused(server, role, subscribe=allowed.subscribe) == set()
    assert await refused(server, role, publish=[f"_INBOX_{role}.x"]) == set()


async def refused(server, role, *, publish=(), subscribe=()):
    """Those of the subjects that the server refuses to this role's password, in lower case as the client has them."""
    told = set()

    async def tell(error):
        told.update(re.findall(r'"(.*?)"', str(error)))

    client = await nats.connect(
        f"nats://{role}:secret@127.0.0.1:{server.port}", error_cb=tell, inbox_prefix=f"_INBOX_{role}"
    )
    try:
        echo = await client.subscribe(f"_INBOX_{role}.echo")
        for subject in publish:
            await client.publish(subject, b"")
        for subject in subscribe:
            await client.subscribe(subject)
        await client.publish(f"_INBOX_{role}.echo", b"")
        await echo.next_msg(timeout=10)  # what was refused before it has been told by now
    finally:
        await client.close()
    return told


async def test_an_adapter_is_told_which_permission_it_lacks(server):
    """A refused publish names its subject; an inbox that is not the user's own is refused when it connects."""
    async with opened(server, "viewer") as bus:
        with pytest.raises(BusRefusedError, match=r"no permission to publish to cfe\.-\.-\.order-placed"):
            await bus.publish(SUBJECTS.fact("order.placed"), _event("order.placed"))
        with pytest.raises(BusRefusedError, match="no permission"):
            await bus.state("policy").put("web-search", b"{}")
    strange = open_bus(url(server, "caller").replace("_INBOX_caller", "_INBOX_viewer"), BusSettings(), hooks.report)
    with pytest.raises(BusRefusedError, match=r"no permission for the inbox _INBOX_viewer\.>.*\?inbox="):
        await strange.open()


async def test_what_a_permission_cannot_keep(server, nothing_refused):
    """The server checks where a request goes, not where its answer shall go: there it stores its own words, no event.

    What an app had stored before, an answer to an approval in all but its subject, keeps its subject in that stream.
    """
    answers, name = naming.answers(SUBJECTS), "$JS.API.CONSUMER.{}.CF_UI.lying"
    lie = to_nats(Event(type=naming.SIGNALLED, source="urn:test", data=b"{}"))
    async with opened(server, "controller") as controller:
        before = await controller.extent(answers)
        client = await nats.connect(f"nats://caller:secret@127.0.0.1:{server.port}", inbox_prefix="_INBOX_caller")
        await client.request(SUBJECTS.ui("x", run="lying"), b"{}", headers=lie, timeout=10)
        config = {"name": "lying", "ack_policy": "explicit", "filter_subjects": [SUBJECTS.ui("x", run="lying")]}
        wanted = json.dumps({"stream_name": "CF_UI", "config": config}).encode()
        made = await client.request(name.format("CREATE"), wanted, timeout=10)
        assert json.loads(made.data)["num_pending"] == 1, made.data
        await client.publish(name.format("MSG.NEXT"), b'{"batch": 9, "no_wait": true}', reply=answers)
        await client.publish("$JS.API.STREAM.NAMES", b"", reply=answers)
        await client.flush()
        await comes(
            lambda: _grown(controller, answers, int(before.last) + 3)
        )  # the lie, that there is no more, the names
        looked = await client.request(name.format("INFO"), b"", timeout=10)
        await client.close()
        assert json.loads(looked.data)["num_pending"] == 0, "the lie was not handed out"
        assert [stored async for stored in controller.read(answers, after=before.last)] == []
        with pytest.raises(MalformedEventError):
            await controller.last(answers)


async def _grown(bus, filter_, to):
    return int((await bus.extent(filter_)).last) >= to


async def test_who_only_looks_leaves_clearing_up_to_others(server):
    """Reports of processes long gone are not shown to a viewer, who may not remove them either."""
    async with opened(server, "controller") as controller, opened(server, "viewer") as viewer:
        gone = Instance(instance="gone", role="app", seen=controller.now() - timedelta(days=3))
        await controller.state("instances").put("gone", gone.encode())
        counts = json.dumps({"seen": gone.seen.isoformat(), "seams": {}}).encode()
        await controller.state("coverage").put("gone", counts)

        assert "gone" not in {found.instance for found in await Instances(viewer).known()}
        assert await Coverages(viewer).counted("web.none") == []
        assert await controller.state("instances").get("gone")
        assert await controller.state("coverage").get("gone")


def test_every_bucket_has_its_roles():
    """A state bucket that the code names and no role knows would be refused to everybody."""
    source = "".join((TOP / path).read_text() for path in files(*(f"{root}/**.py" for root in ROOTS)))
    named = set(re.findall(r'^BUCKET: Final = "(\w+)"', source, re.MULTILINE))
    named |= set(re.findall(r'\.state\("(\w+)"\)', source))

    assert named <= set(BUCKETS)
    assert len(named) > 10


def test_a_role_that_does_not_exist_and_a_bus_that_is_no_nats_server():
    """Both are wrong settings, with what there is."""
    unknown = crossfade("bus", "permissions", "--role", "boss")
    elsewhere = crossfade("bus", "prepare", "--bus", "memory://prepared")

    assert (unknown.code, "use caller, worker, engine, trigger, controller, viewer" in unknown.err) == (2, True)
    assert (elsewhere.code, "only a NATS server" in elsewhere.err) == (2, True)
