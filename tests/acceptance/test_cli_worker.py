"""``crossfade worker`` as a supervisor has it: a ready line, a health page, an end in time."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
from contextlib import suppress

import httpx
import pytest

from support.commands import Process, crossfade, until
from support.shells import await_file, await_health


def ask(address, path="/healthz", method="GET"):
    return httpx.request(method, f"http://{address}{path}", timeout=10, trust_env=False)


@pytest.fixture
def worker(installation, shop):
    """A worker process with a health page; started by the test."""
    started = []

    def start(*options):
        process = Process("worker", "shop", "--json", "--health", "127.0.0.1:0", *options, folder=shop)
        started.append(process)
        return process, process.ready()

    yield start
    for process in started:
        process.__exit__()


def test_the_health_page_says_what_it_serves(worker):
    """Port 0 is chosen and told in the ready line; 200, and the seams, once it serves."""
    _, ready = worker()
    assert ready["seams"] == ["shop.charge", "shop.price"]

    answer = until(lambda: (found := ask(ready["health"])).status_code == 200 and found, "never healthy")

    assert answer.json() == {
        "status": "serving",
        "seams": ["shop.charge", "shop.price"],
        "in_flight": 0,
        "connected": True,
        "spooled": 0,
        "stuck": {},
    }
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"


def test_a_worker_that_stops_is_not_healthy(worker, on_bus):
    """SIGTERM with a call in hand: 503 while it drains, so no balancer counts on it, then exit code 0."""
    process, ready = worker("--grace", 3)
    on_bus(lambda calls: calls.send(data=b'{"arguments":{"who":"slow"}}'))
    until(lambda: ask(ready["health"]).json()["in_flight"] == 1, "never started")

    process.process.send_signal(signal.SIGTERM)

    answer = until(lambda: (found := ask(ready["health"])).status_code == 503 and found)
    assert (answer.json()["status"], answer.json()["in_flight"]) == ("stopping", 1)
    process.process.wait(20)
    assert process.process.returncode == 0
    with pytest.raises(httpx.ConnectError):
        ask(ready["health"])


def test_a_bus_that_is_away_is_not_healthy(shop, tmp_path, prefix, monkeypatch):
    """The broker is killed: 503 and no-bus while it is away, 200 when it is back."""
    from support.nats_server import NatsServer

    with NatsServer(tmp_path / "nats") as server:
        monkeypatch.setenv("CROSSFADE_PREFIX", prefix)
        with Process(
            "worker", "shop", "--json", "--bus", server.url, "--health", "127.0.0.1:0", folder=shop
        ) as process:
            address = process.ready()["health"]
            until(lambda: ask(address).status_code == 200, "never healthy")

            server.kill()

            answer = until(lambda: (found := ask(address)).status_code == 503 and found, "never away")
            assert (answer.json()["status"], answer.json()["connected"]) == ("no-bus", False)
            server.start()
            until(lambda: ask(address).status_code == 200, "never back")


def test_there_is_nothing_but_healthz(worker):
    """Another path, another method, a HEAD, and garbage: each its answer, none of them ends the worker."""
    _, ready = worker()
    host, port = ready["health"].rsplit(":", 1)

    assert ask(ready["health"], "/").status_code == 404
    assert ask(ready["health"], method="POST").status_code == 405
    assert ask(ready["health"], "/healthz?x=1", method="HEAD").content == b""
    with socket.create_connection((host, int(port)), timeout=10) as raw:
        raw.sendall(b"A" * 20_000)
        with suppress(ConnectionError):
            assert raw.recv(100) == b""
    until(lambda: ask(ready["health"]).status_code == 200)


def test_the_ready_line_for_people(installation, shop):
    """What it serves, and where its health is."""
    with Process("worker", "shop", "--health", "127.0.0.1:0", folder=shop) as process:
        assert process.line() == "Serving shop.charge, shop.price, 8 calls of each at once. Ctrl-C stops.\n"
        assert process.line().startswith("Health at http://127.0.0.1:")


def test_spooled_results_are_counted(worker, shop):
    """A result that the bus has not taken is on this disk only: whoever removes the machine wants to know."""
    spool = shop / "elsewhere"
    spool.mkdir()
    record = {
        "subject": "other.x",
        "headers": {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "a", "ce-type": "b"},
    }
    (spool / "1.json").write_text(json.dumps({**record, "data": None}))

    _, ready = worker("--spool", "elsewhere")

    assert ask(ready["health"]).json()["spooled"] == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--health", "8080"), "--health: '8080' is no HOST:PORT"),
        (("--health", "127.0.0.1:99999"), "is no HOST:PORT"),
        (("--health", "0.0.0.0:0"), "--health: 0.0.0.0 can be reached from other machines: say --health-anywhere"),
        (("--health", "[::]:0"), "can be reached from other machines"),
        (("--health", "example.org:0"), "can be reached from other machines"),
        (("--grace", "nan"), "grace: must be 0 seconds at least"),
        (("--ack-wait", "inf"), "ack_wait: must be 1 second at least"),
        (("--shadows", "-1"), "--shadows"),
        (("--concurrency", "0"), "--concurrency"),
    ],
)
def test_what_means_nothing_is_code_2(installation, options, says):
    """One line, before anything starts."""
    done = crossfade("worker", "shop", *options, width=200)

    assert done.code == 2
    assert says in done.err
    assert "Traceback" not in done.err


def test_a_port_that_is_taken_is_code_2(installation, shop):
    """Named with its address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with Process("worker", "shop", "--health", address, folder=shop) as process:
            assert process.process.wait(20) == 2
    assert f"crossfade: --health: cannot listen on {address}: Address already in use\n" in process.log.read_text()


