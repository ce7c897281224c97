"""How the desk reads English: which words of a question matter, what a word's stem is, where a sentence ends.

Questions about a language have a trap: ``with``, ``is`` and ``for`` are noise in English and subjects in Python.
``Query.keywords`` holds the ones that were meant as Python, ``Query.symbols`` operators such as ``==``.
"""

import re
from dataclasses import dataclass
from keyword import kwlist, softkwlist

_STOP_WORDS_TEXT = """
a about all also an and any are as at be been best between both but by can could cause compare dear did do does done
difference different differences differ each else every explain for from get gets getting give given good had has
have having help how i if in instead into is it its just kind know let like make makes many may me mean means
meaning might more most much must my need no not of on one only or other our out over own please possible proper
several properly python pythonic s same see should show so some something such t tell than that the two their them
then there these they thing things this those through to too turn under up us use used useful uses using versus very
vs want was way we were what when where whether which while who whose why will with within without work works would
you your
"""
STOP_WORDS = frozenset(_STOP_WORDS_TEXT.split())

# What people type -> what the documentation says. Both sides are searched, the documentation's word counts less.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "array": ("list", "sequence"),
    "cache": ("memoize", "lru"),
    "catch": ("except", "handler"),
    "command": ("subprocess", "process"),
    "concatenate": ("join",),
    "count": ("counter",),
    "current": ("now",),
    "date": ("datetime",),
    "delete": ("remove", "del"),
    "deserialize": ("load",),
    "dict": ("dictionary", "mapping"),
    "dictionary": ("dict", "mapping"),
    "directory": ("folder", "listdir"),
    "download": ("urlopen",),
    "duplicate": ("unique", "set"),
    "email": ("smtp", "mail", "message"),
    "environment": ("environ", "getenv"),
    "exception": ("error",),
    "folder": ("directory", "dir"),
    "immutable": ("frozen",),
    "integer": ("int",),
    "iterate": ("loop", "iterable", "zip"),
    "lowercase": ("lower",),
    "measure": ("timeit", "elapsed"),
    "memoize": ("cache",),
    "merge": ("update",),
    "parallel": ("concurrently",),
    "parse": ("deserialize", "decode", "load"),
    "number": ("integer",),
    "once": ("concurrently",),
    "regex": ("regular", "re"),
    "serialize": ("dump",),
    "string": ("str",),
    "url": ("urlopen",),
    "test": ("unittest", "testcase"),
    "uppercase": ("upper",),
    "wait": ("sleep",),
    "walrus": ("assignment", "named"),
}

_PYTHON_WORDS = frozenset(word for word in (*kwlist, *softkwlist) if word.isalpha())
_NOUN_AFTER_KEYWORD = re.compile(
    r"\b([a-z]+)\s+(?:statement|keyword|operator|loop|clause|block|expression|function)s?\b", re.IGNORECASE
)
_COMPARED = re.compile(r"\bbetween\s+(\S+)\s+and\s+(\S+)|(\S+)\s+(?:vs\.?|versus|or)\s+(\S+)", re.IGNORECASE)
_QUOTED = re.compile(r"[`'\"]([A-Za-z]+)[`'\"]")
_SYMBOL = re.compile(r"(?<!\S)[`'\"]?([-+*/%@<>=!&|^~:]{1,3})[`'\"]?(?=[\s?.,]|$)")
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True, kw_only=True)
class Query:
    """A question reduced to what can be looked up."""

    terms: tuple[str, ...]
    keywords: tuple[str, ...]
    symbols: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to look up."""
        return not (self.terms or self.keywords or self.symbols)


def read_question(question: str) -> Query:
    """The words of ``question`` that matter, each once, in the order asked, at most 24 of them."""
    keywords = _keywords(question)
    words = dict.fromkeys(word.lower() for word in _WORD.findall(question))
    terms = [word for word in words if word not in STOP_WORDS and word not in keywords]
    if not terms and not keywords:  # "what is it for?": better to look up noise than nothing
        terms = [word for word in words if len(word) > 1]
    symbols = dict.fromkeys(_SYMBOL.findall(question))
    return Query(terms=tuple(terms[:24]), keywords=tuple(keywords[:8]), symbols=tuple(symbols)[:8])


def _keywords(question: str) -> list[str]:
    meant = _NOUN_AFTER_KEYWORD.findall(question) + _QUOTED.findall(question)
    meant += [side for pair in _COMPARED.findall(question) for side in pair]
    meant += [word for word in _WORD.findall(question) if word.lower() not in STOP_WORDS]
    spelled = (word.strip("`'\"?.,").lower() for word in meant)
    return [word for word in dict.fromkeys(spelled) if word in _PYTHON_WORDS]


def keyword_token(keyword: str) -> str:
    """The word under which the index files passages about a Python keyword."""
    return f"kw{keyword.lower()}"


def symbol_token(symbol: str) -> str:
    """The word under which the index files passages about an operator."""
    return "sym" + symbol.encode().hex()


def stem(word: str) -> str:
    """``word`` without its inflection, good enough to see that *copies* and *copying* are about *copy*."""
    word = word.lower()
    for suffix, replacement in (("ies", "y"), ("ied", "y"), ("ing", ""), ("ed", ""), ("s", "")):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3 and not word.endswith("ss"):
            word = word[: -len(suffix)] + replacement
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "ls":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def stems(text: str) -> list[str]:
    """The stem of every word in ``text``; ``lru_cache`` and ``os.path`` are two words each."""
    return [stem(word) for word in _WORD.findall(text)]


_SENTENCE_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<=[.!?])[\"”)]?\s+(?=[A-Z\"“(`'*_0-9])")
_LIST_ITEM = re.compile(r"^\s*(?:[-*•]|\d+\.|\(\d+\)|[a-z]\))\s+", re.MULTILINE)
_NOT_PROSE = re.compile(r"^\s*(?:>>>|\.\.\.(?:\s|$)|[|+]|[=*~^_-]{3,})|::=", re.MULTILINE)


def is_code(block: str) -> bool:
    """Whether a paragraph is an example, a table or a piece of grammar and not English."""
    lines = block.splitlines()
    return bool(_NOT_PROSE.search(block)) or all(line.startswith(("    ", "\t", "   ")) for line in lines)


def paragraphs(text: str) -> list[str]:
    """``text`` split at empty lines."""
    return [block.strip("\n") for block in re.split(r"\n\s*\n", text) if block.strip()]


def sentences(text: str) -> list[str]:
    """The English sentences of ``text`` in reading order, each on one line, without its list mark."""
    found: list[str] = []
    for block in paragraphs(text):
        if is_code(block):
            continue
        for item in _LIST_ITEM.split(block):
            found += _SENTENCE_END.split(" ".join(item.split()))
    return [sentence for sentence in found if sentence]
