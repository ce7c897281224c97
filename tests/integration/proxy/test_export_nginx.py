"""nginx in front, with the configuration we write: it accepts it, and each request takes the way it should."""

from __future__ import annotations

import asyncio
import random
import socket
import subprocess
from contextlib import asynccontextmanager

import pytest

from crossfade.proxy.export.nginx import Nginx
from crossfade.proxy.reading import read_config
from crossfade.shim.errors import ConfigurationError
from integration.proxy.test_reload import upstream
from integration.proxy.wire import Front, Upstream, get
from support.needs import locate, needs

ROUTES = """
identity: {user: "header:X-User"}
trust: [127.0.0.1]
routes:
  - {seam: http.reports, match: POST /v1/reports}
  - {seam: http.user, match: "GET,HEAD /users/{id}/x.y"}
  - {seam: http.files, match: "/files/{rest...}"}
  - {seam: http.odd, match: "GET /a$b%2Fc"}
"""

MAIN = """\
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/crossfade.conf;
}}
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def echo(name: bytes):
    """A script: who it is and the head it got; a body of known length is taken first."""

    async def script(reader, writer):
        while True:
            head = await reader.head()
            if b"\r\nUpgrade: chat" in head:
                writer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: chat\r\nConnection: Upgrade\r\n\r\n")
                writer.write(name + await reader.exactly(5))
                await reader.rest()
            elif head.startswith((b"GET /events", b"GET /files/events")):
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
                )
                for _ in range(3):
                    writer.write(b"6\r\nevent\n\r\n")
                    await writer.drain()
                    await reader.until(b"more")  # a body that comes in pieces, while the answer does
                writer.write(b"0\r\n\r\n")
            else:
                body = name + b"\n" + head
                writer.write(b"HTTP/1.1 200 OK\r\nServer: own\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    return script


def nginx(folder, config, listen):
    """The files, and nginx's own opinion of them."""
    (folder / "crossfade.conf").write_text(Nginx().export(config, listen=listen))
    (folder / "nginx.conf").write_text(MAIN.format(folder=folder))
    command = [locate("nginx"), "-e", str(folder / "error.log"), "-c", str(folder / "nginx.conf")]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True, check=False)
    return command, tested


@asynccontextmanager
async def fronted(folder):
    """nginx before two upstreams that say who they are: ``seam`` where crossfade would be, and ``direct``."""
    port = free_port()
    async with upstream(echo(b"seam")) as seam, upstream(echo(b"direct")) as direct:
        text = f"listen: 127.0.0.1:{seam.port}\nupstreams: {{legacy: 'http://127.0.0.1:{direct.port}'}}{ROUTES}"
        command, tested = nginx(folder, read_config("routes.yaml", text=text.encode()), f"127.0.0.1:{port}")
        assert tested.returncode == 0, tested.stderr
        process = await asyncio.create_subprocess_exec(*command)
        try:
            async with asyncio.timeout(20):
                while True:
                    try:
                        _, writer = await asyncio.open_connection("127.0.0.1", port)
                        break
                    except ConnectionRefusedError:
                        assert process.returncode is None, (folder / "error.log").read_text()
                        await asyncio.sleep(0.02)
                writer.close()
            yield Front(None, Upstream(None), port), seam, direct
        finally:
            process.terminate()
            await process.wait()


async def ask(front, *request):
    async with front.client() as client:
        client.send(get(*request[:1], *request[1:], "Connection: close"))
        return await client.rest()


@needs("nginx")
async def test_seams_go_to_crossfade_and_the_rest_straight(tmp_path):
    """By method and by the target as it travels, which arrives byte for byte on both ways."""
    async with fronted(tmp_path) as (front, _, _):
        cases = {
            ("POST", "/v1/reports"): b"seam",
            ("POST", "/v1/reports?a=1&a=2"): b"seam",
            ("GET", "/v1/reports"): b"direct",
            ("POST", "/v1/reports/"): b"direct",
            ("POST", "/v1/%72eports"): b"direct",
            ("POST", "//v1/reports"): b"direct",
            ("GET", "/users/7/x.y"): b"seam",
            ("HEAD", "/users/a%2Fb/x.y"): b"seam",
            ("GET", "/users/7/xzy"): b"direct",
            ("GET", "/users//x.y"): b"direct",
            ("DELETE", "/files/a/b//c?q"): b"seam",
            ("GET", "/files/a/../b"): b"seam",
            ("GET", "/files"): b"direct",
            ("GET", "/a$b%2Fc"): b"seam",
            ("GET", "/a$b/c"): b"direct",
            ("GET", "/other/a%2Fb/./x/../%2e?"): b"direct",
        }
        for (method, target), who in cases.items():
            async with front.client() as client:
                client.send(get(target, "Connection: close", method=method))
                answer = await client.rest()

            assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), (method, target, answer)
            if method != "HEAD":
                name, head = answer.partition(b"\r\n\r\n")[2].split(b"\n", 1)
                assert (method, target, name) == (method, target, who)
                assert head.startswith(f"{method} {target} HTTP/1.1\r\n".encode())


