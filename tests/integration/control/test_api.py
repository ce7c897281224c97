"""The API: who may, what they see, and that nobody changes a seam without having looked."""

from __future__ import annotations

import asyncio
import json

import pytest

from crossfade.proxy.control.app import create_app, public_app
from crossfade.shim.policies import Policies
from crossfade.shim.policy import Policy
from crossfade.shim.seam import Seam

CHANGE = {"reason": "because", "stage": "observe", "wait": 0}
EXAMPLES = {"{seam}": "web.search", "{token}": "0123456789abcdef", "{task}": "abc"}


def routes_of(app):
    """Every route there is, those of included routers, too: the OpenAPI document could forget one."""
    for route in app.routes:
        yield from routes_of(route.original_router) if hasattr(route, "original_router") else [route]


def operations(plane):
    """Every method and path of the API."""
    found = []
    for route in routes_of(create_app(plane.control).api._app):
        path = route.path
        for name, example in EXAMPLES.items():
            path = path.replace(name, example)
        found += [(method, path) for method in sorted(route.methods)]
    return found


async def declare(plane, name="web.search", **settings):
    """Let a process have declared a seam."""
    seam = Seam(name, lambda: None, domain="tool", policy=Policy(**{"effects": "none", **settings}), secret=())
    await Policies(plane.control.bus, plane.control.subjects).announce(seam, seam.policy)


async def test_every_route_needs_a_credential_and_every_change_the_role(plane):
    """401 without, with a wrong one, with a stream's token; 403 for a change by who may only look. Health is open."""
    await declare(plane)
    looked, changed = 0, 0
    for method, path in operations(plane):
        if path == "/healthz":
            continue
        for secret in (None, "cfc_wrong", plane.token(), f"{plane.view}x"):
            answer = await plane.ask(method, path, secret)
            assert answer.status_code == 401, (method, path, answer.text)
            assert answer.headers["www-authenticate"] == "Bearer"
            if method != "HEAD":
                assert answer.headers["content-type"] == "application/problem+json"
        answer = await plane.ask(method, path, plane.view)
        if method == "GET" or path == "/api/v1/session":
            looked += answer.status_code < 300
        else:
            assert answer.status_code == 403, (method, path, answer.text)
            changed += 1
    assert (looked, changed) == (11, 3)


async def test_health_needs_nothing_and_says_nothing(plane):
    """For a load balancer that has no credential, by whatever name it asks."""
    answer = await plane.ask("GET", "/healthz", headers={"Host": "10.1.2.3"})
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_what_is_not_there_is_not_told_apart_from_what_is_closed(plane):
    """Nobody without a credential learns which paths exist."""
    for path in ("/nothing", "/api/v1/../v1/seams", "//api/v1/seams", "/%2e/api", "/healthz/", "/healthzx"):
        assert (await plane.ask("GET", path)).status_code == 401


PUBLIC = ["/_crossfade/stream", "/_crossfade/tasks/{task}", "/_crossfade/tasks/{task}/result"]


async def test_the_public_application_has_two_paths_and_no_others(plane):
    """By construction: whatever is forwarded to it, there is no route to the API in it."""
    public = public_app(plane.control)
    assert sorted({route.path for route in routes_of(public.tasks)}) == sorted(
        [*PUBLIC[1:], "/_crossfade/tasks/{task}/events"]
    )
    await declare(plane)
    for path in (
        "/_crossfade/../api/v1/seams",
        "/_crossfade/tasks/../../api/v1/seams",
        "/_crossfade/tasks/%2e%2e/%2e%2e/api/v1/seams",
        "/_crossfade/api/v1/seams",
        "/_crossfade//api/v1/seams",
    ):
        answer = await raw(plane, f"GET {path} HTTP/1.1\r\nAuthorization: Bearer {plane.operate}")
        assert answer.split(b" ")[1] in (b"401", b"404"), answer
        assert b"web.search" not in answer


