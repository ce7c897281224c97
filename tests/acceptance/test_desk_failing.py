"""The desk with parts of it killed, frozen or lost."""

import signal
import threading
import time

from support.desks import journal_of, service, stack, wait_for


def test_killed_tool_service_is_a_502_that_names_it(home):
    """With fetch gone the caller learns so at once; nothing hangs, and other tools go on."""
    with stack(home) as running:
        running.fetch.kill()
        started = time.monotonic()
        reply = running.frontend.post("/ask", {"question": "parse JSON"})
        assert time.monotonic() - started < 5
        error = reply.json()["error"]
        assert (reply.status_code, error["code"], error["tool"]) == (502, "tool_unavailable", "fetch")
        assert running.frontend.get("/search?q=parse+JSON").status_code == 200


def test_tool_service_killed_in_mid_call_is_a_502(home, desk_importable):
    """A report whose writer dies is a 502; its journal has a begin without an end and there is no file."""
    with stack(home, DESK_REPORT_SECONDS="30") as running:
        replies = []

        def ask():
            replies.append(running.frontend.post("/reports", {"topic": "context managers", "request_id": "r"}))

        asking = threading.Thread(target=ask)
        asking.start()
        wait_for(lambda: any(e.tool == "write_report" for e in journal_of(home).entries), "report begun")
        running.write_report.kill()
        asking.join(timeout=10)
        error = replies[0].json()["error"]
        assert (replies[0].status_code, error["tool"]) == (502, "write_report")
    assert [e.phase for e in journal_of(home).entries if e.tool == "write_report"] == ["begin"]
    assert not list((home / "reports").glob("*.md"))


def test_frozen_tool_service_is_a_504_within_its_timeout(home):
    """A tool that is there and does not answer costs its timeout, not the caller's patience."""
    with stack(home) as running:
        running.fetch.signal(signal.SIGSTOP)
        started = time.monotonic()
        reply = running.frontend.post("/ask", {"question": "parse JSON"})
        assert 4 < time.monotonic() - started < 10
        assert (reply.status_code, reply.json()["error"]["code"]) == (504, "tool_timeout")


def test_killed_agent_is_a_502_and_a_page_that_says_so(home):
    """Without the agent programs get JSON, people get a page, both a 502."""
    with stack(home) as running:
        running.agent.kill()
        reply = running.frontend.post("/ask", {"question": "parse JSON"})
        assert (reply.status_code, reply.json()["error"]["code"]) == (502, "agent_unavailable")
        page = running.frontend.get("/?q=parse+JSON")
        assert (page.status_code, "That did not work" in page.text) == (502, True)


def test_lost_index_is_a_500_and_the_service_lives(home):
    """A broken index fails the call, not the process."""
    for file in home.glob("index-*.sqlite"):
        file.unlink()
        file.write_bytes(b"this is no database, and long enough to be asked" * 100)
    with service("tool", "search", home=home) as search:
        assert search.post("/search", {"query": "list"}).status_code == 500
        assert search.get("/healthz").status_code == 200


def test_sigterm_lets_a_call_in_flight_finish(home, desk_importable):
    """A service that is told to stop writes the report it has begun, answers, and only then ends, with code 0."""
    with service("tool", "write_report", home=home, DESK_REPORT_SECONDS="1") as tool:
        body = {"topic": "t", "sections": [{"heading": "h", "paragraphs": ["p"], "sources": []}], "request": "r.1"}
        replies = []
        asking = threading.Thread(target=lambda: replies.append(tool.post("/write_report", body)))
        asking.start()
        wait_for(lambda: journal_of(home).entries, "journal entry")
        tool.signal(signal.SIGTERM)
        asking.join(timeout=10)
        assert replies[0].json()["name"] == "t-r-1.md"
        assert tool.process.wait(timeout=10) == 0
