"""The API of playbooks, and who gets at the dashboard's pages."""

from __future__ import annotations

import asyncio
import json

import pytest

from crossfade.migrations.controller import LOOK
from crossfade.migrations.dashboard.watching import Watch
from crossfade.proxy.control.hub import Waiter
from crossfade.shim.errors import BusUnavailableError
from integration.control.migrating import SEAM, Migration
from unit.migrations.seen import result, verdict

API = "/api/v1/migrations"
PAGES = ["/", "/dashboard", f"/dashboard/seams/{SEAM}", "/dashboard/runs", "/dashboard/runs/r", "/dashboard/news"]


@pytest.fixture
async def plane(serving, nats_server):
    """With everything that the command line puts into it."""
    async with serving(nats_server.url, dashboard=True) as found:
        yield found


@pytest.fixture
async def migration(plane):
    made = Migration(plane)
    await made.begin()
    return made


async def act(plane, deed, *, revision=None, secret=None, seam=SEAM, **body):
    headers = {} if revision is None else {"If-Match": f'"{revision}"'}
    json_ = {"reason": "because", **body}
    return await plane.ask("POST", f"{API}/{seam}/{deed}", secret or plane.operate, headers=headers, json=json_)


async def test_an_overview_says_what_keeps_each_seam(plane, migration):
    """Findings with bounds that JSON can hold, evidence of both sides, the revision that acts must name."""
    await migration.tell(*[verdict("match")] * 3)
    await migration.tick()
    (view,) = (await plane.ask("GET", API, plane.view)).json()["seams"]
    assert (view["seam"], view["stage"], view["status"], view["next"]) == (SEAM, "shadow", "holding", "canary 5%")
    found = {finding["metric"]: finding for finding in view["findings"]}
    assert (found["calls"]["state"], found["calls"]["seen"], found["calls"]["limit"]) == ("missing", 3.0, 400.0)
    assert (found["match"]["state"], found["match"]["high"]) == ("unmet", 1.0)
    assert view["evidence"]["paths"]["shadow"]["calls"] == 3
    assert (await plane.ask("GET", f"{API}/{SEAM}", plane.view)).json()["revision"] == view["revision"] == 2
    assert (await plane.ask("GET", f"{API}/web.other", plane.view)).status_code == 404


async def test_an_act_is_guarded_by_what_was_seen(plane, migration):
    """Skipping a gate and approving name a revision: 428 without, 412 for an old one; one of two operators wins."""
    assert (await act(plane, "advance")).status_code == 428
    assert (await act(plane, "advance", revision=1)).status_code == 412
    done = await act(plane, "advance", revision=2)
    assert (done.status_code, done.json()["now"]) == (200, "canary")
    late = await act(plane, "advance", revision=2)
    assert (late.status_code, "look at it again" in late.json()["detail"]) == (412, True)
    assert (await act(plane, "approve", revision=3)).status_code == 409  # its gate decides
    approved = await act(plane, "approve", revision=2)
    assert (approved.status_code, "revision 3 (olga set it at" in approved.json()["detail"]) == (412, True)


async def patch(plane, revision, **body):
    headers = {"If-Match": f'"{revision}"'}
    json_ = {"reason": "mine", "wait": 0, **body}
    return await plane.ask("PATCH", f"/api/v1/seams/{SEAM}", plane.operate, headers=headers, json=json_)


async def test_a_seam_of_a_playbook_is_changed_with_force_only_which_pauses_it(plane, migration):
    """It says whose the seam is; a setting that is no move passes and leaves the playbook at work."""
    refused = await patch(plane, 2, stage="observe")
    assert refused.status_code == 409
    assert f"playbook tools moves {SEAM} (applied by ann at 20" in refused.json()["detail"]
    assert (await patch(plane, 2, noise=0.5, repeat=3)).json()["now"] == "shadow"
    await migration.tick()
    assert (await migration.migrations.find("tools")).seams[SEAM].status == "holding"
    policy = (await plane.ask("GET", f"/api/v1/seams/{SEAM}", plane.view)).json()["policy"]
    assert (policy["noise"], policy["repeat"]) == (0.5, 3)
    assert (await patch(plane, 3, repeat=10)).status_code == 422
    assert (await patch(plane, 3, stage="observe", force=True)).json()["now"] == "observe"
    await migration.tick()
    progress = (await migration.migrations.find("tools")).seams[SEAM]
    assert (progress.status, progress.reason) == ("paused", "olga moved it to observe")


