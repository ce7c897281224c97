"""The one comparison of crossfade: outcomes in, a verdict out; pure, bounded, standard library only."""

from __future__ import annotations

from .budget import Budget
from .http import http_outcome
from .kernel import Comparator, compare
from .matchers import MATCHERS, MISSING, WELL_FORMED, Judgement, Matcher, MatcherFactory
from .observed import Outcome
from .rules import Rule, Rules
from .samples import Samples
from .streams import compare_streams
from .verdict import Difference, DifferenceKind, Verdict, VerdictKind

__all__ = [
    "MATCHERS",
    "MISSING",
    "WELL_FORMED",
    "Budget",
    "Comparator",
    "Difference",
    "DifferenceKind",
    "Judgement",
    "Matcher",
    "MatcherFactory",
    "Outcome",
    "Rule",
    "Rules",
    "Samples",
    "Verdict",
    "VerdictKind",
    "compare",
    "compare_streams",
    "http_outcome",
]
