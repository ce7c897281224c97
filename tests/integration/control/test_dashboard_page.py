"""The dashboard in a real browser: what an operator sees, does, and is protected from."""

from __future__ import annotations

import json
import re

import pytest

from crossfade.migrations.controller import LOOK
from integration.control.migrating import SEAM, Migration
from support.needs import locate, needs
from support.tcp_link import TcpLink
from unit.migrations.seen import observed, result, verdict

pytestmark = needs("chromium")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LIVE = '#live[data-state="live"]'
PLACE = f"/dashboard/seams/{SEAM}"
SOON = 15_000  # milliseconds in which something that must happen has happened, on a busy machine


@pytest.fixture(scope="module")
async def browser():
    """Debian's Chromium, without a window."""
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        found = await playwright.chromium.launch(executable_path=locate("chromium"), args=FLAGS)
        yield found
        await found.close()


@pytest.fixture
async def dashboard(serving, nats_server):
    async with serving(nats_server.url, dashboard=True) as plane:
        yield plane


@pytest.fixture
async def migration(dashboard):
    made = Migration(dashboard)
    await made.begin()
    return made


class Visitor:
    """A browser of somebody's own, and everything that went wrong in it."""

    def __init__(self, context, plane) -> None:
        self.context, self.plane = context, plane
        self.wrong: list[str] = []

    async def log_in(self, token, path="/", *, url=""):
        """The page of ``path``, live."""
        self.page = page = await self.context.new_page()
        page.set_default_timeout(SOON)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: self.wrong.append(f"dialog: {dialog.message}"))
        self.page.on("console", lambda said: self.wrong.append(said.text) if "Security Policy" in said.text else None)
        await page.goto((url or self.plane.url) + path)
        await page.get_by_label("Token").fill(token)
        await page.get_by_role("button", name="Log in").click()
        await page.wait_for_selector(LIVE)
        return page


@pytest.fixture
async def visit(browser, dashboard):
    """Opens browsers, and asks at the end that nothing went wrong in any."""
    opened: list[Visitor] = []

    async def open_one(**options):
        opened.append(Visitor(await browser.new_context(**options), dashboard))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.context.close()
    assert [wrong for each in opened for wrong in each.wrong] == []


async def text(page, selector):
    return re.sub(r"\s+", " ", await page.locator(selector).inner_text())


async def shows(page, selector, words):
    """Wait until an element says this."""
    await page.locator(selector).filter(has_text=words).first.wait_for()


async def do(page, button, reason):
    """Press a button of an operator's, and say why."""
    await page.get_by_role("button", name=button).click()
    await page.get_by_label("Why").fill(reason)
    await page.locator("#act-do").click()


async def test_a_ramp_is_watched_without_loading_the_page_again(visit, migration, dashboard):
    """From shadow over two canaries to the bus: each move and its reason appear by themselves; a person says yes."""
    page = await (await visit()).log_in(dashboard.operate, PLACE)
    await page.evaluate("window.loadedOnce = true")
    await shows(page, "#verdict", "may not go on to canary 5% yet")
    assert "Calls 0, wanted at least 400" in await text(page, ".because")

    await migration.tell(*[verdict("match")] * 460, *[observed()] * 300)
    await migration.tick()
    await shows(page, ".track [aria-current]", "canary 5%")
    await shows(page, "#moves ~ ol", "shadow → canary")
    await migration.tell(*[observed()] * 300, *[result()] * 300)
    await migration.tick()
    await shows(page, ".track [aria-current]", "canary 25%")
    await migration.tell(*[result()] * 60)
    await migration.tick()
    await shows(page, "#verdict", "may go on to bus once approved")

    await do(page, "Approve bus", "two quiet weeks")
    await shows(page, "#done", "awaiting-approval")
    await migration.tick()
    await shows(page, "#verdict", "is at bus, the last step of its playbook")
    assert "approved by olga" in await text(page, ".track")
    assert await page.evaluate("window.loadedOnce")