async def test_of_two_that_disagree_the_slower_is_told_who_and_when(plane, migration):
    """Over the API at the same moment, whichever way each of them asks."""
    first, second = await asyncio.gather(
        patch(plane, 2, stage="observe", force=True), act(plane, "advance", revision=2, reason="on with it")
    )
    won, lost = sorted((first, second), key=lambda answer: answer.status_code)
    assert (won.status_code, lost.status_code) == (200, 412)
    assert f"the policy of {SEAM} is at revision 3 (olga set it at 20" in lost.json()["detail"]
    assert (await migration.policies.live())[SEAM].revision == 3


async def test_a_yes_is_kept_with_who_said_it(plane):
    """Approving names the revision, too: before anybody has changed the policy that is 0."""
    migration = Migration(plane)
    await migration.declare(SEAM)
    await migration.apply(f"seams: [{SEAM}]\nsteps: [{{to: observe, approve: anyone}}, {{to: shadow}}]")
    assert (await act(plane, "approve")).status_code == 428
    assert (await act(plane, "approve", revision=0)).status_code == 200
    assert (await migration.migrations.find("tools")).seams[SEAM].approved == {0: "olga"}


async def test_pausing_resuming_and_rolling_back_keep_who_and_why(plane, migration):
    """Each with the credential's name and a reason, without which nothing is done."""
    assert (await act(plane, "rollback", reason=" ")).status_code == 422
    paused = (await act(plane, "pause", reason="the launch")).json()
    assert (paused["status"], paused["reason"]) == ("paused", "paused by olga: the launch")
    assert (await act(plane, "resume")).json()["status"] == "holding"
    assert (await act(plane, "resume")).status_code == 409
    back = (await act(plane, "rollback", to="legacy", reason="too slow")).json()
    assert (back["was"], back["now"]) == ("shadow", "legacy")
    live = (await migration.policies.live())[SEAM]
    assert (live.actor, live.reason) == ("olga", "too slow")
    assert (await act(plane, "pause", seam="web.other")).status_code == 404


async def test_legacy_code_is_led_out_step_by_step_by_who_saw_it(plane, migration):
    """Each step names the revision and what was seen to be next; too early says why; the end says what can go."""
    too_early = await act(plane, "retire", revision=2, step="retire")
    assert (too_early.status_code, "legacy still answers" in too_early.json()["detail"]) == (409, True)
    await migration.move("bus")
    await migration.lives()
    await migration.tell(result())
    await migration.tick(LOOK)
    place = f"{API}/{SEAM}/retirement?period_hours="
    week = (await plane.ask("GET", f"{place}168", plane.view)).json()
    assert (week["next"], week["holds"]) == ("retire", ["quiet for 0 min of 7 d 0 h, since the count began, at bus"])
    now = (await plane.ask("GET", f"{place}0", plane.view)).json()
    assert (now["holds"], now["processes"]["web_1"]["hits"]) == ([], 0)
    assert (await act(plane, "retire", step="retire", period_hours=0)).status_code == 428
    assert (await act(plane, "retire", revision=2, step="retire", period_hours=0)).status_code == 412
    assert (await act(plane, "retire", revision=3, step="acknowledge", period_hours=0)).status_code == 409
    done = await act(plane, "retire", revision=3, step="retire", period_hours=0, reason="nobody came")
    assert done.json()["done"].startswith("bus -> retired")
    assert (await migration.policies.live())[SEAM].reason == "nobody came"
    await migration.lives()
    await migration.tell(result())
    await migration.tick(LOOK)
    said = await act(plane, "retire", revision=4, step="acknowledge", period_hours=0, reason="I know")
    assert (said.status_code, "new:search answers" in said.json()["delete"]["what"]) == (200, True)
    end = (await plane.ask("GET", f"{place}0", plane.view)).json()
    assert (end["next"], end["acknowledged"].startswith("olga, "), "I know" in end["acknowledged"]) == (
        "delete",
        True,
        True,
    )


