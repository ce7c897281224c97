"""A new configuration in a running proxy: requests under load do not notice, and a broken one changes nothing."""

from __future__ import annotations

import asyncio
import itertools
import ssl
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from crossfade.proxy.reading import read_config
from crossfade.proxy.reload import Reloader, changes_at_start
from crossfade.proxy.route_seams import RouteSeams
from crossfade.proxy.routing import Routing, serving_of
from crossfade.proxy.serving import DataPlane
from crossfade.shim.hooks import counters
from integration.proxy.wire import Front, Upstream, get


def naming(name: bytes):
    """A script: the upstream says who it is, in two pieces, so that a request lasts."""

    async def script(reader, writer):
        while True:
            await reader.head()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(name))
            await writer.drain()
            await asyncio.sleep(0)
            writer.write(name)
            await writer.drain()

    return script


@asynccontextmanager
async def upstream(script):
    """One that listens; its port is on it."""
    found = Upstream(script)
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        server.close()


class Reloading:
    """A proxy that reads ``file``, and its reloader."""

    def __init__(self, file, front, reloader):
        self.file = file
        self.front = front
        self.reloader = reloader

    async def reload(self, text: str):
        self.file.write_text(text)
        self.reloader.request()
        async with asyncio.timeout(20):
            await self.reloader.wait()

    async def ask(self, path="/", *fields) -> bytes:
        async with self.front.client() as client:
            client.send(get(path, *fields, "Connection: close"))
            return await client.rest()


@asynccontextmanager
async def configured(file, text):
    file.write_text("listen: 127.0.0.1:0\n" + text)
    config = read_config(str(file))
    plane = DataPlane(serving_of(config, name="crossfade-test"))
    seams = RouteSeams()
    plane.resolve = Routing(config, config.router(), plane.pools, seams.declare(config)).resolve
    _, port = await plane.listen()
    try:
        reloader = Reloader(plane, config, lambda: read_config(str(file), listen="127.0.0.1:0"), seams)
        yield Reloading(file, Front(plane, Upstream(None), port), reloader)
    finally:
        plane.server.abort()
        await plane.drain()


@pytest.fixture
async def two(tmp_path):
    """Upstreams a and b, and a proxy before a."""
    async with AsyncExitStack() as stack:
        a, b = [await stack.enter_async_context(upstream(naming(name))) for name in (b"a", b"b")]
        text = f"upstreams: {{a: 'http://127.0.0.1:{a.port}', b: 'http://127.0.0.1:{b.port}'}}\n"
        proxy = await stack.enter_async_context(configured(tmp_path / "routes.yaml", text + "default: a\n"))
        yield proxy, a, b, text


async def test_new_requests_take_the_new_routes(two):
    """Default, route and the upstream behind a name change with one reload."""
    proxy, _a, b, text = two
    assert (await proxy.ask("/x")).endswith(b"a")

    await proxy.reload(text + "default: a\nroutes: [{seam: x, match: GET /x, upstream: b}]")

    assert [(await proxy.ask(path)).endswith(name) for path, name in [("/x", b"b"), ("/y", b"a")]] == [True, True]

    await proxy.reload(f"upstreams: {{a: 'http://127.0.0.1:{b.port}'}}")

    assert (await proxy.ask("/y")).endswith(b"b")