@needs("nginx")
async def test_an_absolute_target_takes_the_same_way(tmp_path):
    """A client that writes the whole URL cannot walk past a seam."""
    async with fronted(tmp_path) as (front, _, _):
        answer = await ask(front, "http://shop.example/files/a")

    assert b"\r\n\r\nseam\n" in answer


@needs("nginx")
async def test_nobody_in_front_is_believed(tmp_path):
    """Forwarded headers and identity are nginx's own, on both ways; Host and Server are as they were."""
    spoofed = (
        "X-User: root",
        "X-Forwarded-For: 6.6.6.6",
        "X-Forwarded-Proto: gopher",
        "Forwarded: for=6",
        "X-Real-IP: 6",
    )
    async with fronted(tmp_path) as (front, _, _):
        for target in ("/files/a", "/other"):
            answer = await ask(front, target, *spoofed)

            for word in (b"root", b"6.6.6.6", b"gopher"):
                assert word not in answer
            for line in (
                b"Host: shop.example",
                b"X-Forwarded-For: 127.0.0.1",
                b"X-Forwarded-Proto: http",
                b"Server: own",
            ):
                assert line + b"\r\n" in answer


@needs("nginx")
async def test_streams_pass_as_they_come(tmp_path):
    """Each event arrives before the next piece of the body is sent, and a connection that is upgraded is a tunnel."""
    async with fronted(tmp_path) as (front, _, _):
        for target, name in (("/files/events", b"seam"), ("/events", b"direct")):
            async with front.client() as client:
                client.send(get(target, "Content-Length: 12"))
                for _ in range(3):
                    await client.until(b"event\n")
                    client.send(b"more")
                await client.until(b"0\r\n\r\n")
            async with front.client() as client:
                client.send(get(target, "Upgrade: chat", "Connection: Upgrade"))
                assert (await client.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
                client.send(b"hello")
                assert await client.exactly(len(name) + 5) == name + b"hello"


@needs("nginx")
def test_nginx_takes_whatever_we_write(tmp_path):
    """Every character a path may have is nginx's own syntax somewhere; here they stand in all neighbourhoods."""
    source = random.Random(5)
    marks = "-._~!$&'()*+,;=:@%25aB7"
    texts = {f"/x{'/'.join(''.join(source.choices(marks, k=4)) for _ in range(2))}/{{id}}" for _ in range(200)}
    valid = [text for text in sorted(texts) if "%" not in text.replace("%25", "")]
    routes = "".join(f'  - {{seam: s{at}, match: "GET {text}"}}\n' for at, text in enumerate(valid))
    config = read_config("routes.yaml", text=f"upstreams: {{a: 'http://127.0.0.1:1'}}\nroutes:\n{routes}".encode())

    _, tested = nginx(tmp_path, config, "127.0.0.1:8111")

    assert len(valid) > 50
    assert tested.returncode == 0, tested.stderr


@needs("nginx")
def test_an_https_default_is_checked(tmp_path):
    """Name and authority are the file's; nginx accepts it."""
    (tmp_path / "ca.pem").write_text("")
    file = tmp_path / "routes.yaml"
    file.write_text("upstreams: {a: {url: 'https://127.0.0.1:8443', tls: {server_name: in.example, ca: ca.pem}}}")

    text = Nginx().export(read_config(str(file)), listen="80")

    for line in ("proxy_ssl_verify on;", 'proxy_ssl_name "in.example";', "crossfade_direct https;"):
        assert line in text
    assert f'proxy_ssl_trusted_certificate "{tmp_path}/ca.pem";' in text


@pytest.mark.parametrize(
    ("text", "listen", "says"),
    [
        ("listen: 127.0.0.1:0", "80", "port 0 is chosen at start"),
        ("", "80; include /etc/passwd", "nothing to listen on"),
        ("tls: {cert: /dev/null, key: /dev/null}", "80", "there is no file"),
    ],
)
def test_what_cannot_be_written_is_refused(text, listen, says):
    """With what to do instead."""
    with pytest.raises(ConfigurationError, match=says):
        Nginx().export(read_config("f", text=f"upstreams: {{a: 'http://h:1'}}\n{text}".encode()), listen=listen)


def test_streams_and_tasks_go_to_crossfade_where_there_is_a_control_plane():
    """crossfade decides about all that looks like `/_crossfade`; without `control` that is nothing special."""
    text = "listen: 127.0.0.1:8080\nupstreams: {legacy: 'http://127.0.0.1:9000'}\n"

    def exported(more: str) -> str:
        return Nginx().export(read_config("routes.yaml", text=(text + more).encode()), listen="80")

    assert '"~*^[^ ]+ [^?]*_crossfade" crossfade_proxy;' in exported("control: 127.0.0.1:8081")
    assert '_crossfade"' not in exported("")
