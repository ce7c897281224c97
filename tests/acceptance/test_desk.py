"""The example desk as its users have it: what it answers, alike however it is asked, and its reports."""

import json
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from support.desks import (
    answer_of,
    environment,
    run,
    service,
    wait_for,
)

# -- answers ----------------------------------------------------------------------------------------------------------


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


# -- sameness ---------------------------------------------------------------------------------------------------------


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


def test_services_answer_like_functions(standing, desk_index):
    """The same question has the same answer in one process and over five."""
    served = standing.frontend.post("/ask", {"question": "what is a decorator"}).json()
    del served["request_id"]
    assert served == answer_of("what is a decorator", home=desk_index)


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


# -- reports ----------------------------------------------------------------------------------------------------------


def test_report_is_a_file_and_shows_its_progress(standing, desk_index):
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
    text = (desk_index / "reports" / written["name"]).read_text()
    assert text.startswith("# context managers\n\n")
    assert text.count("\n## ") == 3
    assert standing.frontend.get("/progress/shown").json() == {"fraction": 1.0, "note": "done"}
    assert "The essentials" in standing.frontend.get(f"/reports/{written['name']}").text


def test_report_about_nothing_is_a_404(standing):
    """A topic without documentation is refused before anything is written."""
    reply = standing.frontend.post("/reports", {"topic": "zzyzx"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "nothing_found")
