"""``crossfade proxy`` as a person and a supervisor have it: what it says, what it refuses, how it reloads and ends."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import httpx
import pytest

from support.commands import Process, crossfade, until


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """The test's output is its own."""


@pytest.fixture
def services():
    """Two services that answer with their names; their URLs."""
    servers = []
    for name in ("old", "new"):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        server.name = name
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
    yield [f"http://127.0.0.1:{server.server_port}" for server in servers]
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def proxy(tmp_path):
    """A proxy process on a port of its own, by the options given; started by the test."""
    started = []

    def start(*options):
        process = Process("proxy", "--listen", "127.0.0.1:0", "--json", *options, folder=tmp_path)
        started.append(process)
        return process, process.ready()

    yield start
    for process in started:
        process.process.terminate()
        process.process.wait(20)
        process.__exit__()


def ask(ready, path="/"):
    return httpx.get(ready["url"] + path, trust_env=False, timeout=10).text


def test_an_upstream_is_enough(proxy, services):
    """One option puts it in front of a service; SIGTERM ends it with 0."""
    process, ready = proxy("--upstream", services[0])

    assert ask(ready) == "old"
    assert (ready["default"], ready["routes"], ready["file"]) == ("upstream", [], None)
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(20) == 0


def test_a_person_sees_where_it_listens_and_what_goes_where(services, tmp_path):
    """Address, each route, the rest, the log, and how to stop it."""
    (tmp_path / "routes.yaml").write_text(
        f"upstreams: {{legacy: '{services[0]}'}}\nroutes: [{{seam: http.a, match: 'GET /a/{{id}}'}}]"
    )
    with Process("proxy", "--config", "routes.yaml", "--listen", "127.0.0.1:0", folder=tmp_path) as process:
        lines = [process.line().rstrip() for _ in range(6)]

    assert lines[0].startswith("Listening on http://127.0.0.1:")
    assert lines[1:] == [
        "  GET /a/{id} \u2192 legacy, as seam http.a",
        f"  everything else \u2192 legacy ({services[0]})",
        "Access log: none",
        "Bus: none, so every route passes through: name one with --bus or CROSSFADE_BUS, like embedded://.crossfade",
        "SIGHUP reloads the file, Ctrl-C stops.",
    ]


@pytest.mark.parametrize("workers", [1, 3])
def test_hangup_reloads_and_a_broken_file_does_not(proxy, services, tmp_path, workers):
    """Every worker takes the new routes; a wrong file is told with its line and changes nothing in any of them."""
    old, new = services
    file = tmp_path / "routes.yaml"
    text = f"upstreams: {{old: '{old}', new: '{new}'}}\n"
    file.write_text(text + "default: old")
    process, ready = proxy("--config", file, "--workers", workers)

    def answers():
        return Counter(ask(ready) for _ in range(20))

    assert answers() == {"old": 20}

    file.write_text(text + "default: newer")
    process.process.send_signal(signal.SIGHUP)
    until(lambda: "routes.yaml:2:10: there is no upstream `newer`; known: old, new" in process.log.read_text())
    assert answers() == {"old": 20}

    file.write_text(text + "default: new")
    process.process.send_signal(signal.SIGHUP)
    until(lambda: answers() == {"new": 20}, process.log.read_text())
    assert process.log.read_text().count("reloaded ") == workers


def test_a_worker_that_dies_is_started_again_with_what_is_served_now(proxy, services, tmp_path):
    """By the last good file, although the file is broken by then; and all end with their parent."""
    file = tmp_path / "routes.yaml"
    file.write_text(f"upstreams: {{a: '{services[0]}'}}")
    process, ready = proxy("--config", file, "--workers", 2)
    file.write_text(f"upstreams: {{a: '{services[1]}'}}")
    process.process.send_signal(signal.SIGHUP)
    until(lambda: process.log.read_text().count("reloaded ") == 2)
    file.write_text("broken")
    children = until(lambda: (found := _children(process.process.pid)) and len(found) == 2 and found)

    os.kill(children[0], signal.SIGKILL)
    until(lambda: len(fresh := set(_children(process.process.pid)) - {children[0]}) == 2 and fresh, "not started again")

    assert {ask(ready) for _ in range(10)} == {"new"}
    left = _children(process.process.pid)
    process.process.kill()
    until(lambda: not any(_lives(pid) for pid in left), "workers outlived their parent")