async def test_keys_at_observe_are_those_that_the_gate_counts(visit, migration, dashboard):
    """Nothing is compared there: the keys are those seen, in the gate and below it, and there is nothing to cover."""
    await migration.declare("web.fetch")
    await migration.apply("seams: [web.fetch]\nsteps: [{to: observe, gate: {keys: 3}}, {to: shadow}]", name="reads")
    await migration.tick(2)
    await migration.tell(*[observed()] * 2, seam="web.fetch")
    page = await (await visit()).log_in(dashboard.view, PLACE.replace(SEAM, "web.fetch"))
    assert "Distinct keys 2" in await text(page, "main")
    below = await text(page, ".foot")
    assert "2 distinct keys" in below
    assert "coverage" not in below


async def test_a_mismatch_is_opened_side_by_side(visit, migration, dashboard):
    """From the list of kinds: where they differ, what each side said, and what else differs alike."""
    title = {"path": "$.items[0].title", "kind": "changed", "legacy": '"Lists"', "bus": '"LISTS"'}
    old, new = {"items": [{"title": "Lists"}], "total": 12}, {"items": [{"title": "LISTS"}]}
    total = {"path": "$.total", "kind": "missing", "legacy": "12", "bus": ""}
    for call in ("c1", "c2"):
        await migration.observe(call, {"q": "lists", "api_key": "sk-hunter2"}, old)
        answer = {"outcome": "value", "value": new}
        await migration.differ(title, total, call=call, answer=answer, detail="from the second on")
    page = await (await visit()).log_in(dashboard.view, PLACE)
    assert (await text(page, ".kinds tbody tr")).startswith('2 $.items[0].title changed "Lists" "LISTS"')
    await page.get_by_role("link", name="side by side").click()
    await shows(page, "h1", "2 differences")
    rows = [re.sub(r"\s+", " ", row) for row in await page.locator(".sides tbody tr").all_inner_texts()]
    assert rows == ['$.items[0].title differs "Lists" "LISTS"', "$.total missing in the new 12 nothing"]
    facts = await text(page, ".facts")
    assert "shop.search:search@2" in facts
    assert "Policy revision 2" in facts
    await shows(page, "main", "from the second on")
    asked = await text(page, "#asked ~ pre")
    assert '"q": "lists"' in asked
    assert "hunter2" not in asked
    marked = [await page.locator(f"#{side} ~ pre mark").all_inner_texts() for side in ("said-old", "said-new")]
    assert [[line.strip() for line in side] for side in marked] == [
        ['"title": "Lists"', '"total": 12'],
        ['"title": "LISTS"'],
    ]
    await page.get_by_role("link", name="call c1").click()
    await shows(page, ".facts", "c1")


async def test_a_seam_is_rolled_back_with_a_reason_by_keyboard_alone(visit, migration, dashboard):
    """The reason is required, kept with who did it, and shown; Escape leaves everything as it was."""
    await migration.move("canary", percent=5.0)
    page = await (await visit()).log_in(dashboard.operate, PLACE)
    button = page.get_by_role("button", name="Roll back")
    await button.focus()
    await page.keyboard.press("Enter")
    assert await page.evaluate("document.activeElement.id") == "act-reason"
    await page.keyboard.press("Escape")
    assert await button.evaluate("button => button === document.activeElement")
    await page.keyboard.press("Enter")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    assert await page.locator("#act").is_visible(), "it went through without a reason"
    await page.keyboard.type("answers are cut off")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await shows(page, "#done", "canary → shadow")
    await shows(page, "#verdict", "was taken back to shadow")

    live = (await migration.policies.live())[SEAM]
    assert (live.settings["stage"], live.actor, live.reason) == ("shadow", "olga", "answers are cut off")
    assert "answers are cut off" in await text(page, ".because")


async def test_who_decides_on_what_is_not_so_any_more_is_told(visit, migration, dashboard):
    """Somebody else moved the seam while the dialog was open: nothing is done, and the page says why."""
    page = await (await visit()).log_in(dashboard.operate, PLACE)
    await page.get_by_role("button", name="Skip gate to canary 5%").click()
    await migration.move("observe")
    await page.get_by_label("Why").fill("it is late")
    await page.locator("#act-do").click()
    await shows(page, "#act-error", "look at it again, then decide")
    await shows(page, "#act-error", "is at revision 3 (ann set it at 20")
    assert (await migration.policies.live())[SEAM].settings["stage"] == "observe"


