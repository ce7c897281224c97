"""The desk's four tools: plain functions over JSON's types.

``request`` names the logical call for the journal; whoever asks gives every call an id of its own.
"""

import os
import time

from crossfade import shim
from desk import corpus, extract, journal, model, reports
from desk.records import Hit, Passage, Report, Section, Summary
from desk.words import sentences as split_sentences


class UnknownPassageError(LookupError):
    """There is no passage of this id."""


@shim.tool("desk.search", effects="none")
def search(query: str, limit: int = 5, *, request: str = "") -> list[Hit]:
    """The ``limit`` passages (1 to 50) that fit ``query`` best, best first."""
    with journal.execution("search", request, role=_role()):
        return hits(query, limit)


def hits(query: str, limit: int) -> list[Hit]:
    """What ``search`` finds."""
    return [
        Hit(
            passage_id=found.passage_id,
            title=found.title,
            kind=found.kind,
            summary=_first_sentence(found.text),
            score=found.score,
        )
        for found in corpus.find(query, max(1, min(limit, 50)))
    ]


def fetch(passage_id: str, *, request: str = "") -> Passage:
    """The passage of this id; raises ``UnknownPassageError``."""
    with journal.execution("fetch", request, role=_role()):
        found = corpus.get(passage_id)
        if found is None:
            raise UnknownPassageError(passage_id)
        return Passage(passage_id=found.passage_id, title=found.title, kind=found.kind, text=found.text)


@shim.tool("desk.summarise", effects="none")
def summarise(texts: list[str], question: str, sentences: int = 3, *, request: str = "") -> Summary:
    """At most ``sentences`` sentences of ``texts`` about ``question``; each text starts with a heading paragraph.

    A model writes them when ``DESK_MODEL_URL`` is set; when it fails they are picked from the texts, and ``note``
    says so.
    """
    with journal.execution("summarise", request, role=_role()):
        url = model.model_url()
        note = ""
        if url and texts:
            try:
                return Summary(points=model.ask(url, texts, question, sentences), method="model")
            except model.ModelError as error:
                note = f"The model gave no answer ({error}); these sentences are quoted from the documentation."
        return Summary(points=extract.pick(texts, question, sentences), method="extractive", note=note)


@shim.tool("desk.report", timeout=60)  # writes a file: unsafe, so at most one side may start it
def write_report(topic: str, sections: list[Section], *, request: str = "") -> Report:
    """Write ``sections`` as a Markdown file in the desk's ``reports`` folder.

    It takes ``DESK_REPORT_SECONDS`` (4) in all: the pause stands in for the typesetting that a real one waits for.
    """
    with journal.execution("write_report", request, role=_role()):
        pause = float(os.environ.get("DESK_REPORT_SECONDS") or 4) / (len(sections) + 1)
        for number, section in enumerate(sections):
            _report_progress(number / (len(sections) + 1), f"typesetting “{section.heading}”", request)
            time.sleep(pause)
        _report_progress(len(sections) / (len(sections) + 1), "binding", request)
        time.sleep(pause)
        report = reports.save(topic, reports.render(topic, sections), request)
        _report_progress(1.0, "done", request)
        return report


def _report_progress(fraction: float, note: str, request: str) -> None:
    reports.note_progress(request, fraction, note)
    shim.report_progress(fraction, note)


def _role() -> str:
    """What the journal calls this run: a shadow's answer is only compared, nobody gets it."""
    call = shim.current_call()
    return "shadow" if call is not None and call.shadow else ""


def _first_sentence(text: str) -> str:
    prose = [sentence for sentence in split_sentences(text) if len(sentence.split()) > 2]
    return prose[0][:240] if prose else " ".join(text.split())[:240]