async def raw(plane, head):
    """The answer to a request that no client would send as it stands."""
    reader, writer = await asyncio.open_connection("127.0.0.1", plane.port)
    writer.write(f"{head}\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return answer


async def test_a_host_that_is_not_ours_is_refused(serving, nats_server):
    """A name that somebody points at this machine gets their page nowhere; names that were allowed do."""
    async with serving(nats_server.url, hosts=frozenset({"control.internal"})) as plane:
        for host, status in (
            ("evil.example", 421),
            ("127.0.0.1.evil.example", 421),
            ("", 421),
            ("localhost:9", 200),
            ("[::1]:9", 200),
            ("Control.Internal", 200),
        ):
            answer = await plane.ask("GET", "/api/v1/seams", plane.view, headers={"Host": host})
            assert answer.status_code == status, host


async def test_no_other_origin_is_let_in_by_a_browser(serving, nats_server):
    """No answer carries a CORS header, asked before or with the request; origins that may read streams are the same."""
    async with serving(nats_server.url, origins=frozenset({"https://app.example"})) as plane:
        for method, path in operations(plane):
            for origin in ("https://evil.example", "https://app.example", "null"):
                asks = {"Origin": origin, "Access-Control-Request-Method": method}
                for asked, secret in (("OPTIONS", None), ("OPTIONS", plane.operate), ("GET", plane.operate)):
                    answer = await plane.ask(asked, path, secret, headers=asks)
                    assert not [name for name in answer.headers if name.startswith("access-control-")], (asked, path)


async def test_a_change_by_cookie_needs_the_token_that_no_other_site_can_read(plane):
    """A session is opened with a credential; its cookie alone changes nothing; logging out ends it here."""
    await declare(plane)
    opened = await plane.ask("POST", "/api/v1/session", plane.operate)
    cookie = opened.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    csrf = opened.json()["csrf"]
    headers = {"Cookie": cookie.partition(";")[0]}

    assert (await plane.ask("GET", "/api/v1/seams", headers=headers)).status_code == 200
    assert (await plane.ask("GET", "/api/v1/session", headers=headers)).json()["csrf"] == csrf
    for more, status in (
        ({}, 403),
        ({"X-Crossfade-Csrf": "x"}, 403),
        ({"X-Crossfade-Csrf": csrf, "Origin": "https://evil.example"}, 403),
        ({"X-Crossfade-Csrf": csrf, "Sec-Fetch-Site": "cross-site"}, 403),
        ({"X-Crossfade-Csrf": csrf}, 428),
    ):
        answer = await plane.ask("PATCH", "/api/v1/seams/web.search", headers=headers | more, json=CHANGE)
        assert answer.status_code == status, more
    assert (await plane.ask("GET", "/api/v1/seams", "cfc_wrong", headers=headers)).status_code == 401


async def test_another_sites_page_changes_nothing_with_a_bearer_either(plane):
    """No honest page of another origin calls this API."""
    answer = await plane.ask(
        "POST", "/api/v1/tokens", plane.operate, json={"user": "a"}, headers={"Origin": "https://evil.example"}
    )
    assert answer.status_code == 403


async def test_moving_a_seam_takes_having_looked(plane, prefix):
    """428 without the revision, 412 with an old one, and who moved it why is told on the bus."""
    await declare(plane)
    path = "/api/v1/seams/web.search"
    looked = await plane.ask("GET", path, plane.view)
    assert (looked.headers["etag"], looked.json()["policy"]["stage"]) == ('"0"', "legacy")

    assert (await plane.ask("PATCH", path, plane.operate, json=CHANGE)).status_code == 428
    moved = await plane.ask("PATCH", path, plane.operate, json=CHANGE, headers={"If-Match": looked.headers["etag"]})
    assert (moved.status_code, moved.headers["etag"], moved.json()["now"]) == (200, '"1"', "observe")
    late = await plane.ask("PATCH", path, plane.operate, json=CHANGE | {"stage": "shadow"}, headers={"If-Match": '"0"'})
    assert (late.status_code, late.headers["etag"]) == (412, '"1"')
    assert late.headers["content-type"] == "application/problem+json"
    only = {"reason": "slow tool", "timeout": 12, "wait": 0}
    set_ = await plane.ask("PATCH", path, plane.operate, json=only, headers={"If-Match": '"1"'})
    assert (set_.json()["was"], set_.json()["now"]) == ("observe", "observe")

    shown = (await plane.ask("GET", path, plane.view)).json()
    assert (shown["policy"]["timeout"], shown["actor"], shown["reason"]) == (12, "olga", "slow tool")
    told = [stored.event async for stored in plane.control.bus.read(f"{prefix}e.>")]
    assert [(json.loads(event.data)["actor"], json.loads(event.data)["reason"]) for event in told] == [
        ("olga", "because"),
        ("olga", "slow tool"),
    ]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({}, 422, "reason"),
        ({"reason": "  "}, 422, "reason"),
        ({"reason": "x", "stage": "sideways"}, 422, "stage"),
        ({"reason": "x", "percent": 101}, 422, "percent"),
        ({"reason": "x", "precent": 1}, 422, "precent"),
        ({"reason": "x", "compare": {"$[": "exact"}}, 422, "compare"),
        ({"reason": "x", "stage": "bus"}, 409, "skips"),
    ],
)
async def test_a_change_that_cannot_be_says_why(plane, body, status, words):
    """As a problem, by the field or the rule, and nothing changes."""
    await declare(plane)
    answer = await plane.ask("PATCH", "/api/v1/seams/web.search", plane.operate, json=body, headers={"If-Match": '"0"'})
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    assert words in answer.json()["detail"]
    assert (await plane.ask("GET", "/api/v1/seams/web.search", plane.view)).headers["etag"] == '"0"'


@pytest.mark.parametrize("etag", ["0", '"0"'])
async def test_an_etag_counts_with_and_without_quotes(plane, etag):
    """People type curl."""
    await declare(plane)
    path = "/api/v1/seams/web.search"
    answer = await plane.ask("PATCH", path, plane.operate, json=CHANGE, headers={"If-Match": etag})
    assert answer.status_code == 200