async def test_a_run_is_followed_from_the_tail(visit, migration, dashboard):
    """An event leads to its run, whatever its id: every call, how long it waited and ran."""
    await migration.run("run/1?", (SEAM, 2, 9), ("web.fetch", 1, 30))
    page = await (await visit()).log_in(dashboard.view)
    await page.locator("#tail a.run").first.click()
    await shows(page, "h1", "2 calls in")
    assert await rows_of(page) == [SEAM, "web.fetch"]
    drawn = await page.locator(".waterfall svg").nth(1).get_attribute("aria-label")
    assert "handler " in drawn
    await page.get_by_role("link", name="u1").click()
    await shows(page, ".runs", "run/1?")


async def rows_of(page):
    """The seams of the calls that can be seen."""
    rows = await page.locator(".waterfall tbody tr:visible .name").all_inner_texts()
    return [row.split()[0] for row in rows]


async def test_a_run_is_walked_and_folded_by_keyboard_and_leads_to_its_mismatch(visit, migration, dashboard):
    """From the list of runs: arrows walk the tree, fold it, and stay where they were when the page renews itself."""
    call, *_ = await migration.run("run-7", (SEAM, 1, 9), ("web.fetch", 1, 3), ("web.read", 1, 3), nested=True)
    differs = {"path": "$.total", "kind": "changed", "legacy": "12", "bus": "13"}
    await migration.differ(differs, call=call, run="run-7", source="shadow")
    await migration.run("other", ("web.fetch", 1, 1), user="bob")
    page = await (await visit()).log_in(dashboard.view, "/dashboard/runs")
    await page.get_by_label("User").fill("bob")
    await page.keyboard.press("Enter")
    await page.get_by_role("link", name="All runs").wait_for()
    assert await page.locator(".runs tbody a").all_inner_texts() == ["other"]
    await page.get_by_label("User").fill("")
    await page.get_by_label("Seam").fill(SEAM)
    await page.get_by_role("button", name="Find").click()
    await page.get_by_role("link", name="run-7").click()
    await shows(page, "h1", "4 calls in")

    rows = page.locator(".waterfall tbody tr")
    assert [await row.get_attribute("aria-level") for row in await rows.all()] == ["1", "2", "2", "2"]
    await rows.first.focus()
    await page.keyboard.press("ArrowLeft")
    assert await rows_of(page) == [SEAM]
    await migration.run("run-7", ("web.late", 1, 1))
    await shows(page, ".waterfall", "web.late")
    assert await rows_of(page) == [SEAM, "web.late"], "it was unfolded by the news"
    assert await rows.first.evaluate("row => row === document.activeElement")
    await page.keyboard.press("ArrowRight")
    for _ in range(3):  # it stands where it began
        if "shadow" not in await page.evaluate("document.activeElement.innerText"):
            await page.keyboard.press("ArrowDown")
    assert "shadow" in await page.evaluate("document.activeElement.innerText")
    await page.keyboard.press("Enter")
    await shows(page, "h1", "1 difference")
    await page.get_by_role("link", name="run-7").click()
    await shows(page, "h1", "5 calls in")


async def test_a_call_that_runs_on_is_seen_to_end(visit, migration, dashboard):
    """Without loading the page again; a run that nobody knows is said to be none."""
    await migration.run("run-8", (SEAM, 1, 9), ended=False)
    page = await (await visit()).log_in(dashboard.view, "/dashboard/runs/run-8")
    await shows(page, ".waterfall", "running")
    await migration.run("run-8", ("web.fetch", 1, 3))
    await shows(page, ".waterfall", "value")
    await page.goto(f"{dashboard.url}/dashboard/runs/nobody")
    await shows(page, "h1", "No call of this run is known")