async def test_who_may_look_may_not_act(plane, migration):
    """403 for every act, and 401 without a credential; nothing is moved."""
    for deed in ("approve", "advance", "pause", "resume", "rollback", "retire"):
        assert (await act(plane, deed, revision=2, secret=plane.view)).status_code == 403
        assert (await plane.ask("POST", f"{API}/{SEAM}/{deed}", json={"reason": "r"})).status_code == 401
    assert (await migration.policies.live())[SEAM].revision == 2


async def test_a_change_by_cookie_needs_the_csrf_token_and_no_foreign_page(plane, migration):
    """As every change of the API: the session alone does nothing, nor does another site's page."""
    session = await plane.ask("POST", "/api/v1/session", plane.operate)
    cookie = {"Cookie": session.headers["set-cookie"].partition(";")[0]}
    assert "SameSite=strict" in session.headers["set-cookie"]
    csrf = {"x-crossfade-csrf": session.json()["csrf"]}
    for headers, status in (
        (cookie, 403),
        (cookie | csrf | {"Origin": "https://evil.example"}, 403),
        (cookie | csrf, 200),
    ):
        path = f"{API}/{SEAM}/pause"
        assert (await plane.ask("POST", path, headers=headers, json={"reason": "r"})).status_code == status


async def test_a_browser_without_a_session_is_led_to_the_login_and_nothing_else(plane):
    """Pages redirect it, whatever clients it is not are told 401; login, style and script are open, and are all."""
    for path in PAGES:
        assert (await plane.ask("GET", path)).status_code == 401
        answer = await plane.ask("GET", path, headers={"Accept": "text/html"})
        assert (answer.status_code, answer.headers["location"].startswith("/dashboard/login?next=%2F")) == (303, True)
        assert (await plane.ask("GET", path, "cfc_wrong", headers={"Accept": "text/html"})).status_code == 401
    for path in ("/dashboard/login", "/dashboard/static/dashboard.js", "/dashboard/static/dashboard.css"):
        answer = await plane.ask("GET", path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'self';")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
    for path in ("/dashboard/static/../pages.py", "/dashboard/static/%2e%2e/pages.py", "/dashboard/static/"):
        assert (await plane.ask("GET", path)).status_code == 401
    assert (await plane.ask("GET", "/dashboard/login", headers={"Host": "evil.example"})).status_code == 421


async def test_no_page_holds_script_or_style_of_its_own(plane, migration):
    """The policy would refuse them, so none may be there; and the page names no other host."""
    await migration.run("r", (SEAM, 1, 2))
    leaving = f"/dashboard/seams/{SEAM}/retire"
    for path in ("/dashboard", f"/dashboard/seams/{SEAM}", leaving, "/dashboard/runs/r", "/dashboard/seams/no.such"):
        text = (await plane.ask("GET", path, plane.view)).text
        assert "<style" not in text
        assert " style=" not in text
        assert text.count("<script") == text.count('<script src="/dashboard/static/') > 0
        assert "http://" not in text.replace("http://www.w3.org", "")
        assert "https://" not in text


async def test_a_bus_that_is_away_is_said_to_every_viewer(plane, migration, monkeypatch):
    """The page answers 503 in words, the stream says that it sees nothing, and both go on when it is back."""
    watch = Watch(migration.bus, migration.subjects, migration.policies)
    news = watch.news(Waiter(owner=("", "ann")))
    assert json.loads((await anext(news))[0].data)["bus"] is True

    async def fail(*_arguments, **_options):
        raise BusUnavailableError

    with monkeypatch.context() as patch:
        patch.setattr("crossfade.migrations.dashboard.watching.overview", fail)
        while (state := json.loads((await anext(news))[0].data))["bus"]:
            pass
        assert state["at"]
        answer = await plane.ask("GET", "/dashboard", plane.view)
        assert (answer.status_code, "The bus cannot be reached" in answer.text) == (503, True)
    while not json.loads((await anext(news))[0].data)["bus"]:
        pass
    await news.aclose()
    assert watch._watching is None, "nobody looks, and it still reads the bus"