@pytest.mark.parametrize("etag", ["*", 'W/"0"', '"0", "1"', "x", '"99999999999999999999"', "\u00b2"])
async def test_an_etag_that_is_none_matches_nothing(plane, etag):
    """Also not the one that matches everything: it would change what nobody looked at."""
    await declare(plane)
    path = "/api/v1/seams/web.search"
    answer = await plane.ask("PATCH", path, plane.operate, json=CHANGE, headers={"If-Match": etag.encode("latin-1")})
    assert answer.status_code == 412


async def test_a_seam_nobody_declared_is_not_there(plane):
    """404, as a problem."""
    for method in ("GET", "PATCH"):
        answer = await plane.ask(
            method, "/api/v1/seams/not.there", plane.operate, json=CHANGE, headers={"If-Match": "0"}
        )
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")


async def test_a_body_that_is_too_large_is_not_read(plane):
    """413 by its length, 411 for one that does not say it."""
    for more, status in (({"content": b"x" * 300_000}, 413), ({"content": chunks()}, 411)):
        answer = await plane.ask("POST", "/api/v1/tokens", plane.operate, **more)
        assert answer.status_code == status


async def chunks():
    yield b"{}"


async def test_the_configuration_is_shown_without_secrets(plane):
    """Neither the bus's password nor a key."""
    answer = await plane.ask("GET", "/api/v1/config", plane.view)
    assert answer.json()["bus"] == "nats://***@127.0.0.1:4222"
    assert answer.json()["seams"] == {"web.search": {"timeout": 5.0}}
    assert "hunter2" not in answer.text


async def test_metrics_are_readable_and_their_series_bounded(plane, prefix):
    """Every line is a comment or a sample; a seam's stage is one series."""
    await declare(plane)
    page = (await plane.ask("GET", "/metrics", plane.view)).text
    assert 'crossfade_seam_stage{seam="web.search",stage="legacy"} 1' in page
    assert "crossfade_stream_open 0" in page
    for line in page.splitlines():
        assert line.startswith("# ") or float(line.rpartition(" ")[2]) >= 0


async def test_ready_is_told_only_while_it_can_serve(plane):
    """503 without streams, and it says what is missing."""
    assert (await plane.ask("GET", "/readyz", plane.view)).json() == {"ready": True, "bus": True, "streams": True}
    plane.control.hub.ready.clear()
    answer = await plane.ask("GET", "/readyz", plane.view)
    assert (answer.status_code, answer.json()["streams"]) == (503, False)
    assert (await plane.ask("GET", "/_crossfade/stream", plane.token())).status_code == 503


async def test_a_minted_token_opens_that_users_stream_and_no_other(plane):
    """By an operator only; it is good for as long as was asked."""
    answer = await plane.ask("POST", "/api/v1/tokens", plane.operate, json={"user": "bob", "ttl": 60})
    minted = answer.json()
    assert answer.status_code == 201
    assert plane.control.keyring.read(minted["token"]).id == minted["id"]
    async with plane.stream(minted["token"]) as page:
        await plane.publish("theirs", user="bob", tenant="")
        assert await page.said(1) == ["theirs"]
    for body in ({"user": ""}, {"user": "a", "ttl": 0}, {"user": "a", "ttl": 1e9}, {"user": "a\nb"}, {}):
        assert (await plane.ask("POST", "/api/v1/tokens", plane.operate, json=body)).status_code == 422


async def test_a_router_of_another_part_is_as_closed_as_ours(serving, nats_server):
    """Whatever the dashboard adds: a read needs a credential, a change the role."""
    from fastapi import APIRouter

    router = APIRouter()
    router.add_api_route("/dashboard", lambda: {"shown": True}, methods=["GET"])
    router.add_api_route("/dashboard/act", lambda: {"done": True}, methods=["POST"])
    async with serving(nats_server.url, routers=[router]) as plane:
        assert (await plane.ask("GET", "/dashboard")).status_code == 401
        assert (await plane.ask("GET", "/dashboard", plane.view)).json() == {"shown": True}
        assert (await plane.ask("POST", "/dashboard/act", plane.view)).status_code == 403
        assert (await plane.ask("POST", "/dashboard/act", plane.operate)).json() == {"done": True}


async def test_answers_are_not_kept_and_pages_are_framed_by_nobody(plane):
    """The headers that browsers need to be told."""
    answer = await plane.ask("GET", "/docs", plane.view)
    assert answer.headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "<script" not in answer.text
    assert "/api/v1/seams/{seam}" in answer.text


async def test_a_fault_of_ours_shows_nothing_of_itself(serving, nats_server):
    """500 as a problem; what went wrong is in the log."""
    from fastapi import APIRouter

    router = APIRouter()

    def broken():
        raise RuntimeError("hunter2")

    router.add_api_route("/broken", broken, methods=["GET"])
    async with serving(nats_server.url, routers=[router]) as plane:
        answer = await plane.ask("GET", "/broken", plane.view)
        assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
        assert "hunter2" not in answer.text
