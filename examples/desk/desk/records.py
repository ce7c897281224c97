"""What passes between the desk's parts: plain dataclasses of JSON's own types, so that any of them can be sent."""

from dataclasses import dataclass, field

TENANT = "desk"
"""Whose events the desk's are, on a bus that others use, too."""


@dataclass(frozen=True)
class Hit:
    """A passage that fits a query; ``summary`` is its first sentence, ``score`` compares only within one search."""

    passage_id: str
    title: str
    kind: str
    summary: str
    score: float


@dataclass(frozen=True)
class Passage:
    """A piece of documentation, a few paragraphs long."""

    passage_id: str
    title: str
    kind: str
    text: str


@dataclass(frozen=True)
class Point:
    """One sentence of a summary; ``source`` is the place of its text among the texts given, from 1."""

    text: str
    source: int


@dataclass(frozen=True)
class Summary:
    """What texts say about a question; ``method`` is ``extractive`` or ``model``, ``note`` tells what went wrong."""

    points: list[Point]
    method: str
    note: str = ""


@dataclass(frozen=True)
class Section:
    """A chapter of a report: ``sources`` are passage ids."""

    heading: str
    paragraphs: list[str]
    sources: list[str]


@dataclass(frozen=True)
class Report:
    """A report that was written; ``name`` is its file in the desk's ``reports`` folder."""

    topic: str
    name: str
    words: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A passage that an answer cites as ``[number]``."""

    number: int
    passage_id: str
    title: str


@dataclass(frozen=True)
class Answer:
    """The desk's answer; without ``points`` nothing was found. ``example`` is code from source ``example_source``."""

    question: str
    request_id: str
    points: list[Point]
    sources: list[Source]
    method: str = "extractive"
    note: str = ""
    example: str = ""
    example_source: int = 0
    more: list[Hit] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Begun:
    """A report that is being written: the task to follow, the name it will have, how many sections."""

    task: str
    name: str
    sections: int
