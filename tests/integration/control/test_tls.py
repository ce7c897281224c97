"""The control plane over TLS: who is believed by a token, who by a certificate, and a proxy in front of it."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
import pytest
import trustme

from integration.control.kit import SOON, Events, Plane
from integration.control.test_api import declare
from integration.control.test_stream import until
from integration.control.test_through_proxy import legacy
from support.commands import Process

CHANGE = {"reason": "because", "stage": "observe", "wait": 0}


def write(folder, name, issued):
    """A certificate and its key as files; the settings that name them."""
    files = folder / f"{name}.pem", folder / f"{name}.key"
    issued.cert_chain_pems[0].write_to_path(str(files[0]))
    issued.private_key_pem.write_to_path(str(files[1]))
    return dict(zip(("certificate", "key"), files, strict=True))


@pytest.fixture
def authority():
    """Whom everybody here trusts to say who a server is."""
    return trustme.CA()


@pytest.fixture
def clients():
    """Whom the control plane trusts to say who a client is."""
    return trustme.CA()


@pytest.fixture
async def secured(serving, nats_server, authority, clients, tmp_path):
    """A control plane with a certificate, that asks for one of ``clients``."""
    settings = write(tmp_path, "control", authority.issue_cert("127.0.0.1"))
    clients.cert_pem.write_to_path(str(tmp_path / "clients.pem"))
    async with serving(nats_server.url, client_ca=tmp_path / "clients.pem", **settings) as plane:
        yield plane


def https(trusted, certificate=None, **more):
    """A client that believes ``trusted`` and shows ``certificate``."""
    context = ssl.create_default_context()
    trusted.configure_trust(context)
    if certificate is not None:
        certificate.configure_cert(context)
    return httpx.AsyncClient(verify=context, timeout=SOON, trust_env=False, **more)


@asynccontextmanager
async def visitor(plane, trusted, certificate=None):
    """The same plane, asked by such a client."""
    async with https(trusted, certificate, base_url=plane.url) as client:
        yield Plane(plane.control, plane.port, plane.operate, plane.view, client)


def issued(authority, name):
    return authority.issue_cert(f"{name}@example.com", common_name=name)


async def test_a_client_that_does_not_know_the_authority_asks_nothing(secured):
    """It sees the certificate and leaves; the plane is at an https address."""
    assert secured.url.startswith("https://127.0.0.1:")
    async with visitor(secured, trustme.CA()) as stranger:
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            await stranger.ask("GET", "/healthz")


async def test_a_certificate_has_the_role_of_the_credential_of_its_name(secured, authority, clients):
    """No token: who may look, looks; who may operate, changes, and is named as who did it."""
    await declare(secured)
    path = "/api/v1/seams/web.search"
    async with visitor(secured, authority, issued(clients, "viktor")) as viktor:
        assert (await viktor.ask("GET", "/api/v1/session")).json() == {"name": "viktor", "role": "view", "csrf": ""}
        assert (await viktor.ask("GET", path)).status_code == 200
        refused = await viktor.ask("PATCH", path, json=CHANGE, headers={"If-Match": '"0"'})
        assert refused.status_code == 403
    async with visitor(secured, authority, issued(clients, "olga")) as olga:
        assert (await olga.ask("PATCH", path, json=CHANGE, headers={"If-Match": '"0"'})).status_code == 200
        assert (await olga.ask("GET", path)).json()["actor"] == "olga"


async def test_without_a_certificate_a_token_is_needed(secured, authority):
    """And is enough."""
    async with visitor(secured, authority) as bare:
        assert (await bare.ask("GET", "/healthz")).status_code == 200
        assert (await bare.ask("GET", "/api/v1/seams")).status_code == 401
        assert (await bare.ask("GET", "/api/v1/seams", bare.view)).status_code == 200


async def test_a_certificate_of_another_authority_gets_no_connection(secured, authority):
    """Whatever name it bears, and whatever token comes with it."""
    async with visitor(secured, authority, issued(trustme.CA(), "olga")) as impostor:
        with pytest.raises(httpx.TransportError):
            await impostor.ask("GET", "/api/v1/seams", impostor.operate)


@pytest.mark.parametrize("name", ["nobody", "Olga", "olga,CN=viktor", ""])
async def test_a_certificate_of_a_name_nobody_has_is_nobodys(secured, authority, clients, name):
    """401, as without one; a token beside it counts."""
    certificate = issued(clients, name) if name else clients.issue_cert("olga")  # a host's: no common name
    async with visitor(secured, authority, certificate) as unknown:
        assert (await unknown.ask("GET", "/api/v1/seams")).status_code == 401
        assert (await unknown.ask("GET", "/api/v1/seams", unknown.view)).status_code == 200


async def test_a_certificate_mends_no_wrong_token(secured, authority, clients):
    """Who says who they are is asked by that."""
    async with visitor(secured, authority, issued(clients, "olga")) as olga:
        assert (await olga.ask("GET", "/api/v1/seams", "cfc_wrong")).status_code == 401
        answer = await olga.ask("POST", "/api/v1/tokens", olga.view, json={"user": "a"})
        assert answer.status_code == 403


@pytest.mark.parametrize(
    "more", [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}]
)
async def test_another_sites_page_changes_nothing_with_a_browsers_certificate(secured, authority, clients, more):
    """A browser shows it by itself, to whichever page asks."""
    async with visitor(secured, authority, issued(clients, "olga")) as olga:
        assert (await olga.ask("POST", "/api/v1/tokens", json={"user": "a"}, headers=more)).status_code == 403


@asynccontextmanager
async def proxy(folder, plane, ca, own):
    """A proxy process that listens with TLS and reaches the control plane over TLS; process and port."""
    service = await asyncio.start_server(legacy, "127.0.0.1", 0)
    files = {name: str(path) for name, path in zip(("cert", "key"), own.values(), strict=True)}
    config = {
        "listen": "127.0.0.1:0",
        "tls": files,
        "upstreams": {"legacy": f"http://127.0.0.1:{service.sockets[0].getsockname()[1]}"},
        "control": {"url": plane.url, "tls": {"ca": str(ca)}},
    }
    (folder / "routes.yaml").write_text(json.dumps(config))
    try:
        with Process("proxy", "--config", folder / "routes.yaml", "--json", folder=folder) as process:
            ready = await asyncio.to_thread(process.ready)
            yield process, urlsplit(ready["url"]).port
    finally:
        service.close()


async def test_streams_and_tasks_pass_a_proxy_over_tls_on_both_sides(secured, authority, tmp_path):
    """The proxy shows a renewed certificate after SIGHUP, while a stream goes on over the old connection."""
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own = write(tmp_path, "proxy", authority.issue_cert("127.0.0.1"))
    renewed = trustme.CA()
    async with (
        proxy(tmp_path, secured, tmp_path / "ca.pem", own) as (process, port),
        https(authority) as client,
        https(renewed) as late,
    ):
        url = f"https://127.0.0.1:{port}/_crossfade"
        assert (await client.get(f"{url}/tasks/01ab")).status_code == 401
        async with client.stream("GET", f"{url}/stream", params={"token": secured.token()}) as stream:
            page = Events(stream)
            assert (await page.next())[0] == "crossfade.ready"

            write(tmp_path, "proxy", renewed.issue_cert("127.0.0.1"))
            process.process.send_signal(signal.SIGHUP)

            await until(lambda: b"reloaded " in process.log.read_bytes())
            assert (await late.get(f"{url}/tasks/01ab")).status_code == 401
            await secured.publish("still here")
            assert await page.said(1) == ["still here"]


async def test_a_proxy_sends_nothing_to_a_control_plane_it_cannot_check(secured, authority, tmp_path):
    """502, with another authority's file."""
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    own = write(tmp_path, "proxy", authority.issue_cert("127.0.0.1"))
    async with proxy(tmp_path, secured, tmp_path / "ca.pem", own) as (_, port), https(authority) as client:
        answer = await client.get(f"https://127.0.0.1:{port}/_crossfade/stream", params={"token": secured.token()})
        assert answer.status_code == 502