def test_who_follows_a_stage_is_listed(worker, installation):
    """Live processes by seam; without a worker a seam on the bus is worth a remark."""
    worker()

    def rows():
        return {row["seam"]: row for row in crossfade("stage", "list", "--json").json}

    until(lambda: rows().get("shop.price", {}).get("workers") == 1, "the worker does not report")
    moved = crossfade("stage", "set", "shop.price", "bus", "--force")
    listed = crossfade("stage", "list")

    assert "1 process follows." in moved.out
    row = rows()["shop.price"]
    assert (row["stage"], row["processes"], row["workers"], row["lagging"]) == ("bus", 1, 1, [])
    assert listed.out.splitlines()[0].split()[:5] == ["seam", "stage", "effects", "rev", "procs"]
    assert "no worker" not in listed.out


def test_blockers_and_missing_workers_are_remarked(on_bus, installation):
    """What keeps a seam from moving on, and a seam on the bus that nobody serves."""

    async def declare(calls):
        value = {
            "domain": "tool",
            "place": "shop.py:1",
            "blockers": ["its body changes its arguments in place"],
            "policy": {"stage": "bus", "effects": "none"},
        }
        await calls.bus.state("seams").put("shop.charge", json.dumps(value).encode())
        report = {"role": "caller", "seen": calls.bus.now().isoformat(), "seams": {"shop.charge": 0}}
        await calls.bus.state("instances").put("host_1_caller", json.dumps(report).encode())
        live = {"policy": {"stage": "bus"}, "revision": 3}
        await calls.bus.state("policy").put("shop.charge", json.dumps(live).encode())

    on_bus(declare)

    shown = crossfade("stage", "list").out

    assert "shop.charge is blocked: its body changes its arguments in place\n" in shown
    assert "shop.charge is not followed by host_1_caller\n" in shown
    assert "shop.charge is at bus, and no worker that serves it is alive\n" in shown
    assert "0 of 1" in shown


def test_a_worker_with_nothing_but_a_handler_counts(on_bus, installation, shop):
    """It answers the seam's calls, so a rollback has to reach it, too."""
    handler = "@shim.handler('shop.charge')\ndef charge(who: str) -> str:\n    return who\n"
    lone = f"from crossfade import shim\n\n\n{handler}"
    (shop / "lone.py").write_text(lone)
    on_bus(lambda calls: calls.declare("none"))

    with Process("worker", "lone", "--json", folder=shop) as process:
        assert process.ready()["seams"] == ["shop.charge"]

        def workers():
            return crossfade("stage", "list", "--json").json[0]["workers"]

        until(lambda: workers() == 1, "the worker does not report")
        assert "1 process follows." in crossfade("stage", "set", "shop.charge", "legacy").out


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda signum: signum.name)
def test_a_worker_that_is_asked_to_stop_finishes_what_it_has(shell, signum):
    """Asked in the middle of a call, the worker ends it, the caller gets its answer, and the exit code is 0."""
    worker = shell.worker()
    caller = shell.python("shim.connect(required=True); print(shop.slow('one', 'go'))")
    assert int(await_file(shell.folder / "one.begun")) == worker.pid

    worker.send_signal(signum)
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.5)
    (shell.folder / "go").touch()

    assert caller.communicate(timeout=20)[0] == f"{worker.pid}\n"
    assert worker.wait(20) == 0
    assert "Traceback" not in worker.stderr.read()
    assert worker.ready == "Serving shop.quote, shop.pay, shop.slow, 8 calls of each at once. Ctrl-C stops.\n"