async def test_legacy_code_is_retired_and_acknowledged_from_its_page(visit, migration, dashboard):
    """Too early by a week, as says who ran it; judged by no time at all, each step asks why; the end says what goes."""
    await migration.move("bus")
    await migration.lives()
    await migration.tell(result())
    await migration.tick(LOOK)
    page = await (await visit()).log_in(dashboard.operate, PLACE)
    await page.get_by_role("link", name="Retire").click()
    await shows(page, "#verdict", "may not go yet")
    assert "quiet for 0 min of 7 d 0 h" in await text(page, ".because")
    assert await page.get_by_role("button", name="Retire").count() == 0
    assert "web_1 unknown build 0" in await text(page, "#hits ~ table:last-child")

    await page.goto(f"{dashboard.url}{PLACE}/retire?hours=0")
    await shows(page, "#verdict", "Nobody needs the legacy code")
    await do(page, "Retire…", "nobody came")
    await shows(page, "#done", "bus → retired")
    await migration.lives()
    await migration.tell(result())
    await migration.tick(LOOK)
    await shows(page, "#verdict", "somebody must say that its code goes")
    assert "armed" in await text(page, "main")
    await do(page, "Acknowledge…", "I know")
    await shows(page, "#verdict", "can be deleted")
    assert "new:search answers" in await text(page, "#delete ~ dl")
    assert "I know" in await text(page, "#quiet ~ dl")


async def test_who_may_look_sees_no_button_and_may_not_act(visit, migration, dashboard):
    """Nothing to press but logging out; the same request by hand is refused."""
    page = await (await visit()).log_in(dashboard.view, PLACE)
    assert await page.get_by_role("button").all_inner_texts() == ["Log out"]
    assert await page.locator("dialog").count() == 0
    status = await page.evaluate(
        """async (seam) => (await fetch(`/api/v1/migrations/${seam}/rollback`, {
            method: "POST", body: '{"reason": "r"}',
            headers: {"content-type": "application/json",
                      "x-crossfade-csrf": document.querySelector("meta[name=csrf]").content},
        })).status""",
        SEAM,
    )
    assert status == 403
    elsewhere = await page.context.new_page()
    await elsewhere.goto(dashboard.url + PLACE)
    await elsewhere.wait_for_selector(LIVE)
    await page.get_by_role("button", name="Log out").click()
    await page.wait_for_url("**/dashboard/login?next=*")
    await elsewhere.wait_for_url("**/dashboard/login?next=*")  # its stream ended, too, and nobody waits ten minutes


async def test_a_page_that_is_not_connected_says_so_and_comes_back(visit, migration, dashboard):
    """The network is cut: the page says what it shows is old. It is mended: what happened meanwhile is there."""
    with TcpLink(dashboard.port) as link:
        page = await (await visit()).log_in(dashboard.view, PLACE, url=f"http://127.0.0.1:{link.port}")
        link.cut()
        await shows(page, "#stale", "Not connected: the control plane does not answer. What you see is from")
        assert await text(page, "#live") == "Not connected"
        await migration.move("observe")
        link.mend()
        await page.wait_for_selector(LIVE)
        await shows(page, ".track [aria-current]", "observe")
        await page.wait_for_selector("#stale", state="hidden")


HOSTILE = """<img src=x onerror=alert(1)></script><script>alert(2)</script>'"><svg onload=alert(3)>{{7*7}}"""


async def test_no_text_of_anybody_becomes_markup_or_script(visit, migration, dashboard):
    """In reasons, actors, titles, handlers, payloads, run ids, event types: shown as it is, on every page."""
    steps = [{"to": "shadow", "gate": {"calls": 9}}, {"to": "canary 5%"}]
    await migration.apply(json.dumps({"title": HOSTILE, "seams": [SEAM], "steps": steps}))  # JSON is YAML
    await migration.move("shadow", actor=HOSTILE, reason=HOSTILE)
    await migration.tick()
    bad = {"path": HOSTILE, "kind": HOSTILE, "legacy": HOSTILE, "bus": HOSTILE}
    await migration.observe(HOSTILE, {HOSTILE: HOSTILE}, HOSTILE)
    await migration.differ(
        bad,
        call=HOSTILE,
        answer={"outcome": "value", "value": {HOSTILE: [HOSTILE]}},
        handler=HOSTILE,
        signature=HOSTILE,
        detail=HOSTILE,
        reason=HOSTILE,
    )
    await migration.differ(call="c9", handler=HOSTILE, signature="", detail=HOSTILE)
    await migration.run(HOSTILE, (SEAM, 1, 2))
    await migration.say(HOSTILE)
    visitor = await visit()
    page = await visitor.log_in(dashboard.operate)
    await page.add_init_script(
        "addEventListener('securitypolicyviolation', (e) => console.log('Security Policy', e.blockedURI))"
    )
    found = set()
    for place in ("/dashboard/runs", f"{PLACE}/retire"):
        await page.goto(dashboard.url + place)
        await page.wait_for_selector(LIVE)
        assert await page.locator("main img, main script").count() == 0
    for place in ("/dashboard", PLACE):
        await page.goto(dashboard.url + place)
        await page.locator("#tail .said", has_text="onerror=alert(1)").first.wait_for()
        found |= {await link.get_attribute("href") for link in await page.locator("main a").all()}
        await shown_as_text(page)
    pages = [address for address in found if "mismatch?call=" in address or "/runs/" in address]
    assert len(pages) == 4, found  # two mismatches, their run, of which the bus knows no call, and the run of the calls
    pages.remove("/dashboard/runs/run-1")
    for place in pages:
        await page.goto(dashboard.url + place)
        await page.wait_for_selector("h1")
        await shown_as_text(page)


