"""The agent: plans searches, reads the best passages, answers with citations. Same question, same answer."""

import re
from dataclasses import replace
from itertools import count

from desk import extract, reports, tools
from desk.records import Answer, Begun, Hit, Passage, Point, Report, Section, Source
from desk.wiring import Toolbox

READ = 4
"""Passages read for an answer; the next hits are offered for reading on."""

_COMPARISON = re.compile(
    r"\bbetween\s+(?:an?\s+|the\s+)?(?P<one>.+?)\s+and\s+(?:an?\s+|the\s+)?(?P<other>.+?)\s*\??$"
    r"|^\s*(?P<left>.+?)\s+(?:vs\.?|versus)\s+(?P<right>.+?)\s*\??$",
    re.IGNORECASE,
)
_CHAPTERS = ("The essentials", "In detail", "Related")


class NothingFoundError(LookupError):
    """The documentation says nothing about this topic, so there is nothing to report."""


class _Calls:
    """Gives every tool call of one request an id of its own: ``r1.1``, ``r1.2``, ..."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._numbers = count(1)

    def next(self) -> str:
        return f"{self._request_id}.{next(self._numbers)}"


def answer(question: str, request_id: str, toolbox: Toolbox) -> Answer:
    """The answer to ``question`` with its sources; what was found next is under ``more``."""
    calls = _Calls(request_id)
    hits = _search(question, toolbox, calls)
    passages = _read(hits, toolbox, calls, limit=READ)
    if not passages:
        return Answer(question=question, request_id=request_id, points=[], sources=[])
    texts = [_as_text(passage) for passage in passages]
    summary = toolbox.summarise(texts, question, 4, request=calls.next())
    example, example_source = extract.example(texts, question)
    found = Answer(
        question=question,
        request_id=request_id,
        points=summary.points,
        sources=[
            Source(number=number, passage_id=passage.passage_id, title=passage.title)
            for number, passage in enumerate(passages, start=1)
        ],
        method=summary.method,
        note=summary.note,
        example=example,
        example_source=example_source,
        more=hits[len(passages) : len(passages) + 4],
    )
    return _only_cited(found)


def report(topic: str, request_id: str, toolbox: Toolbox) -> Report:
    """Research ``topic`` and have a report written; raises ``NothingFoundError``."""
    sections, request = _research(topic, request_id, toolbox)
    return toolbox.write_report(topic, sections, request=request)


def begin_report(topic: str, request_id: str, toolbox: Toolbox) -> Begun:
    """Research ``topic`` and submit the writing: whoever asked hears of its progress by events, and waits for nothing.

    Raises ``NothingFoundError``.
    """
    sections, request = _research(topic, request_id, toolbox)
    task = tools.write_report.submit(topic, sections, request=request)
    return Begun(task=task.callid, name=reports.name_of(topic, request), sections=len(sections))


def _research(topic: str, request_id: str, toolbox: Toolbox) -> tuple[list[Section], str]:
    """The sections of a report, and the id of the call that shall write it."""
    calls = _Calls(request_id)
    hits = toolbox.search(topic, 9, request=calls.next())
    if not hits:
        raise NothingFoundError(topic)
    sections: list[Section] = []
    for chapter, heading in enumerate(_CHAPTERS):
        passages = _read(hits[chapter * 3 : chapter * 3 + 3], toolbox, calls, limit=3)
        if passages:
            sections.append(_section(heading, topic, passages, toolbox, calls))
    return sections, calls.next()


def _search(question: str, toolbox: Toolbox, calls: _Calls) -> list[Hit]:
    """The hits for the question; for a comparison the best for each side come first."""
    hits = toolbox.search(question, 8, request=calls.next())
    sides: list[Hit] = []
    for side in _sides(question):
        best = toolbox.search(f"what is `{side}`" if side.isalpha() else f"what is {side}", 2, request=calls.next())
        sides += best[:1]
    best_score = max((hit.score for hit in hits), default=0.0)
    good = [hit for hit in hits if hit.score >= 0.45 * best_score]
    return list({hit.passage_id: hit for hit in [*sides, *good]}.values())


def _sides(question: str) -> list[str]:
    match = _COMPARISON.search(question)
    return [side.strip("`'\"") for side in match.groups() if side] if match else []


def _read(hits: list[Hit], toolbox: Toolbox, calls: _Calls, *, limit: int) -> list[Passage]:
    return [toolbox.fetch(hit.passage_id, request=calls.next()) for hit in hits[:limit]]


def _as_text(passage: Passage) -> str:
    """A passage as the summariser reads it: a heading paragraph, then the text."""
    first, _, rest = passage.text.partition("\n\n")
    if first.startswith(f"{passage.title}(") or first == passage.title:
        return f"{passage.title}\n\n{rest}"
    return f"{passage.title}\n\n{passage.text}"


def _only_cited(found: Answer) -> Answer:
    """The same answer whose sources are numbered from 1 and each is cited at least once."""
    used = sorted({point.source for point in found.points} | ({found.example_source} - {0}))
    number = {old: new for new, old in enumerate(used, start=1)}
    return replace(
        found,
        points=[Point(text=point.text, source=number[point.source]) for point in found.points],
        sources=[replace(source, number=number[source.number]) for source in found.sources if source.number in number],
        example_source=number.get(found.example_source, 0),
    )


def _section(heading: str, topic: str, passages: list[Passage], toolbox: Toolbox, calls: _Calls) -> Section:
    texts = [_as_text(passage) for passage in passages]
    summary = toolbox.summarise(texts, topic, 4, request=calls.next())
    paragraphs = [f"**{passages[point.source - 1].title}**: {point.text}" for point in summary.points]
    return Section(heading=heading, paragraphs=paragraphs, sources=[passage.passage_id for passage in passages])