async def test_a_hundred_reloads_under_load_fail_no_request(two, note):
    """Each request on kept connections is answered whole by one of the two upstreams, and both had their turn."""
    proxy, a, b, text = two
    over = asyncio.Event()
    answers = {b"a": 0, b"b": 0}

    async def load():
        async with proxy.front.client() as client:
            while not over.is_set():
                client.send(get("/x/1"))
                head = await client.until(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200 OK\r\n"), head
                answers[await client.exactly(1)] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(load())
        names = itertools.cycle("ba")
        for turn in range(100):
            route = f"routes: [{{seam: x, match: 'GET /x/{{id}}', upstream: {next(names)}}}]\n"
            moved = f"c: 'http://127.0.0.1:{b.port}'" if turn % 4 else f"c: 'http://127.0.0.1:{a.port}'"
            await proxy.reload(text.replace("}", f", {moved}}}") + "default: c\n" + route)
        over.set()

    note(f"100 reloads under load: {sum(answers.values())} requests, 0 failed, {answers}")
    assert min(answers.values()) > 0
    assert counters.get("reload", reason="applied") >= 100


async def test_a_broken_file_changes_nothing(two, caplog):
    """It is told with its lines, counted, and the next good one is taken."""
    proxy, _a, _b, text = two
    before = counters.get("reload", reason="refused")

    for broken in (
        "",
        "upstreams: {a: nowhere}",
        text + "default: c",
        "a: [",
        text + "default: b\nroutes: [{seam: A}]",
    ):
        await proxy.reload(broken)
        assert (await proxy.ask()).endswith(b"a")

    assert counters.get("reload", reason="refused") - before == 5
    assert "routes.yaml:2:10: there is no upstream `c`; known: a, b" in caplog.text

    await proxy.reload(text + "default: b")

    assert (await proxy.ask()).endswith(b"b")


async def test_a_missing_certificate_changes_nothing(two, tmp_path):
    """What only fails when it is used fails before anything has changed."""
    proxy, _a, _b, _text = two
    (tmp_path / "ca.pem").write_text("no certificate")
    before = counters.get("reload", reason="refused")

    await proxy.reload("upstreams: {a: {url: 'https://127.0.0.1:1', tls: {ca: ca.pem}}}")

    assert (await proxy.ask()).endswith(b"a")
    assert counters.get("reload", reason="refused") == before + 1


def write_certificate(folder, authority, name="localhost"):
    """What an ACME client leaves behind: a chain and its key, each replaced by a rename."""
    issued = authority.issue_cert(name)
    for file, pem in (("cert.pem", issued.cert_chain_pems[0]), ("key.pem", issued.private_key_pem)):
        pem.write_to_path(str(folder / f"new-{file}"))
        (folder / f"new-{file}").rename(folder / file)


def locked(folder):
    """The key there, under a password that nobody is here to type."""
    key = serialization.load_pem_private_key((folder / "key.pem").read_bytes(), None)
    lock = serialization.BestAvailableEncryption(b"hunter2")
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock).decode()


