"""A model in the place of the extractive summariser."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from support.desks import (
    answer_of,
)


class Model(BaseHTTPRequestHandler):
    """A chat completion endpoint that behaves as ``server.behaviour`` says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), sent))
        if self.server.behaviour == "slow":
            self.server.released.wait(30)
        status = 500 if self.server.behaviour == "error" else 200
        content = (
            "no citation here" if self.server.behaviour == "uncited" else "Use a slice [2]. Or copy() [1]. Or [99]."
        )
        reply = {"choices": [{"message": {"role": "assistant", "content": content}}]}
        body = b"<html>" if self.server.behaviour == "garbage" else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class ModelServer(ThreadingHTTPServer):
    behaviour = "ok"

    def handle_error(self, request, client_address):
        """The slow case answers a client that has gone."""


@pytest.fixture
def model():
    server = ModelServer(("127.0.0.1", 0), Model)
    server.seen = []
    server.released = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def test_model_writes_the_summary_when_its_address_is_set(home, model):
    """One variable replaces the extractive summariser; only passages that exist are cited, the key is sent along."""
    answer = answer_of("How do I copy a list?", home=home, DESK_MODEL_URL=model.url, DESK_MODEL_KEY="k")
    assert answer["method"] == "model"
    assert {point["text"] for point in answer["points"]} == {"Use a slice.", "Or copy()."}
    path, headers, sent = model.seen[0]
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer k")
    assert "How do I copy a list?" in sent["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("error", "answered 500"), ("slow", "within 0.3 s"), ("garbage", "not JSON"), ("uncited", "cited none")],
)
def test_failing_model_falls_back_with_a_visible_note(home, model, behaviour, reason):
    """A model that fails in any way leaves the extractive answer, with a note that says what happened."""
    model.behaviour = behaviour
    answer = answer_of("How do I copy a list?", home=home, DESK_MODEL_URL=model.url, DESK_MODEL_TIMEOUT="0.3")
    plain = answer_of("How do I copy a list?", home=home)
    assert reason in answer.pop("note")
    assert plain.pop("note") == ""
    assert answer == plain


def test_absent_model_falls_back_too(home):
    """Nobody listening at the address is a note, not an error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = answer_of("parse JSON", home=home, DESK_MODEL_URL=f"http://127.0.0.1:{port}/v1")
    assert "cannot be reached" in answer["note"]
    assert answer["points"]