def test_no_request_is_lost_while_workers_reload(proxy, services, tmp_path):
    """SIGHUP after SIGHUP under load: each request is answered by one of the two."""
    file = tmp_path / "routes.yaml"
    text = f"upstreams: {{old: '{services[0]}', new: '{services[1]}'}}\n"
    file.write_text(text + "default: old")
    process, ready = proxy("--config", file, "--workers", 2)
    over = threading.Event()
    seen = Counter()

    def load():
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not over.is_set():
                answer = client.get(ready["url"])
                seen[answer.status_code, answer.text] += 1

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(10):
        done = process.log.read_text().count("reloaded ")
        (tmp_path / "next").write_text(text + f"default: {'new' if turn % 2 == 0 else 'old'}")
        (tmp_path / "next").rename(file)
        process.process.send_signal(signal.SIGHUP)
        until(lambda done=done: process.log.read_text().count("reloaded ") == done + 2)
        enough = seen.total() + len(threads) + 1  # so that one at least was asked after the reload
        until(lambda enough=enough: seen.total() >= enough)
    over.set()
    for thread in threads:
        thread.join()

    assert set(seen) == {(200, "old"), (200, "new")}, seen


@pytest.mark.parametrize("workers", [1, 2])
def test_an_address_in_use_is_one_line(tmp_path, workers):
    """Exit code 2, the address, why, and what to do; workers do not share a port that somebody has."""
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        with Process(
            "proxy", "--upstream", "http://127.0.0.1:1", "--listen", where, "--workers", workers, folder=tmp_path
        ) as it:
            assert it.process.wait(20) == 2

    why = "Address already in use; stop what listens there, or choose another address"
    assert it.log.read_text() == f"crossfade: listen: cannot listen on {where}: {why}\n"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ((), "--upstream: which service? Say --upstream http://HOST:PORT, or --config FILE"),
        (("--upstream", "localhost:9000"), "--upstream: 'localhost:9000' is no URL of a service: write one like"),
        (("--upstream", "http://a", "--config", "x"), "--upstream: say --upstream or --config"),
        (("--upstream", "http://a", "--listen", "8080"), "--listen: '8080' is no HOST:PORT: write one like"),
        (("--upstream", "http://a", "--limit", "x"), "--limit: 'x' is not NAME=VALUE, like body_bytes=1048576"),
        (("--upstream", "http://a", "--limit", "x=1"), "limits.x: there is no such limit; there are connections,"),
        (("--config", "no.yaml"), "no.yaml: there is no such file"),
        (("check", "no.yaml"), "no.yaml: there is no such file"),
    ],
)
def test_a_mistake_is_one_line_and_a_2(options, says, tmp_path, monkeypatch):
    """What is wrong and what to write."""
    monkeypatch.chdir(tmp_path)

    done = crossfade("proxy", *options)

    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"crossfade: {says}")
    assert done.err.count("\n") == 1


