"""The command line as people and scripts have it: the real command, a real broker, its words and exit codes."""

from __future__ import annotations

import http.client
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import pytest

from crossfade.adapters.embedded import ensure_server, stop
from support.nats_server import NatsServer, free_port

CROSSFADE = str(Path(sys.executable).with_name("crossfade"))
MODULES = {
    "shop.py": """
import os, time
from pathlib import Path
from crossfade import shim

@shim.tool("shop.quote", effects="none")
def quote(item: str, api_key: str = "") -> str:
    return f"{item} by {os.getpid()}"

@shim.tool("shop.pay")
def pay(order: str) -> str:
    return f"{order} by {os.getpid()}"

@shim.tool("shop.slow", effects="none", stage="bus", timeout=20)
def slow(name: str, go: str) -> int:
    Path(f"{name}.begun").write_text(str(os.getpid()))
    while not Path(go).exists():
        time.sleep(0.01)
    return os.getpid()
""",
    "noting.py": """
import shop
from crossfade import shim

@shim.tool("shop.note", effects="none")
def note(items: list[str]) -> None:
    items.append("noted")
""",
    "empty.py": "",
    "broken.py": "def f(:\n",
    "raising.py": "wanted = {}['missing']\n",
    "lacking.py": "import no_such_dependency\n",
}


@dataclass(kw_only=True)
class Done:
    """How a command ended."""

    code: int
    out: str
    err: str
    seconds: float

    def json(self):
        assert len(self.out.splitlines()) == 1, self.out
        return json.loads(self.out)

    def first_line(self) -> str:
        """Without what may follow of processes that ended a moment ago and could not say so."""
        return self.out.partition("\n")[0]

    def lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass(kw_only=True)
