"""The one comparison of crossfade: outcomes in, a verdict out; pure, bounded, standard library only."""

from __future__ import annotations

from .budget import Budget
from .kernel import Comparator, compare
from .matchers import MATCHERS, MISSING, Judgement, Matcher, MatcherFactory
from .observed import Outcome
from .rules import Rule, Rules
from .verdict import Difference, DifferenceKind, Verdict, VerdictKind

__all__ = [
    "MATCHERS",
    "MISSING",
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
    "Verdict",
    "VerdictKind",
    "compare",
]