def test_check_shows_what_a_file_says(tmp_path, monkeypatch):
    """Good: what goes where; wrong: each mistake on a line of its own."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "routes.yaml"
    identity = "identity: {user: 'cookie:session'}\n"
    routes = "upstreams: {legacy: 'http://127.0.0.1:9000'}\nroutes: [{seam: a, match: GET /a, effects: unsafe}]"
    file.write_text(identity + routes)

    assert crossfade("proxy", "check", "routes.yaml").out.splitlines()[0] == "routes.yaml is good."
    said = crossfade("proxy", "check", "routes.yaml", "--json").json
    assert said["warnings"] == []
    assert said["routes"] == [
        {"seam": "a", "match": "GET /a", "upstream": "legacy", "mode": "call", "effects": "unsafe", "timeout": 30.0}
    ]

    file.write_text("upstreams: {legacy: here}\nroutes: [{seam: A, match: GET}]")
    done = crossfade("proxy", "check", "routes.yaml")

    assert done.code == 2
    assert [line.split(" ")[0 if at else 1] for at, line in enumerate(done.err.splitlines())] == [
        "routes.yaml:1:21:",
        "routes.yaml:2:17:",
        "routes.yaml:2:27:",
    ]


def test_check_warns_of_tasks_that_nobody_could_look_up(tmp_path):
    """Legal, and every request would wait for its answer: the file is good, and what to add is said."""
    file = tmp_path / "routes.yaml"
    text = "upstreams: {a: 'http://h:1'}\nroutes: [{seam: a.b, match: GET /a, mode: task}]\n"
    file.write_text(text)

    done = crossfade("proxy", "check", file)

    (warning,) = [line for line in done.out.splitlines() if line.startswith("Warning: ")]
    assert "a.b" in warning
    assert "add `control: HOST:PORT`" in warning
    assert done.code == 0
    assert len(crossfade("proxy", "check", file, "--json").json["warnings"]) == 1

    file.write_text(text + "control: 127.0.0.1:9\n")

    assert "Warning" not in crossfade("proxy", "check", file).out


def test_check_warns_of_keys_that_clients_share(tmp_path):
    """Nobody is named, so whoever repeats a key and its request is given its answer; a read has no such key."""
    file = tmp_path / "routes.yaml"
    text = "upstreams: {a: 'http://h:1'}\nroutes: [{seam: a.b, match: POST /a}, {seam: a.c, match: GET /a}]\n"
    file.write_text(text)

    (warning,) = crossfade("proxy", "check", file, "--json").json["warnings"]

    assert warning.startswith("a.b is unsafe and `identity` names no user")
    file.write_text(text + "identity: {user: 'cookie:session'}\n")
    assert crossfade("proxy", "check", file, "--json").json["warnings"] == []


def test_check_finds_a_certificate_that_is_none(tmp_path):
    """What would only fail at start fails here."""
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_text("not a certificate")
    file = tmp_path / "routes.yaml"
    file.write_text("upstreams: {a: 'http://h:1'}\ntls: {cert: cert.pem, key: key.pem}")

    done = crossfade("proxy", "check", file)

    assert done.code == 2
    assert "the certificate cannot be used" in done.err
    assert f"{tmp_path}/cert.pem, {tmp_path}/key.pem" in done.err
    assert "check that each file is PEM, that the key is the certificate's" in done.err


@pytest.mark.parametrize(("workers", "code"), [(1, 2), (2, 1)])
def test_an_access_log_that_cannot_be_opened_is_one_line(tmp_path, workers, code):
    """`check` warns of a folder that is missing, and a start ends at once with the file, why, and what to do."""
    file = tmp_path / "routes.yaml"
    file.write_text("listen: 127.0.0.1:0\nupstreams: {a: 'http://h:1'}\naccess_log: nowhere/access.jsonl\n")

    (warning,) = crossfade("proxy", "check", file, "--json").json["warnings"]
    assert warning.startswith("access_log: there is no folder nowhere: make it")
    with Process("proxy", "--config", file, "--workers", workers, folder=tmp_path) as it:
        assert it.process.wait(20) == code

    said = set(it.log.read_text().splitlines())  # by each worker
    why = (
        "cannot be written: No such file or directory; make its folder, let this user write there, or name another file"
    )
    assert said == {f"crossfade: access_log: nowhere/access.jsonl {why}"}


def test_check_warns_of_what_another_router_would_have_meant(tmp_path):
    """`:id` and `*` are letters of a path here, and a mistyped method is somebody's own: legal, and never asked."""
    file = tmp_path / "routes.yaml"
    text = "upstreams: {a: 'http://h:1'}\nroutes: [{seam: a.b, match: %s, effects: none}]\n"
    for match, says in {
        "GET /users/:id": "a.b compares the segment `:id` letter by letter: write {name}",
        "GET /files/*": "a.b compares the segment `*` letter by letter: write {name}",
        "GTE /users": "a.b takes the method GTE: did you mean GET?",
    }.items():
        file.write_text(text % match)
        (warning,) = crossfade("proxy", "check", file, "--json").json["warnings"]
        assert warning.startswith(says)

    for match in ("PROPFIND /v1/a:cancel", "PURGE /cache"):
        file.write_text(text % match)
        assert crossfade("proxy", "check", file, "--json").json["warnings"] == []


def test_the_access_log_has_a_line_a_request(proxy, services, tmp_path):
    """Where the option says, as JSON; the path without its query."""
    process, ready = proxy("--upstream", services[0], "--access-log", tmp_path / "access.jsonl")
    ask(ready, "/a?token=secret")

    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(20) == 0

    (line,) = (tmp_path / "access.jsonl").read_text().splitlines()
    assert json.loads(line)["path"] == "/a"


def _children(pid):
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        pytest.skip("no /proc here")


def _lives(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