class Shell:
    """A folder and an environment in which commands are typed; what it started is ended with it."""

    folder: Path
    environment: dict[str, str]
    started: list[subprocess.Popen] = field(default_factory=list)

    def run(self, *words, code=0, traceback=False, **environment) -> Done:
        began = time.monotonic()
        process = self.start(*words, **environment)
        out, err = process.communicate(timeout=60)
        done = Done(code=process.returncode, out=out, err=err, seconds=time.monotonic() - began)
        assert done.code == code, f"{words} exited {done.code}:\n{out}\n{err}"
        assert traceback or "Traceback" not in err
        return done

    def start(self, *words, command=(CROSSFADE,), **environment) -> subprocess.Popen:
        process = subprocess.Popen(
            [*command, *words],
            cwd=self.folder,
            env=os.environ | self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def python(self, code: str) -> subprocess.Popen:
        return self.start("-c", f"import shop; from crossfade import shim; {code}", command=(sys.executable,))

    def declare(self) -> None:
        """What starting the shop's own process does: its seams are known on the bus."""
        process = self.python("shim.connect(required=True).close()")
        assert process.wait(30) == 0, process.stderr.read()

    def worker(self, *options, module="shop") -> subprocess.Popen:
        """A worker that serves; its first line is in ``ready``."""
        process = self.start("worker", module, *options)
        process.ready = process.stdout.readline()
        assert process.ready, process.communicate()
        return process

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.communicate()


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """One embedded broker for this file; it goes by itself should this process be killed."""
    path = tmp_path_factory.mktemp("broker") / "bus"
    ensure_server(path, idle=30)
    yield f"embedded://{path}"
    stop(path)


def write_modules(folder: Path) -> Path:
    for name, text in MODULES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def shell(broker, tmp_path):
    """A folder with the shop's modules and an installation of its own on the shared broker."""
    prefix = f"t{os.getpid()}_{tmp_path.name[-12:]}".lower()[:32]
    environment = {"CROSSFADE_BUS": broker, "CROSSFADE_PREFIX": re.sub("[^a-z0-9_]", "_", prefix)}
    shell = Shell(folder=write_modules(tmp_path), environment=environment)
    yield shell
    shell.close()


@pytest.fixture(scope="module")
def shop(broker, tmp_path_factory):
    """One installation whose seams are declared, for tests that change nothing in it."""
    folder = write_modules(tmp_path_factory.mktemp("shop"))
    shell = Shell(folder=folder, environment={"CROSSFADE_BUS": broker, "CROSSFADE_PREFIX": "shop"})
    shell.declare()
    yield shell
    shell.close()


@pytest.fixture(scope="module")
def blocked(broker, tmp_path_factory):
    """An installation with a seam at shadow that has a blocker: its body was seen to change its arguments."""
    folder = write_modules(tmp_path_factory.mktemp("blocked"))
    shell = Shell(folder=folder, environment={"CROSSFADE_BUS": broker, "CROSSFADE_PREFIX": "blocked"})
    declare = "import noting; c = shim.connect(required=True); noting.note(['one']); c.close()"
    assert shell.python(declare).wait(30) == 0
    shell.run("stage", "set", "shop.note", "observe")
    assert shell.python(declare).wait(30) == 0
    shell.run("stage", "set", "shop.note", "shadow")
    yield shell
    shell.close()


def await_file(path: Path, seconds: float = 20) -> str:
    end = time.monotonic() + seconds
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, f"{path.name} did not appear"
        time.sleep(0.01)
    return path.read_text()


def await_health(address: str, seconds: float = 20) -> tuple[int, dict]:
    """What a worker answers once it no longer says that it is starting."""
    end = time.monotonic() + seconds
    while True:
        connection = http.client.HTTPConnection(address, timeout=10)
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        found = json.loads(answer.read())
        connection.close()
        if found["status"] != "starting" or time.monotonic() > end:
            return answer.status, found
        time.sleep(0.01)


# -- the command itself --------------------------------------------------------------------------------------------


def test_the_version_is_the_packages(shop):
    """A report can name the version with one command."""
    assert shop.run("--version").out == f"crossfade {version('crossfade')}\n"


@pytest.mark.parametrize(
    "words", [["nonsense"], ["stage", "set"], ["worker"], ["bus", "up", "--idle", "-1"]], ids=" ".join
)
def test_wrong_usage_is_exit_code_2(shop, words):
    """A word that is no command, a missing argument and a number out of range are wrong usage, said on stderr."""
    done = shop.run(*words, code=2)

    assert "Usage:" in done.err
    assert done.out == ""


@pytest.mark.parametrize(
    "words", [["--help"], ["stage", "list"], ["events", "tail", "--json"], ["doctor"]], ids=" ".join
)
def test_a_reader_that_goes_away_is_no_error_to_shout_about(shop, words):
    """`crossfade ... | head -1` leaves no traceback, even when head has gone before the first line."""
    process = shop.start(*words)
    process.stdout.close()

    assert process.stderr.read() == ""
    assert process.wait(30) in (0, 1)


# -- bus -----------------------------------------------------------------------------------------------------------


def test_the_broker_goes_up_and_down(tmp_path):
    """up starts it and status tells of it; down stops it, and says so when there was nothing to stop."""
    shell = Shell(folder=tmp_path, environment={})
    try:
        up = shell.run("bus", "up", "my bus", "--idle", "30")
        status = shell.run("bus", "status", "my bus", "--json").json()
        again = shell.run("bus", "up", "my bus", "--idle", "30", "--json").json()
        stopped = shell.run("bus", "down", "my bus").out
        missing = shell.run("bus", "down", "my bus").out
        after = shell.run("bus", "status", "my bus", "--json", code=1).json()
        text = shell.run("bus", "status", "my bus", code=1).out
    finally:
        stop(tmp_path / "my bus")

    assert f"export CROSSFADE_BUS='embedded://{tmp_path}/my bus'\n" in up.out
    assert status["running"]
    assert status["answering"]
    assert status["idle"] == 30
    assert again["pid"] == status["pid"]
    assert ("is stopped" in stopped, "was not running" in missing) == (True, True)
    assert (after["running"], after["answering"], after["version"]) == (False, False, None)
    assert f"`crossfade bus up '{tmp_path}/my bus'` starts it" in text


def test_a_folder_that_cannot_hold_a_broker_is_a_wrong_setting(tmp_path):
    """Where nothing can be written, bus up says it in one line and exits with 2."""
    shell = Shell(folder=tmp_path, environment={})

    done = shell.run("bus", "up", "/proc/nowhere", code=2)

    assert re.fullmatch(r"crossfade: /proc/nowhere .+\n", done.err)


# -- stage ---------------------------------------------------------------------------------------------------------


def test_no_seam_is_said_to_be_known_before_one_is_declared(shell):
    """An empty list says what to do; for scripts it is an empty list."""
    assert "start a process" in shell.run("stage", "list").out
    assert shell.run("stage", "list", "--json").json() == []


def test_declared_seams_are_listed(shop):
    """Each seam is listed with its stage, effects, where its body is, and that nobody but the code set it."""
    lines = shop.run("stage", "list").out.splitlines()
    rows = {row["seam"]: row for row in shop.run("stage", "list", "--json").json()}

    assert lines[0].split() == ["seam", "stage", "effects", "rev", "procs", "set", "by", "body", "reason"]
    assert lines[2].split() == ["shop.quote", "legacy", "none", "0", "0", "(code)", "shop.py:6"]
    assert set(rows) == {"shop.pay", "shop.quote", "shop.slow"}
    assert rows["shop.quote"] == {
        "seam": "shop.quote",
        "domain": "tool",
        "stage": "legacy",
        "percent": 0.0,
        "effects": "none",
        "timeout": 30.0,
        "revision": 0,
        "processes": 0,
        "workers": 0,
        "lagging": [],
        "actor": "(code)",
        "reason": "",
        "changed": "",
        "broken": [],
        "legacy_hits": 0,
        "blockers": [],
        "place": f"{shop.folder}/shop.py:6",
    }


def test_a_move_is_kept_with_who_and_why(shell):
    """set prints the move; list and the event of the move tell who made it and why."""
    shell.declare()

    moved = shell.run("stage", "set", "shop.quote", "observe", "--reason", "ticket [/77]", "--timeout", "3")
    back = shell.run("stage", "set", "shop.quote", "legacy", "--json").json()
    row = next(row for row in shell.run("stage", "list", "--json").json() if row["seam"] == "shop.quote")
    told = shell.run("events", "tail", "--json", "--type", "seam.stage.changed").lines()

    assert moved.first_line() == "shop.quote: legacy -> observe (revision 1)"
    assert (back["seam"], back["from"], back["to"]) == ("shop.quote", "observe", "legacy")
    assert (row["stage"], row["timeout"], row["revision"], row["reason"]) == ("legacy", 3, back["revision"], "")
    assert [(event["data"]["to"], event["data"]["reason"]) for event in told] == [
        ("observe", "ticket [/77]"),
        ("legacy", ""),
    ]
    assert {event["data"]["actor"] for event in told} == {row["actor"]}


def test_a_reason_is_shown_as_it_was_written(shell):
    """Brackets are no markup, and control characters do not reach the terminal."""
    shell.declare()

    shell.run("stage", "set", "shop.quote", "observe", "--reason", "see [/bold]\n\x1b[31mred")
    shown = shell.run("stage", "list").out

    assert "see [/bold]\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}[31mred" in shown


REFUSALS = {
    "skips stages": (["shop.quote", "bus"], 4, "--force"),
    "skips one stage": (["shop.quote", "shadow"], 4, "legacy to shadow skips observe"),
    "changes its arguments": (["shop.note", "canary"], 4, "in place"),
    "no share of its canary": (["shop.quote", "canary", "--force"], 4, "--percent"),
    "no such stage": (["shop.quote", "production"], 2, "legacy, observe, shadow, canary, bus, retired"),
    "no such stage, forced": (["shop.quote", "production", "--force"], 2, "legacy, observe, shadow, canary, bus"),
    "no such seam": (["shop.qoute", "observe"], 2, "shop.quote"),
    "no time at all": (["shop.quote", "observe", "--timeout", "0"], 2, "timeout"),
    "not a number": (["shop.quote", "observe", "--timeout", "nan"], 2, "timeout"),
    "more than all": (["shop.quote", "observe", "--percent", "100.5"], 2, "percent"),
    "less than none": (["shop.quote", "observe", "--sample", "-0.1"], 2, "sample"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_move_that_must_not_be_is_refused_in_one_line(blocked, case):
    """Each refusal has its exit code, one line that says what can be done, and nothing on stdout."""
    words, code, text = REFUSALS[case]

    done = blocked.run("stage", "set", *words, code=code)

    assert re.fullmatch(r"crossfade: .+\n", done.err)
    assert text in done.err
    assert done.out == ""


def test_a_refused_move_changes_nothing(blocked):
    """Refused by the stage table, by a blocker or for a wrong setting: no seam and no event has changed."""

    def standing():
        told = blocked.run("events", "tail", "--json", "--type", "seam.stage.changed").lines()
        return blocked.run("stage", "list", "--json").json(), told

    before = standing()
    for case in ("skips stages", "changes its arguments", "more than all"):
        words, code, _ = REFUSALS[case]
        blocked.run("stage", "set", *words, code=code)

    assert {row["seam"]: row["stage"] for row in before[0]} == {
        "shop.note": "shadow",
        "shop.pay": "legacy",
        "shop.quote": "legacy",
        "shop.slow": "bus",
    }
    assert standing() == before


def test_what_blocks_a_seam_is_told_and_force_passes_over_it(blocked):
    """The list names the blocker; with --force the seam goes on, back it may go at any time."""
    listed = blocked.run("stage", "list")
    forced = blocked.run("stage", "set", "shop.note", "canary", "--force", "--percent", "1", "--json").json()
    back = blocked.run("stage", "set", "shop.note", "shadow", "--json").json()

    assert re.search(r"^shop\.note is blocked: .*in place", listed.out, re.MULTILINE)
    assert (forced["from"], forced["to"]) == ("shadow", "canary")
    assert (back["from"], back["to"]) == ("canary", "shadow")


def test_a_blocked_seam_is_freed_by_name_and_reason(shell):
    """It says what was cleared, and that nothing is left; a reason is asked for."""
    declare = "import noting; c = shim.connect(required=True); noting.note(['one']); c.close()"
    assert shell.python(declare).wait(30) == 0
    shell.run("stage", "set", "shop.note", "observe")
    assert shell.python(declare).wait(30) == 0

    unsaid = shell.run("stage", "unblock", "shop.note", code=2)
    freed = shell.run("stage", "unblock", "shop.note", "--reason", "build 7")
    again = shell.run("stage", "unblock", "shop.note", "--reason", "build 7", "--json").json()

    assert "--reason" in unsaid.err
    assert re.fullmatch(r"shop\.note is no longer blocked: .*in place.*\n", freed.out)
    assert again == {"seam": "shop.note", "cleared": []}
    assert "blocked" not in shell.run("stage", "list").out


def test_a_seam_goes_through_every_stage_and_back(shell):
    """Stage by stage without --force; canary shows its share; retired is left with --force only."""
    shell.declare()
    share = ["--percent", "12.5"]
    moves = [
        shell.run("stage", "set", "shop.quote", stage, *(share if stage == "canary" else []), "--json").json()
        for stage in ("observe", "shadow", "canary", "bus", "retired")
    ]
    row = shell.run("stage", "list", "--json").json()[1]
    shell.run("stage", "set", "shop.slow", "canary", "--percent", "12.5")
    listed = shell.run("stage", "list").out
    held = shell.run("stage", "set", "shop.quote", "bus", code=4)
    freed = shell.run("stage", "set", "shop.quote", "legacy", "--force", "--abort")

    assert [(move["from"], move["to"]) for move in moves] == [
        ("legacy", "observe"),
        ("observe", "shadow"),
        ("shadow", "canary"),
        ("canary", "bus"),
        ("bus", "retired"),
    ]
    assert (row["seam"], row["stage"], row["percent"], row["revision"]) == ("shop.quote", "retired", 12.5, 5)
    assert re.search(r"^shop\.slow   canary 12\.5%  none ", listed, re.MULTILINE)
    assert re.search(r"^shop\.quote  retired  ", listed, re.MULTILINE)
    assert "one-way" in held.err
    assert freed.first_line() == "shop.quote: retired -> legacy (revision 6)"


def test_a_move_tells_who_follows_and_a_list_what_nobody_serves(shell):
    """A running worker follows and is counted; once it is gone, its seams on the bus are named as served by nobody."""
    worker = shell.worker()
    moved = shell.run("stage", "set", "shop.quote", "observe")
    row = next(row for row in shell.run("stage", "list", "--json").json() if row["seam"] == "shop.quote")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(20) == 0
    alone = shell.run("stage", "list").out

    assert moved.out == "shop.quote: legacy -> observe (revision 1)\n1 process follows.\n"
    assert (row["processes"], row["workers"], row["lagging"]) == (1, 1, [])
    assert "shop.slow is at bus, and no worker that serves it is alive" in alone
    assert "shop.quote is at" not in alone


def test_an_unsafe_seam_travels_where_claims_are_safe(shell):
    """On a broker that syncs every write an unsafe seam goes to the bus, and a worker, not the caller, runs it."""
    worker = shell.worker()
    shell.run("stage", "set", "shop.pay", "bus", "--force")
    caller = shell.python("shim.connect(required=True); print(shop.pay('seven'))")
    answer = caller.communicate(timeout=30)[0]
    told = [event["type"] for event in shell.run("events", "tail", "--json", "--seam", "shop.pay").lines()]

    assert answer == f"seven by {worker.pid}\n"
    assert told == ["seam.stage.changed", "tool.invoke", "call.claimed", "tool.result"]


def test_an_unsafe_seam_stays_where_a_power_cut_could_forget_a_claim(tmp_path):
    """Without sync_interval: always it is refused, also with --force; --unsafe-storage is the only way, and is kept."""
    with NatsServer() as server:
        shell = Shell(folder=write_modules(tmp_path), environment={"CROSSFADE_BUS": f"nats://127.0.0.1:{server.port}"})
        try:
            shell.declare()
            shell.run("stage", "set", "shop.pay", "observe")
            refused = shell.run("stage", "set", "shop.pay", "bus", "--force", code=4)
            stands = shell.run("stage", "list", "--json").json()[0]
            shell.run("stage", "set", "shop.pay", "bus", "--force", "--unsafe-storage")
            shell.run("stage", "set", "shop.pay", "legacy")
            again = shell.run("stage", "set", "shop.pay", "bus", "--force")
            harmless = shell.run("stage", "set", "shop.quote", "bus", "--force")
        finally:
            shell.close()

    assert re.fullmatch(r"crossfade: shop.pay has effects='unsafe'.+--unsafe-storage\n", refused.err)
    assert (stands["seam"], stands["stage"], stands["revision"]) == ("shop.pay", "observe", 1)
    assert again.first_line() == "shop.pay: legacy -> bus (revision 4)"
    assert harmless.first_line() == "shop.quote: legacy -> bus (revision 1)"


# -- worker --------------------------------------------------------------------------------------------------------


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
    refused = shell.run("worker", "shop", "--health", "0.0.0.0:0", code=2)

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
def test_a_module_that_cannot_be_served_is_one_line(shop, case):
    """A module that is not there or declares nothing is wrong usage, said in one line."""
    module, text = MODULE_MISTAKES[case]

    done = shop.run("worker", module, code=2)

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
def test_an_error_in_a_users_module_shows_the_users_lines_only(shop, module, line, error):
    """The traceback of a module that does not import begins in that module and ends with its error."""
    done = shop.run("worker", module, code=2, traceback=True)

    assert done.err.startswith(f"crossfade: MODULE: {module} cannot be imported:\n")
    assert line in done.err
    assert error in done.err
    assert "crossfade/migrations" not in done.err
    assert "importlib" not in done.err


@pytest.mark.parametrize(
    ("option", "value"), [("--concurrency", "0"), ("--ack-wait", "0"), ("--grace", "-1"), ("--shadows", "-1")]
)
def test_a_worker_refuses_numbers_that_mean_nothing(shop, option, value):
    """No places, no time for a sign of life and negative grace are wrong usage."""
    assert option in shop.run("worker", "shop", option, value, code=2).err


# -- events --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def told(broker, tmp_path_factory):
    """An installation with some events: a move, three observations of one run, one of another, a secret among them."""
    folder = write_modules(tmp_path_factory.mktemp("told"))
    shell = Shell(folder=folder, environment={"CROSSFADE_BUS": broker, "CROSSFADE_PREFIX": "told"})
    shell.declare()
    shell.run("stage", "set", "shop.quote", "observe")
    process = shell.python(
        "c = shim.connect(required=True)\n"
        "with shim.correlate(user='alice'):\n"
        "    for item in ('apple', 'pear', 'plum'): shop.quote(item, api_key='hunter2-' + item)\n"
        "shop.quote('fig')\n"
        "c.close()"
    )
    assert process.wait(30) == 0, process.stderr.read()
    yield shell
    shell.close()


def test_the_tail_shows_what_happened_in_order(told):
    """Without options everything kept is shown, one line per event, the oldest first."""
    lines = told.run("events", "tail").out.splitlines()

    assert [line.split()[1] for line in lines] == ["seam.stage.changed", *["tool.observed"] * 4]
    assert all("shop.quote" in line for line in lines)


def test_the_tail_is_json_for_scripts_and_redacted(told):
    """Each line is one document with the event's attributes and its payload; a secret is not in it."""
    done = told.run("events", "tail", "--json", "--type", "tool.observed")
    first = done.lines()[0]

    assert {"time", "position", "subject", "id", "type", "source", "seam", "callid", "data"} <= first.keys()
    assert first["data"]["arguments"]["item"] == "apple"
    assert "hunter2" not in done.out
    assert "hunter2" not in told.run("events", "tail", "--data").out


def test_the_tail_can_be_narrowed(told):
    """By seam, by type, by run (its id or the end that is shown), by number."""
    runs = [event.get("correlationid") for event in told.run("events", "tail", "--json").lines()]
    run = next(run for run in runs if run)

    def shown(*options) -> int:
        return len(told.run("events", "tail", *options).out.splitlines())

    assert shown("--seam", "shop.quote", "--type", "tool.observed") == 4
    assert shown("--seam", "shop.pay") == 0
    assert shown("--run", run) == shown("--run", run[-8:]) == 3
    assert shown("--since", "999999999d", "--limit", "2") == 2


@pytest.mark.parametrize("since", ["yesterday", "10", "-5m", ""])
def test_a_time_that_is_none_is_refused(told, since):
    """--since takes a number and a unit; anything else is refused with an example. Nothing is not taken for now."""
    done = told.run("events", "tail", f"--since={since}", code=2)

    assert re.fullmatch(r"crossfade: --since: .+10m.+\n", done.err)


def test_following_goes_on_until_ctrl_c(told):
    """-f shows what is there since the time asked for and waits; Ctrl-C ends it with 130 and not a word."""
    process = told.start("events", "tail", "-f", "--since", "1h", "--json", "--type", "tool.observed")
    seen = [json.loads(process.stdout.readline()) for _ in range(4)]
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)

    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=10)

    assert [event["data"]["n"] for event in seen] == [1, 2, 3, 4]
    assert (process.returncode, rest, err) == (130, "", "")


def test_following_ends_at_its_limit(told):
    """-f with --limit stops after so many events, with 0 and nothing on stderr."""
    done = told.run("events", "tail", "-f", "--since", "1h", "--limit", "3")

    assert len(done.out.splitlines()) == 3
    assert done.err == ""


# -- doctor --------------------------------------------------------------------------------------------------------


def findings(done: Done) -> dict[str, dict[str, str]]:
    return {finding["check"]: finding for finding in done.json()}


def test_the_doctor_finds_nothing_wrong_with_a_good_setup(shop):
    """Everything is ok, and the text for people has a line per check."""
    found = findings(shop.run("doctor", "--json"))
    text = shop.run("doctor").out

    assert {finding["status"] for finding in found.values()} == {"ok"}
    assert {"python", "bus", "streams", "clock", "event size", "durability", "seams"} <= found.keys()
    assert found["seams"]["found"] == "shop.pay, shop.quote, shop.slow"
    assert all(check in text for check in found)
    assert "\x1b" not in text


def test_the_doctor_says_what_to_do_when_the_broker_is_absent(shop):
    """Exit code 1, the address, and a remedy, well within ten seconds."""
    done = shop.run("doctor", "--json", "--bus", f"nats://127.0.0.1:{free_port()}", code=1)
    bus = findings(done)["bus"]

    assert (bus["status"], "127.0.0.1" in bus["found"]) == ("fail", True)
    assert "start that broker" in bus["remedy"]
    assert done.seconds < 10


def test_the_doctor_names_the_line_of_a_broken_file(shell):
    """A syntax error in crossfade.toml is a failed check that names file and line."""
    (shell.folder / "crossfade.toml").write_text('prefix = "cf"\nbus = \n')

    settings = findings(shell.run("doctor", "--json", code=1))["settings"]

    assert settings["found"].startswith("crossfade.toml:2: ")
    assert settings["remedy"]


def test_other_commands_name_the_line_of_a_broken_file(shell):
    """Elsewhere the same mistake is exit code 2 and one line."""
    (shell.folder / "crossfade.toml").write_text('prefix = "cf"\nbus = \n')

    assert re.fullmatch(r"crossfade: crossfade.toml:2: .+\n", shell.run("stage", "list", code=2).err)


@pytest.mark.parametrize(
    ("name", "value", "code", "status"),
    [
        ("CROSSFADE_OFF", "maybe", 1, "fail"),
        ("CROSSFADE_OFF", "1", 0, "warn"),
        ("CROSSFADE_REDACT_KEY", "short", 1, "fail"),
        ("CROSSFADE_SEAL_KEY", "short", 1, "fail"),
    ],
)
def test_the_doctor_looks_at_the_environment(shop, name, value, code, status):
    """A kill switch that is on is a warning; one that means nothing and keys that cannot be used are failures."""
    found = shop.run("doctor", "--json", code=code, **{name: value}).json()

    assert [finding["status"] for finding in found if name in finding["found"]] == [status]


def test_the_doctor_warns_of_settings_nobody_uses(shop, tmp_path):
    """A seam in crossfade.toml that no process declares is probably a typing error."""
    file = tmp_path / "other.toml"
    file.write_text('[seams."shop.qoute"]\nstage = "observe"\n')

    settings = findings(shop.run("doctor", "--json", "--config", str(file)))["settings"]

    assert settings["status"] == "warn"
    assert "shop.qoute" in settings["found"]


# -- brokers that are not as they should be ------------------------------------------------------------------------


def test_wrong_credentials_are_told_and_not_shown(shop):
    """A broker that refuses us is exit code 3; the password we tried is nowhere in the output."""
    config = "authorization { user: anna, password: right-horse }"
    with NatsServer(config=config) as server:
        address = f"anna:wrong-horse@127.0.0.1:{server.port}"
        done = shop.run("stage", "list", "--bus", f"nats://{address}", code=3)
        worker = shop.run("worker", "shop", "--bus", f"nats://{address}", code=3)
        good = shop.run("doctor", "--bus", f"nats://anna:right-horse@127.0.0.1:{server.port}")

    assert re.fullmatch(r"crossfade: .*refused our credentials.+\n", done.err)
    assert "refused our credentials" in worker.err
    assert worker.seconds < 10
    assert not [text for text in (done.err, worker.err, good.out) if "horse" in text]


def test_a_broker_that_never_answers_is_given_up_in_time(shop):
    """Something that listens and says nothing does not hang a command: exit code 3 within ten seconds."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        results = []
        threads = [
            threading.Thread(
                target=lambda words=words, code=code: results.append(shop.run(*words, "--bus", url, code=code))
            )
            for words, code in [
                (["stage", "list"], 3),
                (["events", "tail", "-f"], 3),
                (["worker", "shop", "--wait", "3"], 3),
                (["doctor"], 1),
            ]
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert len(results) == 4
    assert max(done.seconds for done in results) < 10


# -- what a person sees --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", ["30", "80"])
def test_names_and_paths_are_whole_at_any_width(shop, columns):
    """Seams, stages and paths can be copied from a terminal of any width."""
    listed = shop.run("stage", "list", COLUMNS=columns).out
    status = shop.run("bus", "status", "nowhere", code=1, COLUMNS=columns).out

    assert "\N{HORIZONTAL ELLIPSIS}" not in listed
    assert re.search(r"^shop\.quote  legacy .* shop\.py:6$", listed, re.MULTILINE)
    assert f"`crossfade bus up {shop.folder}/nowhere`" in status


def in_terminal(shell: Shell, *words, **environment) -> str:
    """What a command writes to a terminal."""
    ours, theirs = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [CROSSFADE, *words],
        cwd=shell.folder,
        env=clean | shell.environment | {"TERM": "xterm"} | environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    written = b""
    while select.select([ours], [], [], 30)[0]:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux: the other side is closed
            break
        if not read:
            break
        written += read
    os.close(ours)
    assert process.wait(10) == 0
    return written.decode()


def test_colours_are_for_terminals_and_no_color_is_heeded(shop):
    """doctor is coloured in a terminal, and not with NO_COLOR."""
    coloured = re.compile(r"\x1b\[[0-9;]*3[0-7]m")

    assert coloured.search(in_terminal(shop, "doctor"))
    assert not coloured.search(in_terminal(shop, "doctor", NO_COLOR="1"))


# -- demo ----------------------------------------------------------------------------------------------------------


def test_the_demo_loses_and_doubles_nothing(shop, note):
    """demo --json tells its story on stderr, one summary on stdout, and the summary holds."""
    done = shop.run("demo", "--json")
    summary = done.json()

    assert {"calls", "executed", "mismatches", "stages", "latency_ms", "seconds", "unknown"} <= summary.keys()
    assert (summary["lost"], summary["doubled"], summary["kills"]) == (0, 0, 2)
    assert summary["redelivered"] >= 1
    assert summary["mismatches"] == []
    assert summary["executed"].keys() == summary["latency_ms"].keys() == {"legacy", "bus"}
    assert min(summary["executed"].values()) > 0
    assert all(latency.keys() == {"p50", "p99"} for latency in summary["latency_ms"].values())
    assert [row["stage"] for row in summary["stages"]] == ["legacy", "observe", "shadow", "canary", "bus"]
    assert summary["regression_caught"]
    assert summary["stayed_back"] == ["desk.summarise"]
    assert summary["verdicts"]["desk.search"].keys() == {"match"}
    assert summary["verdicts"]["desk.summarise"]["mismatch"] > 0
    assert done.err.count("kill -9") == 2
    note(
        f"crossfade demo: {summary['calls']} calls in {summary['seconds']} s, {summary['redelivered']} delivered again"
    )
