"""Handlers in Go that do what ``docs/reference/protocol.md`` says are workers like any other."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from crossfade.shim import NotExecutedError, RemoteError, Stage, handler, remote, tool
from crossfade.shim.policies import Move
from integration.shim import kit
from support import needs
from support.nats_server import NatsServer

SOURCE = Path(__file__).parent / "handler"

pytestmark = [pytest.mark.needs("go"), pytest.mark.timeout(400)]  # the first build takes Go half a minute of CPU


def price(item: str) -> int:
    raise NotImplementedError


def charge(who: str, cents: int) -> str:
    raise NotImplementedError


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Path:
    """The folder of the built handlers; Go's caches are kept from run to run."""
    folder = tmp_path_factory.mktemp("go")
    source = shutil.copytree(SOURCE, folder / "source")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "crossfade-tests"
    environment = {**os.environ, "GOCACHE": str(cache / "go-build"), "GOMODCACHE": str(cache / "go-mod")}
    command = [needs.locate("go"), "build", "-mod=mod", "-modcacherw", "-o", f"{folder}/", "./..."]
    done = subprocess.run(
        command, cwd=source, env=environment, stderr=subprocess.PIPE, text=True, timeout=360, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def prefix() -> str:
    """The default one: the handlers name it."""
    return "cf"


@pytest.fixture
def server(tmp_path):
    with NatsServer(tmp_path / "nats") as running:
        yield running


@pytest.fixture
def run(programs, server):
    """Start a handler; it is serving when it said so."""
    started = []

    def run(name: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([programs / name, server.url, *arguments], stdout=subprocess.PIPE, text=True)
        started.append(process)
        if name == "charges":
            assert process.stdout.readline() == "serving\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_seam_is_served(run, server, connect):
    """A call at the bus is answered by Go, typed by the caller's own annotations."""
    seam = remote("shop.price", signature=price, effects="none", timeout=20)
    connect(server.url)
    run("reads")

    assert [seam("apple"), seam(item="fig")] == [500, 300]


def test_an_unsafe_call_is_claimed_and_runs_once(run, server, connect, tmp_path):
    """The claim, the fenced result and the error as data: what a Python worker writes, byte for byte readable."""
    seam = remote("shop.charge", signature=charge, timeout=20)
    connection = connect(server.url)
    run("charges", "cf", str(tmp_path / "journal"))

    assert seam("ann", 5) == "ann paid 5"
    with pytest.raises(RemoteError, match="mallory is not charged") as failed:
        seam("mallory", 5)
    assert failed.value.type_name == "ChargeError"
    assert (tmp_path / "journal").read_text() == "ann\n"
    claims = [kit.payload(event) for event in kit.read(connection, "{p}.*.*.*.tool.shop-charge.*.*.own")]
    assert [claim["role"] for claim in claims] == ["worker", "worker"]
    assert len({claim["nonce"] for claim in claims}) == 2


def test_both_languages_share_a_group(run, server, connect, work, tmp_path):
    """Workers of both serve the same seam side by side: each call is run by one of them, and by one only."""
    ran = []

    def here(who: str, cents: int) -> str:
        ran.append(who)
        return f"{who} paid {cents}"

    seam = remote("shop.charge", signature=charge, timeout=30)
    handler("shop.charge")(here)
    connection = connect(server.url)
    run("charges", "cf", str(tmp_path / "journal"))
    work(connection, seam)
    people = [f"p{n}" for n in range(60)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda who: seam(who, 1), people))

    there = (tmp_path / "journal").read_text().split()
    assert answers == [f"{who} paid 1" for who in people]
    assert sorted(ran + there) == sorted(people)
    assert ran
    assert there


def test_a_late_command_is_not_run(run, server, connect, tmp_path):
    """A command that is delivered after its deadline ends as not executed, under a claim, which proves it."""
    seam = remote("shop.charge", signature=charge, timeout=0.5)
    connection = connect(server.url)
    process = run("charges", "cf", str(tmp_path / "journal"))
    process.send_signal(signal.SIGSTOP)
    submitted = seam.submit("late", 1)
    time.sleep(1)  # past the deadline
    process.send_signal(signal.SIGCONT)

    with pytest.raises(NotExecutedError) as refused:
        submitted.result(kit.SOON)
    assert refused.value.reason == "expired"
    assert len(kit.read(connection, "{p}.*.*.*.tool.shop-charge.*.*.own")) == 1
    assert not (tmp_path / "journal").exists()


def test_a_call_that_its_caller_took_back_is_left_alone(run, server, connect, tmp_path):
    """The caller claims it when its deadline passes: the handler's own claim is refused, and it does not start."""
    seam = remote("shop.charge", signature=charge, timeout=0.5)
    connection = connect(server.url)
    process = run("charges", "cf", str(tmp_path / "journal"))
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(NotExecutedError):
        seam("late", 1)
    process.send_signal(signal.SIGCONT)

    assert seam("ann", 1) == "ann paid 1"  # so the one before has been dealt with
    claims = [kit.payload(event)["role"] for event in kit.read(connection, "{p}.*.*.*.tool.shop-charge.*.*.own")]
    assert claims == ["caller", "worker"]
    assert (tmp_path / "journal").read_text() == "ann\n"


def test_a_command_from_before_a_rollback_is_refused(run, server, connect, tmp_path):
    """A rollback raises the least revision: older commands are answered as not executed, so legacy may run."""
    seam = remote("shop.charge", signature=charge, timeout=20)
    connection = connect(server.url)
    run("charges", "cf", str(tmp_path / "journal"))
    rolled_back = {"policy": {"stage": "bus"}, "revision": 1, "minrev": 1_000_000}
    kit.set_live(connection, "shop.charge", json.dumps(rolled_back).encode())

    with pytest.raises(NotExecutedError) as refused:
        seam("ann", 1)
    assert refused.value.reason == "stale-policy"
    assert not (tmp_path / "journal").exists()


def test_it_is_counted_and_waited_for(run, server, connect, tmp_path):
    """What the handler reports makes it one of the live processes: a rollback returns when it follows, or names it."""
    tool("shop.charge", stage="observe")(charge)
    connection = connect(server.url)
    policies = connection.runtime.policies
    kit.until(lambda: kit.on_loop(connection, policies.declared()))
    process = run("charges", "cf", str(tmp_path / "journal"))
    [there] = [one for one in kit.on_loop(connection, policies.instances.live()) if one.role == "worker"]
    assert (there.instance, there.build, dict(there.seams)) == (f"go{process.pid}", "go-1", {"shop.charge": 0})

    def move(target: Stage, wait: float):
        return kit.on_loop(connection, policies.set_stage("shop.charge", Move(target=target, actor="test"), wait=wait))

    followed = move(Stage.SHADOW, kit.SOON)
    assert (followed.following, followed.lagging) == (2, [])
    process.send_signal(signal.SIGSTOP)
    assert move(Stage.LEGACY, 0.5).lagging == [there.instance]
