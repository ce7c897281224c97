"""The desk's journal: what every execution leaves behind, whatever dies."""

import subprocess
import sys

from support.desks import environment, journal_of, service, stack


def test_every_tool_call_has_an_id_of_its_own_and_ran_once(home, desk_importable):
    """The journal of one question: ids in sequence, each begun and ended once, in the role of its process."""
    from desk.journal import tally

    with stack(home, DESK_ROLE="worker") as running:
        running.frontend.post("/ask", {"question": "difference between is and ==", "request_id": "q7"})
    counted = tally(journal_of(home).entries)
    assert list(counted) == [f"q7.{number}" for number in range(1, len(counted) + 1)]
    assert {each.tool for each in counted.values()} == {"search", "fetch", "summarise"}
    assert all((each.begun, each.ended, each.roles) == (1, 1, {"worker": 1}) for each in counted.values())


def test_work_done_twice_shows_in_the_tally(home, desk_importable):
    """The same request executed twice counts two, by role."""
    from desk.journal import tally

    for role in ("legacy", "worker", "worker"):
        with service("tool", "search", home=home, DESK_ROLE=role) as search:
            search.post("/search", {"query": "list", "request": "r.1"})
    executions = tally(journal_of(home).entries)["r.1"]
    assert (executions.begun, executions.ended, executions.roles) == (3, 3, {"legacy": 1, "worker": 2})


WRITER = """
import sys
from desk import journal
for number in range(100_000):
    with journal.execution("search", f"{sys.argv[1]}.{number}"):
        pass
    print(number, flush=True)
"""


def test_journal_survives_kill_9_of_its_writers(tmp_path, desk_importable):
    """Three writers killed in mid-write: every line that was acknowledged is there, and none is mixed up."""
    from desk.journal import tally

    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, name], env=environment(tmp_path), stdout=subprocess.PIPE, text=True
        )
        for name in "abc"
    ]
    for writer in writers:
        for _ in range(20):
            writer.stdout.readline()
    for writer in writers:
        writer.kill()
    acknowledged = {name: 20 + len(w.communicate()[0].splitlines()) for name, w in zip("abc", writers, strict=True)}
    journal = journal_of(tmp_path)
    counted = tally(journal.entries)
    assert journal.torn <= len(writers)
    for name, count in acknowledged.items():
        mine = [counted[f"{name}.{number}"] for number in range(count)]
        assert all((each.begun, each.ended) == (1, 1) for each in mine)


def test_torn_line_is_counted_and_swallows_no_other(tmp_path, desk_importable):
    """After half a line, as a power cut leaves it, the next entry stands on a line of its own."""
    from desk.journal import Entry, append, read_journal

    path = tmp_path / "journal.jsonl"
    entries = [
        Entry(tool="search", request=f"r.{number}", phase="begin", pid=1, role="legacy", time=1.0)
        for number in range(2)
    ]
    append(path, entries[0])
    path.write_bytes(path.read_bytes() + b'{"tool": "search", "requ')
    assert (read_journal(path).entries, read_journal(path).torn) == (entries[:1], 1)
    append(path, entries[1])
    assert (read_journal(path).entries, read_journal(path).torn) == (entries, 1)


def test_tool_does_not_run_when_its_journal_cannot_be_written(home):
    """Without a begin on disk nothing happens, and the service says why."""
    with service("tool", "write_report", home=home, DESK_JOURNAL=str(home / "missing" / "journal")) as tool:
        body = {"topic": "t", "sections": [{"heading": "h", "paragraphs": ["p"], "sources": []}]}
        reply = tool.post("/write_report", body)
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "journal_unavailable")
    assert not (home / "reports").exists()