class Visitor:
    """A connection over TLS."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer
        self.serial = writer.get_extra_info("peercert")["serialNumber"]

    async def ask(self):
        self.writer.write(get())
        async with asyncio.timeout(10):
            return (await self.reader.readuntil(b"\r\n\r\n") + await self.reader.readexactly(1))[-1:]


@asynccontextmanager
async def visitor(port, trust, *, name="localhost", shown=None):
    """One that believes ``trust``; ``name=None`` sends no server name, ``shown`` issues its certificate."""
    context = ssl.create_default_context()
    trust.configure_trust(context)
    if shown is not None:
        shown.issue_cert("client@example.com").configure_cert(context)
    context.check_hostname = name is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=name or "")
    try:
        yield Visitor(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
async def secured(tmp_path):
    """A proxy with a certificate, and who issued it."""
    authority = trustme.CA()
    write_certificate(tmp_path, authority)
    async with AsyncExitStack() as stack:
        a = await stack.enter_async_context(upstream(naming(b"a")))
        text = f"upstreams: {{a: 'http://127.0.0.1:{a.port}'}}\ntls: {{cert: cert.pem, key: key.pem}}\n"
        proxy = await stack.enter_async_context(configured(tmp_path / "routes.yaml", text))
        yield proxy, authority, text


@pytest.mark.parametrize("name", ["localhost", None])
async def test_a_renewed_certificate_is_shown_to_new_connections(secured, tmp_path, name):
    """Under the same file name, of another authority, to clients that name the server or not; old ones live on."""
    proxy, authority, text = secured
    renewed = trustme.CA()
    async with visitor(proxy.front.port, authority, name=name) as early:
        write_certificate(tmp_path, renewed)
        async with visitor(proxy.front.port, authority, name=name) as still:
            assert still.serial == early.serial

        await proxy.reload(text)

        async with visitor(proxy.front.port, renewed, name=name) as late:
            assert late.serial != early.serial
            assert await late.ask() == b"a"
        with pytest.raises(ssl.SSLCertVerificationError):
            async with visitor(proxy.front.port, authority, name=name):
                pass
        assert await early.ask() == b"a"


@pytest.mark.parametrize("broken", ["no certificate", "no key", "the old key", "half a key", "a key with a password"])
async def test_a_broken_certificate_never_replaces_a_good_one(secured, tmp_path, broken, caplog):
    """It is refused, counted and told, the one before is shown on, and a good one is taken later."""
    proxy, authority, text = secured
    key = (tmp_path / "key.pem").read_text()
    before = counters.get("reload", reason="refused")
    async with visitor(proxy.front.port, authority) as first:
        serial = first.serial
    write_certificate(tmp_path, authority)
    if broken == "no certificate":
        (tmp_path / "cert.pem").write_text("none")
    else:
        keys = {"no key": "", "the old key": key, "half a key": key[:80], "a key with a password": locked(tmp_path)}
        (tmp_path / "key.pem").write_text(keys[broken])

    await proxy.reload(text)

    async with visitor(proxy.front.port, authority) as after:
        assert (after.serial, await after.ask()) == (serial, b"a")
    assert counters.get("reload", reason="refused") == before + 1
    assert "the certificate cannot be used" in caplog.text
    write_certificate(tmp_path, authority)
    await proxy.reload(text)
    async with visitor(proxy.front.port, authority) as later:
        assert later.serial != serial


async def test_clients_must_show_certificates_of_the_authorities_of_now(tmp_path):
    """What is in `client_ca` after a reload counts, and a client without a certificate stays out."""
    authority, ours, theirs = trustme.CA(), trustme.CA(), trustme.CA()
    write_certificate(tmp_path, authority)
    ours.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    async with upstream(naming(b"a")) as a:
        text = (
            f"upstreams: {{a: 'http://127.0.0.1:{a.port}'}}\n"
            "tls: {cert: cert.pem, key: key.pem, client_ca: clients.pem}\n"
        )
        async with configured(tmp_path / "routes.yaml", text) as proxy:

            async def let_in(issuer):
                try:
                    async with visitor(proxy.front.port, authority, shown=issuer) as client:
                        return await client.ask() == b"a"
                except (OSError, asyncio.IncompleteReadError):
                    return False

            assert [await let_in(issuer) for issuer in (ours, theirs, None)] == [True, False, False]
            theirs.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
            await proxy.reload(text)
            assert [await let_in(issuer) for issuer in (ours, theirs, None)] == [False, True, False]


async def test_an_answer_under_way_ends_where_it_began(two, tmp_path):
    """Its upstream is gone from the file, and its connection closes behind the last byte."""
    proxy, _a, _b, text = two
    go = asyncio.Event()

    async def slow(reader, writer):
        await reader.head()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nol")
        await go.wait()
        writer.write(b"d!")
        await reader.rest()

    async with upstream(slow) as old:
        await proxy.reload(f"upstreams: {{old: 'http://127.0.0.1:{old.port}'}}")
        async with proxy.front.client() as client:
            client.send(get())
            assert (await client.until(b"ol")).endswith(b"ol")
            await proxy.reload(text + "default: b")
            assert (await proxy.ask()).endswith(b"b")
            go.set()
            assert await client.exactly(2) == b"d!"
        async with asyncio.timeout(10):
            await old.closed.get()


async def test_an_upstream_that_stays_keeps_its_connections(two):
    """A reload that changes routes does not make every upstream connect again."""
    proxy, a, _b, text = two
    for _ in range(3):
        assert (await proxy.ask()).endswith(b"a")
        await proxy.reload(text + "default: a\nroutes: [{seam: x, match: /x, upstream: b}]")

    assert len(a.connections) == 1


async def test_trust_and_identity_headers_follow_the_file(two):
    """A stranger's identity header does not reach the upstream; a trusted peer's does."""
    proxy, a, _b, text = two
    identity = "default: a\nidentity: {user: 'header:X-User'}\n"

    await proxy.reload(text + identity + "trust: [10.0.0.0/8]")
    await proxy.ask("/stranger", "X-User: root", "x-user: root")
    assert b"root" not in a.received

    await proxy.reload(text + identity + "trust: [127.0.0.1]")
    await proxy.ask("/trusted", "X-User: alice")
    assert b"X-User: alice\r\n" in a.received


async def test_limits_follow_the_file(two):
    """A connection made after the reload has the new ones."""
    proxy, _a, _b, text = two

    await proxy.reload(text + "default: a\nlimits: {uri_bytes: 10}")

    assert (await proxy.ask("/" + "x" * 20)).startswith(b"HTTP/1.1 414 ")


def test_what_needs_a_start_is_said():
    """Address, access log and whether there is TLS; nothing else."""
    text = b"upstreams: {a: 'http://h'}\n"
    old = read_config("f", text=text)

    def changed(more):
        return changes_at_start(old, read_config("f", text=text + more))

    assert changed(b"listen: 127.0.0.1:1\ncontrol: 127.0.0.1:2\naccess_log: x") == ["listen", "access_log"]
    assert changed(b"limits: {connections: 5}\ntrust: [10.0.0.1]\nroutes: [{seam: a, match: /a}]") == []


async def test_a_signal_during_a_reload_is_not_lost(two):
    """What the file says at the last signal is what is served."""
    proxy, _a, _b, text = two
    proxy.file.write_text(text + "default: a")
    proxy.reloader.request()
    proxy.file.write_text(text + "default: b")
    proxy.reloader.request()
    await proxy.reloader.wait()

    assert (await proxy.ask()).endswith(b"b")
