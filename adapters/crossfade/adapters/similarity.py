"""A comparator of texts by their words, local and always of one mind: ``{matcher = "semantic", by = "similarity"}``.

It knows words and no meaning: a text in other words is another text to it, and one that says the opposite in nearly the
same words is nearly the same. Hence two things it does not forgive: other numbers, and a word of ``keep`` that one of
the texts lacks, like ``keep = ["not", "no", "never"]``.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, cast

from crossfade.shim.errors import ConfigurationError, MissingExtraError

try:
    from rapidfuzz import fuzz
except ImportError as error:
    raise MissingExtraError("similarity", needed_for="the comparator 'similarity'") from error

if TYPE_CHECKING:
    from collections.abc import Mapping

_words: Final = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_]+(?:['\N{RIGHT SINGLE QUOTATION MARK}][^\W\d_]+)*").findall


def score(old: str, new: str, options: Mapping[str, Any]) -> float:
    """How alike two texts are, 0 to 1, by their words in any order; case, white space and punctuation say nothing.

    The share of letters that stays, of the sorted words (normalised indel similarity, as ``rapidfuzz`` has it). 0 where
    numbers differ, or a word of ``options["keep"]`` stands in one text alone. Raises ``ConfigurationError`` for other
    options.
    """
    keep = _keep(options)
    one, other = _words(old.casefold()), _words(new.casefold())
    if _fixed(one, keep) != _fixed(other, keep):
        return 0.0
    if not (one and other):
        return float(one == other and old.strip() == new.strip())
    return fuzz.ratio(" ".join(sorted(one)), " ".join(sorted(other))) / 100


def _keep(options: Mapping[str, Any]) -> frozenset[str]:
    for name in options.keys() - {"keep"}:
        raise ConfigurationError("the comparator 'similarity' takes keep, a list of words", where=name)
    words = options.get("keep", [])
    if not isinstance(words, list) or not all(isinstance(word, str) for word in cast("list[object]", words)):
        raise ConfigurationError(f"must be a list of words, not {words!r}", where="keep")
    return frozenset(word.casefold() for word in cast("list[str]", words))


def _fixed(words: list[str], keep: frozenset[str]) -> tuple[Counter[str], frozenset[str]]:
    """What must be the same in both."""
    return Counter(word for word in words if word[0].isdigit()), keep.intersection(words)
