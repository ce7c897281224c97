"""Telling our server from whatever else may listen on its port."""

from __future__ import annotations

import gc
import socket
import threading

import pytest

from crossfade.adapters._embedded import processes, wire
from crossfade.adapters._embedded import store as stores
from crossfade.adapters.embedded import ensure_server
from integration.embedded.observed import paused

NAMED = stores.Record(port=0, name="crossfade-x", token="secret", system_token="secret", server_version="2.15.1")


def answering(greeting: bytes):
    """A listener that says this to its first caller and remembers what it heard."""
    server = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        caller, _ = server.accept()
        with caller:
            caller.sendall(greeting)
            caller.settimeout(2)
            heard.append(caller.recv(10_000))

    threading.Thread(target=serve, daemon=True).start()
    return server, NAMED._replace(port=server.getsockname()[1]), heard


@pytest.mark.parametrize(
    "greeting",
    [b'INFO {"server_name": "other"}\r\n', b"INFO nonsense\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00\xff\n"],
)
def test_another_listener_is_a_stranger_and_hears_nothing(greeting):
    """Whatever it says, it gets no secret unless it shows the stored name first."""
    server, record, heard = answering(greeting)
    with server:
        assert wire.probe(record, timeout=1) == "stranger"
        assert b"secret" not in b"".join(heard)


def test_a_server_of_our_name_that_refuses_us_is_a_stranger():
    """The name alone is not enough: it must accept the stored secret, too."""
    server, record, _ = answering(b'INFO {"server_name": "crossfade-x"}\r\n-ERR \'Authorization Violation\'\r\n')
    with server:
        assert wire.probe(record, timeout=1) == "stranger"


def test_a_port_nobody_listens_on_is_absent():
    """Refused connections mean that there is no server."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert wire.probe(NAMED._replace(port=unused.getsockname()[1]), timeout=1) == "absent"


def test_a_listener_that_never_greets_is_silent():
    """A paused server looks like this: the kernel accepts, nobody answers."""
    with socket.create_server(("127.0.0.1", 0)) as mute:
        assert wire.probe(NAMED._replace(port=mute.getsockname()[1]), timeout=0.2) == "silent"


def test_a_paused_server_is_silent_and_ours_again_when_resumed(store):
    """The real thing, both ways."""
    ensure_server(store)
    record = stores.read_record(store)
    with paused(processes.server_pid(store)):
        assert wire.probe(record, timeout=0.3) == "silent"
    assert wire.probe(record, timeout=5) == "ours"


def test_counting_connections_does_not_count_ourselves(store):
    """The keeper's own connection is of the system account, or no server would ever be idle."""
    ensure_server(store)
    record = stores.read_record(store)
    assert wire.connections(record, timeout=2) == 0
    with wire.Line(record.port, timeout=2) as line:
        line.login(wire.USER, record.token)
        assert wire.connections(record, timeout=2) == 1


def test_a_failed_greeting_leaves_no_socket_open():
    """An unclosed socket is a ResourceWarning when it is collected, and warnings are errors here."""
    server, record, _ = answering(b"nonsense\r\n")
    with server:
        with pytest.raises(ValueError, match="not a NATS server"):
            wire.Line(record.port, timeout=1)
        gc.collect()
