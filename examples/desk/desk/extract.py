"""The extractive summariser: picks the sentences that answer a question and changes none of them."""

import ast
import math
import re
import warnings
from dataclasses import dataclass

from desk.records import Point
from desk.words import STOP_WORDS, Query, paragraphs, read_question, sentences, stem, stems

LONGEST = 420
"""Characters; a longer sentence is usually a list or a table that lost its line breaks."""

_VERSION_NOTE = re.compile(
    r"^(?:New in version|Changed in version|Deprecated since|See also|Note:|Related help|\*\*PEP|See the module)"
)
_CODE_LIKE = re.compile(r"->| = |[:,;=]$|^[\w.]+\(")
_DEFINES = re.compile(r"^(?:(?:An?|The) )?[\"*]?(\w+)[\"*]?(?: \w+){0,3} (?:is|are|defines|returns|causes|specifies)\b")


@dataclass(frozen=True, kw_only=True)
class _Candidate:
    text: str
    source: int
    place: int
    stems: frozenset[str]
    heading: frozenset[str]


def pick(texts: list[str], question: str, limit: int) -> list[Point]:
    """The ``limit`` best sentences of ``texts`` for ``question``, in reading order.

    The first paragraph of a text is its heading: it tells what the text is about and is not quoted.
    """
    candidates = [each for source, text in enumerate(texts, start=1) for each in _candidates(text, source)]
    query = read_question(question)
    wanted = _wanted(query)
    seen_in = {word: sum(word in each.stems for each in candidates) for word in wanted}
    worth = {word: math.log(1 + len(candidates) / (1 + n)) for word, n in seen_in.items()}
    marks = [f'"{mark}"' for mark in (*query.keywords, *query.symbols)]
    ranked = sorted(candidates, key=lambda each: (-_score(each, worth, marks), each.source, each.place))
    chosen: list[_Candidate] = []
    enough = 0.45 * _score(ranked[0], worth, marks) if ranked else 0.0
    for each in ranked:
        if len(chosen) == limit or _score(each, worth, marks) < enough:
            break
        if not any(_overlap(each.stems, other.stems) > 0.75 for other in chosen):
            chosen.append(each)
    chosen.sort(key=lambda each: (each.source, each.place))
    return [Point(text=each.text, source=each.source) for each in chosen]


def _wanted(query: Query) -> set[str]:
    """The stems to look for; a keyword that is also an everyday word (``is``) counts only where it is quoted."""
    return {stem(word) for word in (*query.terms, *(set(query.keywords) - STOP_WORDS))}


def _candidates(text: str, source: int) -> list[_Candidate]:
    heading, _, body = text.partition("\n\n")
    about = frozenset(stems(heading))
    return [
        _Candidate(text=sentence, source=source, place=place, stems=frozenset(stems(sentence)), heading=about)
        for place, sentence in enumerate(sentences(body))
        if len(sentence) <= LONGEST and len(sentence.split()) >= 3
        if not _VERSION_NOTE.match(sentence) and not _CODE_LIKE.search(sentence)
    ]


def _score(each: _Candidate, worth: dict[str, float], marks: list[str]) -> float:
    said = sum(value for word, value in worth.items() if word in each.stems)
    implied = sum(value for word, value in worth.items() if word in each.heading - each.stems)
    marked = sum(mark in each.text for mark in marks)
    total = sum(worth.values()) or 1.0
    opening = 1.0 / (1 + each.place)
    defines = _DEFINES.match(each.text)
    subject = bool(defines) and stem(defines[1]) in worth if defines else False
    return (said + 0.6 * implied) / total + 0.6 * marked + 0.5 * opening + 0.35 * subject - 0.18 * (each.source - 1)


def _overlap(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / max(1, len(one | other))


def example(texts: list[str], question: str, *, lines: int = 14) -> tuple[str, int]:
    """The code in ``texts`` that fits ``question`` best and its source from 1; ``("", 0)`` when there is none."""
    query = read_question(question)
    wanted = _wanted(query)
    best, found, where = 0.0, "", 0
    for source, text in enumerate(texts, start=1):
        for block in _code(text):
            fit = len(wanted & set(stems(block))) / source
            if fit > best and len(block.splitlines()) <= lines:
                best, found, where = fit, block, source
    return found, where


def _code(text: str) -> list[str]:
    """The examples in ``text``: doctest sessions, and indented blocks that Python can parse."""
    found: list[str] = []
    for block in paragraphs(text):
        code = _dedent(block)
        if code.startswith(">>>") or (block.startswith(" ") and _is_python(code)):
            found.append(code)
    return found


def _is_python(code: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an odd escape in an example is not our business
            tree = ast.parse(code)
    except (SyntaxError, ValueError):
        return False
    statements = [node for node in tree.body if not isinstance(node, ast.Import | ast.ImportFrom)]
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in statements)


def _dedent(block: str) -> str:
    lines = block.splitlines()
    margin = min(len(line) - len(line.lstrip()) for line in lines if line.strip())
    return "\n".join(line[margin:].rstrip() for line in lines)
