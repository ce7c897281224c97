"""The example desk as its users have it: real processes, real HTTP, its own index, no bus and no model."""

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from crossfade.adapters.embedded import stop

TOOLS = ("search", "fetch", "summarise", "write_report")
DESK = Path(__file__).resolve().parents[2] / "examples" / "desk"


@pytest.fixture
def desk_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(DESK))


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """A folder that already holds an index; tests that write get a copy of it."""
    home = tmp_path_factory.mktemp("index")
    run("index", home=home)
    return home


@pytest.fixture
def home(index, tmp_path):
    for file in index.glob("index-*.sqlite"):
        os.link(file, tmp_path / file.name)
    return tmp_path


def environment(home, **more):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DESK_", "CROSSFADE_"))}
    journal = str(home / "journal.jsonl")
    return clean | {"PYTHONPATH": str(DESK), "DESK_HOME": str(home), "DESK_JOURNAL": journal, **more}


def run(*arguments, home, **more):
    command = [sys.executable, "-m", "desk", *arguments]
    done = subprocess.run(
        command, env=environment(home, **more), cwd=home, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answer_of(question, *, home, **more):
    answer = json.loads(run("ask", "--json", question, home=home, **more))
    del answer["request_id"]
    return answer


@dataclass
class Running:
    process: subprocess.Popen
    url: str

    def post(self, path, body, timeout=30):
        return httpx.post(self.url + path, json=body, timeout=timeout, trust_env=False)

    def get(self, path):
        return httpx.get(self.url + path, timeout=30, trust_env=False)

    def signal(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.process.kill()
        self.process.wait(timeout=10)


def spawn(name, *arguments, home, **more):
    return subprocess.Popen(
        [sys.executable, "-m", f"desk.services.{name}", *arguments],
        env=environment(home, **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def ready(process) -> Iterator[Running]:
    try:
        yield Running(process, json.loads(process.stdout.readline())["url"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def service(name, *arguments, home, **more):
    return ready(spawn(name, *arguments, home=home, **more))


@dataclass
class Stack:
    search: Running
    fetch: Running
    summarise: Running
    write_report: Running
    agent: Running
    frontend: Running


@contextmanager
def stack(home, **more) -> Iterator[Stack]:
    with ExitStack() as running:

        def start(*command):
            return running.enter_context(service(*command, home=home, **more))

        spawned = {name: spawn("tool", name, home=home, **more) for name in TOOLS}
        tools = {name: running.enter_context(ready(process)) for name, process in spawned.items()}
        there = [f"--{name.replace('_', '-')}={tools[name].url}" for name in ("fetch", "summarise", "write_report")]
        agent = start("agent", *there)
        frontend = start(
            "frontend", f"--agent={agent.url}", f"--search={tools['search'].url}", f"--fetch={tools['fetch'].url}"
        )
        yield Stack(**tools, agent=agent, frontend=frontend)


@pytest.fixture(scope="module")
def standing(index):
    """One stack for tests that leave it as they found it."""
    with stack(index, DESK_REPORT_SECONDS="1.2") as running:
        yield running


def journal_of(home):
    from desk.journal import read_journal

    return read_journal(home / "journal.jsonl")


def wait_for(condition, what, seconds=10):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.02)
    return found


# -- answers -----------------------------------------------------------------------------------------------------

ANSWERS = {
    "How do I copy a list?": "list.copy",
    "What does the with statement do?": "The with statement",
    "difference between is and ==": "Comparisons: Identity comparisons",
    "read a csv file": "csv module",
    "parse JSON": "json.loads",
    "what is a generator": "The standard type hierarchy: Generator functions",
    "list all files in a directory": "os.listdir",
    "run a shell command and capture its output": "subprocess.run",
    "read environment variables": "os.getenv",
    "convert string to int": "int",
    "what does nonlocal mean": "The nonlocal statement",
    "join paths": "os.path.join",
    "cache the results of a function": "functools.lru_cache",
    "split a string by comma": "str.split",
    "make a temporary file": "tempfile.TemporaryFile",
    "what is __init__": "object.__init__",
    "open a url": "urllib.request.urlopen",
    "compress a file with gzip": "gzip.compress",
    "what is a context manager": "With Statement Context Managers",
    "how do I write a class with dataclass": "dataclasses.dataclass",
    "what does // do": "Binary arithmetic operations",
}


@pytest.mark.parametrize(("question", "title"), ANSWERS.items())
def test_everyday_question_cites_the_page_a_person_would_open(standing, question, title):
    """The answer to a real question quotes the passage that documents it."""
    answer = standing.frontend.post("/ask", {"question": question}).json()
    cited = {point["source"] for point in answer["points"]}
    assert title in {source["title"] for source in answer["sources"] if source["number"] in cited}


def test_every_sentence_is_quoted_from_the_source_it_cites(standing):
    """An extractive answer changes no word: each sentence stands in its source, line breaks aside."""
    answer = standing.frontend.post("/ask", {"question": "How do I copy a list?"}).json()
    sources = {source["number"]: source["passage_id"] for source in answer["sources"]}
    assert answer["points"]
    for point in answer["points"]:
        passage = standing.fetch.post("/fetch", {"passage_id": sources[point["source"]]}).json()
        assert point["text"] in " ".join(passage["text"].split())


def test_unanswerable_question_gets_an_empty_answer_not_an_error(standing):
    """Nothing found is an answer with no points, and the page says so."""
    reply = standing.frontend.post("/ask", {"question": "zzyzx qwrtplk"})
    assert (reply.status_code, reply.json()["points"]) == (200, [])
    assert "says nothing about this" in standing.frontend.get("/?q=zzyzx+qwrtplk").text


def test_full_text_syntax_in_a_question_is_only_text(standing):
    """Quotes, stars, parentheses and operators of the full-text language neither fail nor change the search."""
    plain = standing.search.post("/search", {"query": "copy list"}).json()
    assert standing.search.post("/search", {"query": '"copy" ((list" {'}).json() == plain
    for odd in ("AND", "* OR (", "NEAR(copy list, 2)", "title : copy -list", '"', "'; DROP TABLE passage; --", "\x00"):
        assert standing.search.post("/search", {"query": odd}).status_code == 200


# -- sameness ----------------------------------------------------------------------------------------------------


def test_two_desks_with_indexes_of_their_own_answer_alike(tmp_path):
    """Separately built indexes and different hash seeds: every passage and every answer is the same."""
    answers, passages = [], []
    for seed in ("1", "2"):
        home = tmp_path / seed
        home.mkdir()
        run("index", home=home, PYTHONHASHSEED=seed)
        asked = ("How do I copy a list?", "difference between is and ==", "parse JSON")
        answers.append([answer_of(question, home=home, PYTHONHASHSEED=seed) for question in asked])
        with closing(sqlite3.connect(*home.glob("index-*.sqlite"))) as connection:
            passages.append(connection.execute("SELECT * FROM passage").fetchall())
    assert passages[0] == passages[1]
    assert json.dumps(answers[0]) == json.dumps(answers[1])


def test_services_answer_like_functions(standing, index):
    """The same question has the same answer in one process and over five."""
    served = standing.frontend.post("/ask", {"question": "what is a decorator"}).json()
    del served["request_id"]
    assert served == answer_of("what is a decorator", home=index)


def test_index_is_replaced_and_never_overwritten(home):
    """A new index is a new file: whoever has the old one open keeps reading it whole."""
    before = {file.stat().st_ino for file in home.glob("index-*.sqlite")}
    with service("tool", "search", home=home) as search:
        first = search.post("/search", {"query": "copy list"}).json()
        run("index", home=home)
        assert search.post("/search", {"query": "copy list"}).json() == first
    assert before.isdisjoint(file.stat().st_ino for file in home.glob("index-*.sqlite"))


def test_index_built_by_many_at_once_is_whole(tmp_path):
    """Builders race for one file while a reader asks: everyone succeeds and no draft is left."""
    command = [sys.executable, "-m", "desk"]
    racing = [
        subprocess.Popen([*command, *arguments], env=environment(tmp_path), stdout=subprocess.PIPE, text=True)
        for arguments in (["index"], ["index"], ["ask", "parse JSON"], ["index"])
    ]
    outputs = [process.communicate(timeout=60)[0] for process in racing]
    assert [process.returncode for process in racing] == [0] * 4
    assert "json.load" in outputs[2]
    assert not list(tmp_path.glob("building-*"))
    assert len(list(tmp_path.glob("index-*.sqlite"))) == 1


# -- bad input ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{}", 400, "missing_question"),
        (b'{"question": "  "}', 400, "missing_question"),
        (b'{"question": 7}', 400, "missing_question"),
        (b'{"question": "x", "request_id": "../../etc"}', 400, "bad_request_id"),
        (b'{"question": ', 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b"[" * 100_000, 400, "invalid_json"),
        (b"\xff\xfe", 400, "invalid_json"),
        (b"", 400, "invalid_json"),
        (json.dumps({"question": "x" * 3000}).encode(), 413, "too_large"),
        (json.dumps({"question": "x" * 1_000_000}).encode(), 413, "too_large"),
    ],
    ids=lambda value: value[:24] if isinstance(value, bytes) else str(value),
)
def test_bad_question_is_refused_in_json(standing, body, status, code):
    """Whatever is wrong with the body, the answer is a 4xx whose JSON names it, and the service goes on."""
    reply = httpx.post(standing.frontend.url + "/ask", content=body, timeout=10, trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)
    assert reply.json()["error"]["message"]
    assert standing.frontend.get("/healthz").json() == {"status": "ok"}


def test_client_that_sends_first_and_reads_later_gets_the_refusal(standing):
    """Five megabytes are too much, and a client that writes them all still reads 413, not a broken pipe."""
    parts = urlsplit(standing.frontend.url)
    with closing(HTTPConnection(parts.hostname, parts.port, timeout=10)) as connection:
        connection.request("POST", "/ask", b"x" * 5_000_000)
        assert connection.getresponse().status == 413


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "unknown_path"),
        ("POST", "/nowhere", 404, "unknown_path"),
        ("DELETE", "/ask", 405, "wrong_method"),
        ("GET", "/ask", 405, "wrong_method"),
        ("GET", "/static/..%2fhttp.py", 404, "unknown_path"),
        ("GET", "/progress/nobody", 404, "unknown_request"),
    ],
)
def test_unknown_path_or_method_is_refused_in_json(standing, method, path, status, code):
    """There is no way to ask for something that is not there and get anything but a clear 4xx."""
    reply = httpx.request(method, standing.frontend.url + path, timeout=10, trust_env=False)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "header", ["Content-Length: nonsense", "Content-Length: -5", "Content-Length: +5", "Transfer-Encoding: chunked"]
)
def test_unreadable_length_ends_the_connection(standing, header):
    """A body of unknown extent is refused and the connection closed, so nothing of it is read as a request."""
    parts = urlsplit(standing.frontend.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=10) as connection:
        connection.sendall(f"POST /ask HTTP/1.1\r\nHost: desk\r\n{header}\r\n\r\n".encode())
        reply = b""
        while received := connection.recv(65536):
            reply += received
    assert reply.startswith(b"HTTP/1.1 4")


