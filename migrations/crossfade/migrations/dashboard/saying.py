"""The one question a page answers first: may this seam go on, and if not, why. Pure.

The word, the sentence and the colour all come from here, so that the list, the seam's own page and the title of the
browser's tab cannot say different things.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Final, Literal

from . import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from crossfade.migrations.gates import Finding, Ruling, State
    from crossfade.migrations.overview import SeamView
    from crossfade.migrations.retiring import Retirement, Step

Tone = Literal["go", "hold", "ask", "stop", "rest"]

METRICS: Final = {
    "match": "Match rate",
    "coverage": "Coverage",
    "calls": "Calls",
    "keys": "Distinct keys",
    "hold": "Time at this step",
    "errors": "Errors",
    "unknown": "Unknown outcomes",
    "p50": "Median latency",
    "p99": "p99 latency",
    "replay": "Last replay",
    "answers": "Answers of the bus",
    "build": "Build of the handlers",
    "effects": "Effects",
}
SHARES: Final = frozenset({"match", "coverage", "errors", "unknown"})
_TIMES: Final = frozenset({"p50", "p99"})
_SPANS: Final = frozenset({"hold", "replay"})

STATES: Final[dict[State, tuple[str, str]]] = {
    "met": ("✓", "met"),
    "missing": ("…", "not enough yet"),
    "unmet": ("?", "not proven yet"),
    "violated": ("✕", "broken"),
}
"""A sign and a word for each state of a finding; the sign alone would be colour for many."""

_WORST_FIRST: Final = ("violated", "unmet", "missing", "met")


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """``word`` fits a badge, ``sentence`` a heading, ``why`` is what keeps it, empty when nothing does."""

    tone: Tone
    word: str
    sentence: str
    why: str = ""


def answer(view: SeamView) -> Answer:
    """Whether this seam may go on."""
    if view.live is None or view.ruling is None:
        return Answer(tone="rest", word="Not declared", sentence=f"No process has declared {view.progress.seam}")
    return _stopped(view) or _judged(view, view.ruling)


def _stopped(view: SeamView) -> Answer | None:
    """Of a seam that nothing moves, whatever its gate says."""
    seam, progress = view.progress.seam, view.progress
    if progress.status == "paused":
        return Answer(tone="ask", word="Paused", sentence=f"{seam} is paused at {place(view)}", why=progress.reason)
    if progress.status == "rolled-back":
        sentence = f"{seam} was taken back to {place(view)}"
        return Answer(tone="stop", word="Rolled back", sentence=sentence, why=progress.reason)
    if progress.status == "retired":
        return Answer(tone="rest", word="Retired", sentence=f"{seam} is retired")
    return None


def _judged(view: SeamView, ruling: Ruling) -> Answer:
    seam, where, following = view.progress.seam, place(view), next_step(view)
    if ruling.kind == "rollback":
        why = reasons(finding for finding in ruling.findings if finding.state == "violated")
        return Answer(tone="stop", word="Goes back", sentence=f"{seam} must go back from {where}", why=why)
    if following is None:
        return Answer(tone="go", word="Arrived", sentence=f"{seam} is at {where}, the last step of its playbook")
    if view.progress.step < 0 or ruling.kind == "allow":
        return _open(view, following)
    why = reasons(worst_first(finding for finding in ruling.findings if finding.state != "met"))
    return Answer(tone="hold", word="Holds", sentence=f"{seam} may not go on to {following} yet", why=why)


def _open(view: SeamView, following: str) -> Answer:
    """Of a seam whose gate is met: all that may still be missing is somebody's word."""
    seam, at = view.progress.seam, view.progress.step + 1
    step = view.applied.playbook.steps[at]
    if step.approve and at not in view.progress.approved:
        why = f"{step.approve} must approve {following}"
        sentence = f"{seam} may go on to {following} once approved"
        return Answer(tone="ask", word="Needs approval", sentence=sentence, why=why)
    return Answer(tone="go", word="May go on", sentence=f"{seam} may go on to {following}")


def leaving(found: Retirement) -> Answer:
    """Whether the legacy code of a seam may go."""
    why = "; ".join(found.holds)
    if found.holds:
        return Answer(
            tone="hold", word="Too early", sentence=f"The legacy code of {found.seam} may not go yet", why=why
        )
    tone, word, sentence = _LEAVING[found.next]
    return Answer(tone=tone, word=word, sentence=sentence.format(seam=found.seam))


_LEAVING: Final[dict[Step, tuple[Tone, str, str]]] = {
    "too-early": ("hold", "Too early", "The legacy code of {seam} may not go yet"),
    "retire": ("go", "May retire", "Nobody needs the legacy code of {seam}: it may be retired"),
    "acknowledge": (
        "ask",
        "Needs a person",
        "{seam} is retired and was not missed: somebody must say that its code goes",
    ),
    "delete": ("rest", "Acknowledged", "The legacy code of {seam} can be deleted"),
}


def place(view: SeamView) -> str:
    """The stage, at canary with its share."""
    if view.live is None:
        return numbers.NOTHING
    share = f" {view.live.percent:g}%" if view.live.stage == "canary" else ""
    return f"{view.live.stage}{share}"


def next_step(view: SeamView) -> str | None:
    """What comes next on its playbook."""
    steps = view.applied.playbook.steps
    return str(steps[view.progress.step + 1]) if view.progress.step + 1 < len(steps) else None


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """What matters most at the top."""
    return sorted(findings, key=lambda finding: _WORST_FIRST.index(finding.state))


def reasons(findings: Iterable[Finding]) -> str:
    """Findings as one line."""
    return "; ".join(map(brief, findings))


def brief(finding: Finding) -> str:
    """One finding in a few words."""
    name = METRICS.get(finding.metric, finding.metric)
    if finding.seen is None:
        return finding.text
    return f"{name} {shown(finding.metric, finding.seen)}{between(finding, ' (', ')')}, wanted {wanted(finding)}"


def wanted(finding: Finding) -> str:
    """What the gate asks of a number."""
    sign = finding.wanted.split(" ", 1)[0]
    if finding.limit is None or sign not in _SIGNS:
        return finding.wanted
    legacy = " (by legacy)" if "legacy" in finding.wanted else ""
    share = f"{100 * finding.limit:.4g}{numbers.SPACE}%"  # as the playbook has it, not as a measurement
    limit = share if finding.metric in SHARES and not legacy else shown(finding.metric, finding.limit)
    return f"{_SIGNS[sign]} {limit}{legacy}"


_SIGNS: Final = {">=": "at least", ">": "above", "<=": "at most", "<": "below"}


def between(finding: Finding, before: str = "", after: str = "") -> str:
    """The bounds, where there are any that say something."""
    if finding.low is None or finding.high is None or finding.low == finding.high:
        return ""
    low = shown(finding.metric, finding.low)
    if finding.high == inf:
        return f"{before}{low} or more{after}"
    return f"{before}{low} to {shown(finding.metric, finding.high)}{after}"


def shown(metric: str, value: float | None) -> str:
    """A number of this metric with its unit."""
    if metric in SHARES:
        return numbers.percent(value)
    if metric in _TIMES:
        return numbers.seconds(value)
    if metric in _SPANS:
        return numbers.span(value)
    return numbers.count(value)
