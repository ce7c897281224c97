"""The desk's pages: HTML from answers, everything escaped, no script needed to read them."""

import re
from collections.abc import Iterable
from html import escape
from typing import Any
from urllib.parse import quote, urlencode

from desk.records import Hit, Passage

_EXAMPLES = (
    "How do I copy a list?",
    "What does the with statement do?",
    "difference between is and ==",
    "parse JSON",
    "run a shell command and capture its output",
)
_CODE = re.compile(r"``(.+?)``|&quot;(.{1,80}?)&quot;")
_STRONG = re.compile(r"\*\*(\S.*?\S|\S)\*\*")
_EMPHASIS = re.compile(r"(?<![*\w])\*(\w[^*]{0,60}?\w|\w)\*(?![*\w])")


def home() -> str:
    """The empty page: the form and some questions to start with."""
    links = "".join(f'<li><a href="/?{urlencode({"q": each})}">{escape(each)}</a></li>' for each in _EXAMPLES)
    return _document(
        "Desk", f'<section class="card quiet"><h2>For example</h2><ul class="ideas">{links}</ul></section>'
    )


def answer(reply: dict[str, Any], *, live: bool = False) -> str:
    """An answer with its citations, example and further reading; ``live`` pages follow a report by its events."""
    question = str(reply["question"])
    titles = {source["number"]: source["title"] for source in reply["sources"]}
    parts = [f"<h2>{escape(question)}</h2>"]
    if reply["note"]:
        parts.append(f'<p class="note">{escape(reply["note"])}</p>')
    if not reply["points"]:
        parts.append('<p class="empty">The documentation says nothing about this. Other words may find something.</p>')
    parts += [_points(reply["points"], titles), _example(reply), _sources(reply["sources"])]
    body = f'<section class="card answer">{"".join(parts)}</section>{_more(reply["more"], question)}'
    if reply["points"]:
        body += _live_report(question) if live else _report_form(question)
    return _document(question, body, question)


def hits(query: str, found: list[Hit]) -> str:
    """Everything that fits a query."""
    body = _list(found) or '<p class="empty">Nothing fits.</p>'
    return _document(query, f'<section class="card"><h2>Passages about “{escape(query)}”</h2>{body}</section>', query)


def passage(shown: Passage) -> str:
    """One passage as it stands in the documentation."""
    body = f'<p class="kind">{escape(shown.kind)}</p><h2>{escape(shown.title)}</h2><pre>{escape(shown.text)}</pre>'
    return _document(shown.title, f'<section class="card">{body}</section>')


def report(name: str, text: str) -> str:
    """A report, its Markdown shown with headings and paragraphs."""
    blocks = [_block(block) for block in text.split("\n\n")]
    body = f'<p class="kind">report · {escape(name)}</p>{"".join(blocks)}'
    return _document(name, f'<section class="card report">{body}</section>')


def problem(message: str) -> str:
    """What went wrong, in words."""
    return _document(
        "Problem", f'<section class="card problem"><h2>That did not work</h2><p>{escape(message)}</p></section>'
    )


def _points(points: list[dict[str, Any]], titles: dict[int, str]) -> str:
    items: list[str] = []
    told = 0
    for point in points:
        source = point["source"]
        about = f'<b class="about">{escape(titles[source])}</b>' if source != told else ""
        told = source
        items.append(
            f'<li>{about}{_prose(point["text"])}\u00a0<a class="cite" href="#source-{source}">{source}</a></li>'
        )
    return f'<ul class="points">{"".join(items)}</ul>' if items else ""


def _example(reply: dict[str, Any]) -> str:
    if not reply["example"]:
        return ""
    source = reply["example_source"]
    return f'<h3>Example <a class="cite" href="#source-{source}">{source}</a></h3><pre>{escape(reply["example"])}</pre>'


def _sources(sources: list[dict[str, Any]]) -> str:
    items = "".join(
        f'<li id="source-{source["number"]}" value="{source["number"]}">'
        f'<a href="{_passage_path(source["passage_id"])}">{escape(source["title"])}</a></li>'
        for source in sources
    )
    return f'<h3>Sources</h3><ol class="sources">{items}</ol>' if items else ""


def _more(more: list[dict[str, Any]], question: str) -> str:
    listed = _list(Hit(**hit) for hit in more)
    every = f'<p><a href="/search?{urlencode({"q": question})}">All passages found</a></p>'
    return f'<section class="card quiet"><h3>Read on</h3>{listed}{every}</section>' if listed else ""


def _list(found: Iterable[Hit]) -> str:
    items = "".join(
        f'<li><a href="{_passage_path(hit.passage_id)}">{escape(hit.title)}</a> {_prose(hit.summary)}</li>'
        for hit in found
    )
    return f'<ul class="hits">{items}</ul>' if items else ""


def _passage_path(passage_id: str) -> str:
    return f"/passages/{quote(passage_id, safe='')}"


def _report_form(question: str) -> str:
    return (
        f'<form class="report-form" id="report" data-topic="{escape(question)}">'
        '<button type="submit">Write a report about this</button>'
        '<progress id="progress" max="1" value="0" hidden></progress><span id="status" role="status"></span></form>'
    )


def _live_report(question: str) -> str:
    """The report's card, all of whose room is there from the start: nothing below it moves as it fills."""
    return (
        f'<section class="card live" id="live" data-topic="{escape(question)}" data-state="idle">'
        '<div class="live-head"><h2>Report</h2>'
        '<span class="pill" id="connection" role="status">not started</span></div>'
        '<p class="live-note" id="note" aria-live="polite">The agent reads nine passages and writes them up.</p>'
        '<progress id="progress" max="1" value="0" aria-label="Progress of the report"></progress>'
        '<ol class="steps" id="steps"></ol>'
        '<div class="live-foot"><button type="button" id="write">Write a report about this</button>'
        '<a class="open" id="open" hidden>Open the report</a></div></section>'
        '<script src="/static/live.js" defer></script>'
    )


def _block(block: str) -> str:
    if block.startswith("# "):
        return f"<h2>{escape(block[2:])}</h2>"
    if block.startswith("## "):
        return f"<h3>{escape(block[3:])}</h3>"
    return f"<p>{_prose(block.replace('`', '``'))}</p>" if block.startswith("Sources:") else f"<p>{_prose(block)}</p>"


def _prose(text: str) -> str:
    """The documentation's own marks as HTML: ``code``, "code", *term* and **strong**."""
    marked = _CODE.sub(lambda match: f"<code>{match[1] or match[2]}</code>", escape(text))
    return _EMPHASIS.sub(r"<i>\1</i>", _STRONG.sub(r"<b>\1</b>", marked))


def _document(title: str, body: str, question: str = "") -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{escape(title)} · Desk</title>
<link rel="stylesheet" href="/static/desk.css">
<script src="/static/desk.js" defer></script>
</head>
<body>
<header><a class="brand" href="/">Desk</a><span>answers from the documentation inside Python</span></header>
<main>
<form class="ask" action="/" method="get" role="search">
<input name="q" value="{escape(question)}" placeholder="Ask about Python" aria-label="Your question"
  maxlength="2000" required{"" if question else " autofocus"}>
<button type="submit">Ask</button>
</form>
{body}
</main>
</body>
</html>
"""
