"""The upstream's connections: which may be reused, and what may be sent again: cases 55 to 59."""

from __future__ import annotations

import threading
import time

import pytest

from support.nasty_upstream import OK, answer, ordinary
from support.nats_server import free_port
from support.proxied import told, word
from support.raw_client import chunk, request


def _pooled(proxy, targets=1):
    """Leave the proxy with idle upstream connections that the upstream is told to treat as ``script`` says next."""
    proxy.upstream.script = ordinary
    for _ in range(targets):
        assert proxy.get("/warm").status == 200
    proxy.seen()
    proxy.upstream.requests.clear()


def _closes_on_arrival(once):
    """The first request is not answered: its connection ends as soon as its head was read."""

    def script(peer):
        if once.acquire(blocking=False):
            peer.drop()
        else:
            ordinary(peer)

    return script


def test_55_a_get_on_a_stale_connection_is_answered(proxy):
    """The upstream ends an idle connection just as it is used again: a GET is sent anew and answered."""
    _pooled(proxy)
    proxy.upstream.script = _closes_on_arrival(threading.Semaphore(1))
    response = proxy.get("/stale")

    assert response.status == 200, f"client got {word(response)}"
    assert len(proxy.complete()) == 1, told(proxy.upstream.requests)


def test_55_a_get_is_not_sent_for_ever(proxy):
    """Every connection ends on arrival: 502 after a try or two."""
    proxy.upstream.script = lambda peer: peer.drop()
    response = proxy.get("/")
    proxy.upstream.script = ordinary

    assert response.status == 502, f"client got {word(response)}"
    assert len(proxy.upstream.requests) <= 3, f"sent {len(proxy.upstream.requests)} times"


def test_55_a_connection_closed_while_idle_is_not_used(proxy):
    """The upstream closes an idle connection: the next request, of any method, goes out on another."""
    closing = threading.Event()

    def once(peer):
        peer.body()
        peer.send(OK)
        closing.wait(5)
        peer.close()

    proxy.upstream.script = once
    with proxy.connect() as client:
        client.send(request("GET", "/")).answer()
        proxy.upstream.script = ordinary
        closing.set()
        proxy.upstream.until(lambda: proxy.upstream.peers[0].closed)
        time.sleep(0.05)  # the FIN is with the kernel; the proxy's loop may take a turn to see it
        response = client.send(request("POST", "/", body=b"abc")).answer()

    assert response.status == 200, f"client got {word(response)}"
    assert [one.method for one in proxy.complete()] == ["GET", "POST"], told(proxy.upstream.requests)


@pytest.mark.parametrize("how", ["drop", "reset", "close"])
def test_56_a_post_that_was_read_is_never_sent_again(proxy, how):
    """The upstream dies after it read a POST, on a fresh or a pooled connection: 502, and one execution."""
    _pooled(proxy)

    def dies(peer):
        peer.body()
        getattr(peer, how)()

    proxy.upstream.script = dies
    response = proxy.ask(request("POST", "/pay", body=b"100"))
    proxy.upstream.script = ordinary

    assert response.status == 502, f"client got {word(response)}"
    assert len(proxy.complete()) == 1, f"executed {len(proxy.upstream.requests)} times"


def test_56_an_idempotency_key_does_not_make_it_legal(proxy):
    """A POST with Idempotency-Key is no different: the proxy does not know whether the upstream honours it."""
    proxy.upstream.script = lambda peer: (peer.body(), peer.drop())
    response = proxy.ask(request("POST", "/pay", "Idempotency-Key: 1", body=b"100"))
    proxy.upstream.script = ordinary

    assert response.status == 502, f"client got {word(response)}"
    assert len(proxy.complete()) == 1, f"executed {len(proxy.upstream.requests)} times"


def test_57_a_post_goes_to_the_second_target_when_the_first_refuses(ours):
    """Nobody listens at the first target: the POST's 64 KiB reach the second with the same hash."""
    body = bytes(range(256)) * 256
    service = {"url": f"http://127.0.0.1:{free_port()}", "also": [f"127.0.0.1:{ours.upstream.port}"]}
    with ours.another(settings={"upstreams": {"service": service}}) as two:
        response = two.ask(request("POST", "/", body=body))

        assert response.status == 200, f"client got {word(response)}"
        assert [one.body for one in two.complete()] == [body]