async def shown_as_text(page):
    assert await page.locator("main img, main script, svg[onload]").count() == 0
    assert "onerror=alert(1)" in await page.inner_text("main")


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
    .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const colour = parse(getComputedStyle(node).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((c) => c.nodeType === 3 && c.data.trim());
    if (!own || !node.checkVisibility() || node.closest("svg, .hidden, .skip, noscript")) continue;
    const [a, b] = [light(parse(getComputedStyle(node).color)), light(ground(node))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) bad.push(`${node.className || node.tagName}: ${node.textContent.trim()} ${ratio.toFixed(2)}`);
  }
  return bad;
}"""

NAMELESS = """() => [...document.querySelectorAll(
    "button, a, input, textarea, select, img, svg[role=img], table, ol, section")]
  .filter((node) => {
    if (node.matches("table")) return !node.querySelector("th[scope]");
    if (node.matches("input, textarea, select")) return !node.labels.length;
    if (node.matches("img")) return !node.hasAttribute("alt");
    if (node.matches("svg, ol.track")) return !node.getAttribute("aria-label");
    if (node.matches("section")) return !document.getElementById(node.getAttribute("aria-labelledby"));
    if (node.matches("ol")) return false;
    return !node.textContent.trim() && !node.hidden && node.id !== "act-do";
  })
  .map((node) => node.outerHTML.slice(0, 120))"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_page_can_be_read_and_heard(visit, migration, dashboard, scheme):
    """Contrast of 4.5 and more, a name for every control and drawing, each id once, no sideways scrolling."""
    await migration.tell(*[verdict("match")] * 90, *[observed()] * 90, *[observed(after=90)] * 9)
    await migration.observe("c1", {"q": "x" * 900}, {"total": 12})
    total = {"path": "$.total", "kind": "changed", "legacy": "12", "bus": "13"}
    await migration.differ(total, answer={"outcome": "value", "value": {"total": 13}})
    await migration.run("run-1", (SEAM, 1, 2))
    await migration.declare("web.fetch")
    visitor = await visit(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    page = await visitor.log_in(dashboard.operate)
    grounds = set()
    more = ("/dashboard/runs/run-1", "/dashboard/runs", f"{PLACE}/retire")
    for place in ("/dashboard", PLACE, f"{PLACE}/mismatch?call=c1", *more):
        await page.goto(dashboard.url + place)
        await page.wait_for_selector(LIVE)
        assert await page.evaluate(CONTRAST) == [], place
        assert await page.evaluate(NAMELESS) == [], place
        ids = await page.evaluate("[...document.querySelectorAll('[id]')].map((node) => node.id)")
        assert len(ids) == len(set(ids)), place
        assert await page.locator("h1").count() == 1
        grounds.add(await page.evaluate("getComputedStyle(document.body).backgroundColor"))
        await page.set_viewport_size({"width": 360, "height": 740})
        assert await page.evaluate("document.documentElement.scrollWidth") <= 360, place
        await page.set_viewport_size({"width": 1280, "height": 900})
    assert grounds == {"rgb(247, 247, 245)" if scheme == "light" else "rgb(20, 23, 26)"}