@pytest.mark.parametrize("path", ["/reports/..%2f..%2fjournal.jsonl", "/reports/none.md", "/passages/none"])
def test_page_of_a_missing_thing_is_a_404_page(standing, path):
    """A name that leads nowhere, or out of the folder, shows a page that says so."""
    reply = standing.frontend.get(path)
    assert (reply.status_code, "That did not work" in reply.text) == (404, True)


def test_markup_in_a_question_stays_text(standing):
    """A question with tags is shown as typed and runs nothing; the policy forbids scripts of others anyway."""
    reply = standing.frontend.get("/?q=%3Cscript%3Ealert(1)%3C/script%3E+list%22%3E")
    assert "<script>alert" not in reply.text
    assert "&lt;script&gt;alert" in reply.text
    assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_one_connection_serves_many_requests(standing):
    """Answers and refusals alike leave an HTTP/1.1 connection open for the next request."""
    parts = urlsplit(standing.frontend.url)
    connection = HTTPConnection(parts.hostname, parts.port, timeout=10)
    connection.connect()
    first = connection.sock
    for body in ('{"question": "parse JSON"}', "{}", '{"question": "join paths"}'):
        connection.request("POST", "/ask", body)
        connection.getresponse().read()
        assert connection.sock is first
    connection.close()