def test_58_one_too_many_waits_and_is_then_a_503(proxy):
    """Two connections and a third request: it waits for a bounded time, gets 503, and all is well afterwards."""
    release = threading.Event()

    def busy(peer):
        peer.body()
        release.wait(5)
        peer.send(OK)

    with proxy.another(upstream_connections=2, response_timeout=5, read_timeout=5, body_timeout=5) as tight:
        tight.upstream.script = busy
        with tight.connect() as one, tight.connect() as two, tight.connect(patience=3) as three:
            one.send(request("GET", "/1"))
            two.send(request("GET", "/2"))
            assert tight.upstream.until(lambda: len(tight.upstream.requests) == 2), "two connections are not used"
            began = time.monotonic()
            refusal = three.send(request("GET", "/3")).answer()
            took = time.monotonic() - began
            release.set()
            served = [one.answer().status, two.answer().status]
        tight.upstream.script = ordinary
        after = tight.get().status

    assert refusal.status == 503, f"client got {word(refusal)}"
    assert took < 2, "waited for long"
    assert proxy.kind != "ours" or refusal.value("retry-after"), "no Retry-After"
    assert (served, after) == ([200, 200], 200), f"the others got {served}, the next {after}"


def test_58_a_request_that_waits_is_served_when_there_is_room(proxy):
    """The third request is served when one of the two comes back in time."""
    release = threading.Event()

    def busy(peer):
        peer.body()
        release.wait(5)
        peer.send(OK)

    with proxy.another(upstream_connections=2) as tight:
        tight.upstream.script = busy
        clients = [tight.connect().send(request("GET", f"/{number}")) for number in range(3)]
        assert tight.upstream.until(lambda: len(tight.upstream.requests) == 2), "two connections are not used"
        threading.Timer(0.1, release.set).start()
        statuses = [client.answer().status for client in clients]
        for client in clients:
            client.close()

    assert statuses == [200, 200, 200], f"clients got {statuses}"


def test_59_two_users_on_one_connection_share_nothing(proxy):
    """A cookie set for one client is not sent for the next, nor its Authorization, on a shared upstream connection."""
    proxy.upstream.script = lambda peer: (
        peer.body(),
        peer.send(answer("200 OK", "Set-Cookie: session=alice", body=b"")),
    )
    proxy.get("/", "Authorization: Basic YWxpY2U6", "Cookie: session=alice")
    response = proxy.get("/")

    alice, other = proxy.seen()
    assert alice.value("authorization"), "Authorization went away"
    assert not other.names() & {"cookie", "authorization"}, "the second client got the first one's"
    assert len(response.values("set-cookie")) == 1


def test_59_a_connection_that_logs_in_is_not_shared(proxy):
    """NTLM and Negotiate authenticate a connection: after such a 401 another client's request uses a different one."""
    proxy.upstream.script = lambda peer: (
        peer.body(),
        peer.send(answer("401 Unauthorized", "WWW-Authenticate: NTLM", body=b"")),
    )
    with proxy.connect() as client:
        client.send(request("GET", "/", "Authorization: NTLM TlRMTVNTUAAB")).answer()
        proxy.upstream.script = ordinary
        other = proxy.get("/other")

    assert other.status == 200
    assert len(proxy.upstream.peers) == 2, "another client's request went out on the connection that logs in"


def test_55_an_upload_to_a_stale_connection_is_executed_at_most_once(proxy):
    """A chunked POST whose pooled connection ends on arrival: 200 after being sent anew, or 502; at most one runs."""
    _pooled(proxy)
    proxy.upstream.script = _closes_on_arrival(threading.Semaphore(1))
    raw = request("POST", "/", "Transfer-Encoding: chunked") + chunk(b"abc") + chunk(b"")
    response = proxy.ask(raw)

    assert response.status in {200, 502}, f"client got {word(response)}"
    executed = [one for one in proxy.complete() if one.method == "POST"]
    assert len(executed) == (response.status == 200), f"executed {len(executed)} times, client got {word(response)}"
