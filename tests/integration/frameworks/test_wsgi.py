"""The WSGI middleware around real applications, under real servers."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import flask
import httpx
import pytest

from crossfade import shim
from crossfade.adapters.wsgi import CorrelationMiddleware
from integration.frameworks.django_app import told_by
from support import web_servers
from support.correlations import here

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01"
TRUSTED = {"trusted": ["127.0.0.1"], "user": "header:X-User", "tenant": "header:X-Tenant"}
GIVEN = {"X-User": "alice", "X-Tenant": "acme", "X-Correlation-Id": "run-1", "X-Causation-Id": "c-9"}


def application(ended: list) -> flask.Flask:
    app = flask.Flask("t")

    @app.get("/plain")
    def plain():
        return here()

    @app.get("/stream")
    def stream():
        def parts():
            try:
                for _ in range(3):
                    with shim.correlate(session="own"):
                        yield here()["run"] + "\n"
            finally:
                ended.append(here())

        return flask.Response(parts(), mimetype="text/plain")

    @app.get("/own")
    def own():
        return "", 200, {"X-Correlation-Id": "mine"}

    @app.get("/file")
    def file():
        return flask.send_file(__file__, mimetype="text/plain")

    @app.get("/fails")
    def fails():
        raise LookupError("the application's own")

    return app


@pytest.fixture
def ended():
    return []


@pytest.fixture
def client(ended):
    """Of a Flask application that trusts this machine."""
    app = application(ended)
    app.wsgi_app = CorrelationMiddleware(app.wsgi_app, **TRUSTED)
    with web_servers.wsgi(app) as url, httpx.Client(base_url=url) as client:
        yield client


def test_a_trusted_peer_says_whose_request_it_is(client):
    """User, tenant, run, cause and trace are in force in the view, and the answer names the run."""
    answer = client.get("/plain", headers={**GIVEN, "traceparent": TRACEPARENT, "tracestate": "a=1"})

    found = answer.json()
    assert (found["user"], found["tenant"], found["run"], found["causation"]) == ("alice", "acme", "run-1", "c-9")
    assert (found["traceparent"], found["tracestate"]) == (TRACEPARENT, "a=1")
    assert (answer.headers["x-correlation-id"], answer.headers["traceparent"]) == ("run-1", TRACEPARENT)


def test_it_holds_while_the_server_takes_what_is_streamed(client, ended):
    """Each part is made in the request's correlation, the generator's end too; the next on that thread has its own."""
    assert client.get("/stream", headers=GIVEN).text == "run-1\n" * 3
    assert (ended[0]["user"], ended[0]["session"]) == ("alice", None)

    found = client.get("/plain").json()  # kept alive: the same thread
    assert found["user"] is None
    assert found["run"] not in ("", "run-1")


def test_requests_side_by_side_keep_to_themselves(client):
    """Thirty streams at once: each is of its own run from the first part to the last."""

    def ask(number: int):
        got[number] = set(client.get("/stream", headers={"X-Correlation-Id": f"r{number}"}).text.split())

    got: dict[int, set] = {}
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert got == {number: {f"r{number}"} for number in range(30)}


def test_nothing_is_left_in_the_servers_thread(ended):
    """After a request the thread has no correlation, whether its body was taken or not."""
    app = CorrelationMiddleware(application(ended), **TRUSTED)
    environ = flask.Flask("t").test_request_context("/stream").request.environ
    body = app(environ, lambda *_: lambda _: None)
    next(iter(body))

    assert shim.current_correlation() is None
    body.close()
    assert shim.current_correlation() is None
    assert len(ended) == 1


def test_a_stranger_names_nobody(ended, counts):
    """From a peer that is not trusted, names and run are passed over and counted."""
    app = CorrelationMiddleware(application(ended), user="header:X-User")
    with web_servers.wsgi(app) as url:
        found = httpx.get(f"{url}/plain", headers=GIVEN).json()

    assert found["user"] is None
    assert found["run"] != "run-1"
    assert counts.get("skipped", reason="user-untrusted") == 1


def test_files_own_fields_and_errors_stay(client):
    """A file is the server's to send, a run that the application names is named once, an error becomes what it was."""
    assert client.get("/file").content == Path(__file__).read_bytes()
    assert client.get("/own").headers.get_list("x-correlation-id") == ["mine"]
    assert client.get("/fails").status_code == 500


def test_a_body_that_is_done_and_a_file_reach_the_server_as_they_are(ended):
    """So that a server may send a file without Python, and a list with its length."""

    class Wrapper(list):
        pass

    for body in ([b"a"], Wrapper([b"a"])):
        app = CorrelationMiddleware(lambda _environ, _start, body=body: body)
        assert app({"wsgi.file_wrapper": Wrapper}, lambda *_: None) is body


def test_django_by_wsgi():
    """A Django view runs in the request's correlation, and so does what it streams."""
    app = CorrelationMiddleware(told_by("wsgi"), **TRUSTED)
    with web_servers.wsgi(app) as url, httpx.Client(base_url=url, headers=GIVEN) as client:
        assert client.get("/plain").json()["user"] == "alice"
        assert client.get("/stream").text == "run-1\n" * 3


def test_under_gunicorn(tmp_path):
    """In a forked worker of a real production server, streams included."""
    (tmp_path / "served.py").write_text(
        "import flask\n"
        "from crossfade import shim\n"
        "from crossfade.adapters.wsgi import CorrelationMiddleware\n"
        "app = flask.Flask('t')\n"
        "@app.get('/stream')\n"
        "def stream():\n"
        "    return flask.Response(shim.current_correlation().run + '\\n' for _ in range(3))\n"
        "app.wsgi_app = CorrelationMiddleware(app.wsgi_app, trusted=['unix'])\n"
    )
    socket = tmp_path / "s"
    command = [sys.executable, "-m", "gunicorn", "-b", f"unix:{socket}", "--threads", "2", "served:app"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr
            while "Booting worker" not in server.stderr.readline():
                assert server.poll() is None
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(socket))) as client:
                answer = client.get("http://local/stream", headers={"X-Correlation-Id": "run-1"})
        finally:
            server.send_signal(signal.SIGINT)  # at once
    assert (answer.text, answer.headers["x-correlation-id"]) == ("run-1\n" * 3, "run-1")