# -- failing parts -----------------------------------------------------------------------------------------------


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


# -- serve -------------------------------------------------------------------------------------------------------


@contextmanager
def served(home) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", "desk", "serve"], env=environment(home), stdout=subprocess.PIPE, text=True
    )
    try:
        url = process.stdout.readline().split()[3]
        yield Running(process, url)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_serve_takes_its_services_with_it(home, desk_importable, how):
    """However the desk ends, asked or killed, none of its processes stays behind."""
    with served(home) as desk:
        assert desk.post("/ask", {"question": "parse JSON"}).status_code == 200
        pids = {entry.pid for entry in journal_of(home).entries}
        assert len(pids) == 3  # agent (search), fetch, summarise
        desk.signal(how)
        assert desk.process.wait(timeout=30) == (0 if how == signal.SIGTERM else -signal.SIGKILL)
        wait_for(lambda: all(is_gone(pid) for pid in pids), "end of the services")
        with pytest.raises(httpx.ConnectError):
            desk.get("/healthz")


def test_serve_on_a_bus_shows_its_page_through_the_proxy(home):
    """On a bus its page is live and behind the shipped routes, and nothing stays when its parent is gone."""
    bus = {"CROSSFADE_BUS": f"embedded://{home}/bus?idle=20"}
    process = subprocess.Popen(
        [sys.executable, "-m", "desk", "serve", "--json", "--stop-with-stdin"],
        env=environment(home, **bus),
        cwd=home,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        addresses = json.loads(process.stdout.readline())
        desk = Running(process, addresses["page"])
        assert addresses["page"] != addresses["frontend"]
        assert 'id="live"' in desk.get("/?q=parse+JSON").text
        assert desk.get("/search?q=json").headers["via"]
        assert desk.post("/stream-token", {}).json()["token"]
        assert desk.get("/_crossfade/stream").status_code == 401  # control answers there, and wants that token
        assert addresses["frontend"] in Path(addresses["routes"]).read_text()
        process.stdin.close()
        assert process.wait(timeout=30) == 0
        with pytest.raises(httpx.ConnectError):
            desk.get("/healthz")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stdin.close()
        stop(home / "bus")


def test_a_shadow_is_journaled_as_one_wherever_it_leads(home):
    """What is run again to be compared says so to the service behind the one that was asked."""
    with stack(home) as desk:
        shadow = {"Crossfade-Shadow": "?1"}
        httpx.get(f"{desk.frontend.url}/search?q=json&request_id=l1", headers=shadow, trust_env=False)
        httpx.get(f"{desk.frontend.url}/search?q=json&request_id=l2", trust_env=False)

    roles = {entry.request: entry.role for entry in journal_of(home).entries}
    assert roles == {"l1.1": "shadow", "l2.1": "legacy"}


def test_page_has_a_form_and_needs_nothing_from_elsewhere(standing):
    """The page asks with a plain form; every address in it is its own."""
    page = standing.frontend.get("/").text
    assert '<form class="ask" action="/" method="get"' in page
    assert "http://" not in page
    assert "https://" not in page
    for asset in ("desk.css", "desk.js"):
        assert standing.frontend.get(f"/static/{asset}").status_code == 200


# -- reports -----------------------------------------------------------------------------------------------------


def test_report_is_a_file_and_shows_its_progress(standing, index):
    """While a report is written its progress can be read; then it is a Markdown file and a page."""
    replies = []
    body = {"topic": "context managers", "request_id": "shown"}
    asking = threading.Thread(target=lambda: replies.append(standing.frontend.post("/reports", body)))
    asking.start()

    def under_way():
        reply = standing.frontend.get("/progress/shown")
        return reply.status_code == 200 and 0 < reply.json()["fraction"] < 1

    wait_for(under_way, "progress")
    asking.join(timeout=20)
    written = replies[0].json()
    assert replies[0].status_code == 201
    text = (index / "reports" / written["name"]).read_text()
    assert text.startswith("# context managers\n\n")
    assert text.count("\n## ") == 3
    assert standing.frontend.get("/progress/shown").json() == {"fraction": 1.0, "note": "done"}
    assert "The essentials" in standing.frontend.get(f"/reports/{written['name']}").text


def test_report_about_nothing_is_a_404(standing):
    """A topic without documentation is refused before anything is written."""
    reply = standing.frontend.post("/reports", {"topic": "zzyzx"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "nothing_found")


# -- journal -----------------------------------------------------------------------------------------------------


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


# -- model -------------------------------------------------------------------------------------------------------


class Model(BaseHTTPRequestHandler):
    """A chat completion endpoint that behaves as ``server.behaviour`` says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), sent))
        if self.server.behaviour == "slow":
            self.server.released.wait(30)
        status = 500 if self.server.behaviour == "error" else 200
        content = (
            "no citation here" if self.server.behaviour == "uncited" else "Use a slice [2]. Or copy() [1]. Or [99]."
        )
        reply = {"choices": [{"message": {"role": "assistant", "content": content}}]}
        body = b"<html>" if self.server.behaviour == "garbage" else json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class ModelServer(ThreadingHTTPServer):
    behaviour = "ok"

    def handle_error(self, request, client_address):
        """The slow case answers a client that has gone."""


@pytest.fixture
def model():
    server = ModelServer(("127.0.0.1", 0), Model)
    server.seen = []
    server.released = threading.Event()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def test_model_writes_the_summary_when_its_address_is_set(home, model):
    """One variable replaces the extractive summariser; only passages that exist are cited, the key is sent along."""
    answer = answer_of("How do I copy a list?", home=home, DESK_MODEL_URL=model.url, DESK_MODEL_KEY="k")
    assert answer["method"] == "model"
    assert {point["text"] for point in answer["points"]} == {"Use a slice.", "Or copy()."}
    path, headers, sent = model.seen[0]
    assert (path, headers["Authorization"]) == ("/v1/chat/completions", "Bearer k")
    assert "How do I copy a list?" in sent["messages"][-1]["content"]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [("error", "answered 500"), ("slow", "within 0.3 s"), ("garbage", "not JSON"), ("uncited", "cited none")],
)
def test_failing_model_falls_back_with_a_visible_note(home, model, behaviour, reason):
    """A model that fails in any way leaves the extractive answer, with a note that says what happened."""
    model.behaviour = behaviour
    answer = answer_of("How do I copy a list?", home=home, DESK_MODEL_URL=model.url, DESK_MODEL_TIMEOUT="0.3")
    plain = answer_of("How do I copy a list?", home=home)
    assert reason in answer.pop("note")
    assert plain.pop("note") == ""
    assert answer == plain


def test_absent_model_falls_back_too(home):
    """Nobody listening at the address is a note, not an error."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = answer_of("parse JSON", home=home, DESK_MODEL_URL=f"http://127.0.0.1:{port}/v1")
    assert "cannot be reached" in answer["note"]
    assert answer["points"]