def test_a_worker_tells_scripts_when_it_is_ready(shell):
    """With --json the line that says it serves is JSON."""
    assert json.loads(shell.worker("--json").ready) == {
        "ready": True,
        "seams": ["shop.quote", "shop.pay", "shop.slow"],
        "health": None,
    }


def test_a_worker_answers_for_its_health(shell):
    """--health: 200 and what it serves, at the address that the ready line names; 127.0.0.1 unless said otherwise."""
    ready = json.loads(shell.worker("--json", "--health", "127.0.0.1:0").ready)
    status, found = await_health(ready["health"])
    refused = shell.process("worker", "shop", "--health", "0.0.0.0:0", code=2)

    assert (status, found["status"], found["connected"]) == (200, "serving", True)
    assert found["seams"] == ready["seams"]
    assert "--health-anywhere" in refused.err


def test_two_workers_share_the_calls(shell):
    """Two workers with one place each serve two calls at the same time."""
    workers = [shell.worker("--concurrency", "1"), shell.worker("--concurrency", "1")]
    callers = [
        shell.python(f"shim.connect(required=True); print(shop.slow('{name}', 'go'))") for name in ("one", "two")
    ]

    begun = {int(await_file(shell.folder / f"{name}.begun")) for name in ("one", "two")}
    (shell.folder / "go").touch()

    assert begun == {worker.pid for worker in workers}
    assert {int(caller.communicate(timeout=20)[0]) for caller in callers} == begun


MODULE_MISTAKES = {
    "no such module": ("shpo", "there is no module 'shpo'"),
    "no such submodule": ("shop.tools", "there is no module 'shop.tools'"),
    "a file": ("shop.py", "write myapp.tools for myapp/tools.py"),
    "a path": ("./shop", "write myapp.tools for myapp/tools.py"),
    "declares nothing": ("empty", "declare no seam"),
}


@pytest.mark.parametrize("case", MODULE_MISTAKES)
def test_a_module_that_cannot_be_served_is_one_line(declared, case):
    """A module that is not there or declares nothing is wrong usage, said in one line."""
    module, text = MODULE_MISTAKES[case]

    done = declared.process("worker", module, code=2)

    assert re.fullmatch(r"crossfade: .+\n", done.err)
    assert text in done.err


@pytest.mark.parametrize(
    ("module", "line", "error"),
    [
        ("broken", 'broken.py", line 1', "SyntaxError"),
        ("raising", 'raising.py", line 1', "KeyError: 'missing'"),
        ("lacking", 'lacking.py", line 1', "No module named 'no_such_dependency'"),
    ],
)
def test_an_error_in_a_users_module_shows_the_users_lines_only(declared, module, line, error):
    """The traceback of a module that does not import begins in that module and ends with its error."""
    done = declared.process("worker", module, code=2, traceback=True)

    assert done.err.startswith(f"crossfade: MODULE: {module} cannot be imported:\n")
    assert line in done.err
    assert error in done.err
    assert "crossfade/migrations" not in done.err
    assert "importlib" not in done.err


@pytest.mark.parametrize(
    ("option", "value"), [("--concurrency", "0"), ("--ack-wait", "0"), ("--grace", "-1"), ("--shadows", "-1")]
)
def test_a_worker_refuses_numbers_that_mean_nothing(declared, option, value):
    """No places, no time for a sign of life and negative grace are wrong usage."""
    assert option in declared.run("worker", "shop", option, value, code=2).err
