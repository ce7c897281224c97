"""Reads the documentation that every Python carries with it: language topics and the docstrings of its library.

The order of passages and every character of them depend only on the Python that is installed, not on the process,
so two desks on one machine build the same index and give the same answers.
"""

import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pydoc import Helper
from pydoc_data.topics import topics as TOPICS  # noqa: N812 - it is a constant
from types import ModuleType
from typing import Any

from desk.words import keyword_token, paragraphs, symbol_token

_MODULES_TEXT = """
builtins abc argparse array ast asyncio atexit base64 bisect calendar cmath cmd codecs collections collections.abc
colorsys concurrent.futures configparser contextlib contextvars copy csv dataclasses datetime decimal difflib dis
doctest email email.message email.utils enum errno fileinput filecmp fnmatch fractions functools gc getpass gettext
glob graphlib gzip hashlib heapq hmac html html.parser http http.client http.cookies http.server importlib
importlib.metadata importlib.resources inspect io ipaddress itertools json keyword linecache locale logging
logging.config logging.handlers lzma mailbox marshal math mimetypes mmap multiprocessing numbers operator os os.path
pathlib pickle pkgutil platform plistlib pprint queue random re reprlib runpy sched secrets select selectors shelve
shlex shutil signal smtplib socket socketserver sqlite3 ssl stat statistics string struct subprocess sys sysconfig
tarfile tempfile textwrap threading time timeit token tokenize tomllib traceback tracemalloc types typing
unicodedata unittest unittest.mock urllib.error urllib.parse urllib.request uuid venv warnings wave weakref
webbrowser xml.dom.minidom xml.etree.ElementTree zipfile zlib zoneinfo
"""
MODULES = tuple(_MODULES_TEXT.split())

CHUNK = 1600
"""Characters after which a long text goes on in a new passage; paragraphs stay whole."""

_HEADING = re.compile(r"^(?P<title>\S[^\n]*)\n(?P<line>[*=~\-^]{3,})\n", re.MULTILINE)
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")
_LITERAL = re.compile(r'"([-+*/%@<>=!&|^~]{1,3})"')
_DEFINITION = re.compile(r"(?:(?:coroutine|class|classmethod|static) )?(?P<name>[a-z]\w*(?:\.\w+)+)\(")
_OPERATOR_TOPICS = frozenset(
    {
        "augassign",
        "binary",
        "bitwise",
        "booleans",
        "comparisons",
        "operator-summary",
        "power",
        "shifting",
        "unary",
    }
)
# Words that people look for and that the topic's own heading does not say.
_CONCEPTS = {
    "binary": "modulo floor division remainder",
    "class": "inheritance decorator",
    "comparisons": "equality identity equal",
    "context-managers": "context manager",
    "formatstrings": "decimals round padding",
    "function": "decorator default argument parameter",
    "lists": "comprehension",
    "naming": "scope",
    "slicings": "slice",
    "strings": "f-string raw escape",
    "try": "catch handler",
    "typesfunctions": "method",
    "yield": "generator",
}
# Deprecated for many years, and their docstrings do not say so.
_OBSOLETE = {"FancyURLopener", "URLopener"}
_PLAIN_DEFAULTS = (bool, int, float, str, bytes, tuple, type(None))


@dataclass(frozen=True, kw_only=True)
class Document:
    """One passage as it goes into the index.

    ``keywords`` are words to find it by that the text does not show, ``part`` counts the passages of one title from 1.
    """

    passage_id: str
    title: str
    kind: str
    keywords: str
    text: str
    part: int


@dataclass(frozen=True, kw_only=True)
class Harvest:
    """All passages, and the modules that this Python does not have."""

    documents: list[Document]
    missing: list[str]


def harvest() -> Harvest:
    """Every topic and docstring; an object that several modules export is filed under the first of them."""
    documents: list[Document] = []
    missing: list[str] = []
    chunks: set[str] = set()
    for name in sorted(
        TOPICS, key=lambda name: (len(TOPICS[name]), name)
    ):  # what two topics share stays with the narrower
        documents += _topic(name, TOPICS[name], chunks)
    seen: set[int] = set()
    for name in MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            missing.append(name)
            continue
        documents += _module(name, module, seen)
    return Harvest(documents=documents, missing=missing)


# -- the language reference --------------------------------------------------------------------------------------


def _topic(name: str, text: str, seen: set[str]) -> Iterator[Document]:
    subjects = [word for word in Helper.keywords if name in _topics_of(word)]
    labels = " ".join(label for label in Helper.topics if name in _topics_of(label)).lower()
    number = 0
    main = ""
    for heading, body in _sections(text):
        main = main or heading
        for part, (defined, chunk) in enumerate(_definitions(body), start=1):
            if chunk in seen:
                continue
            seen.add(chunk)
            number += 1
            keys = [name, labels] if number == 1 else []
            keys += [keyword_token(word) for word in subjects if number == 1 or f'"{word}"' in chunk]
            keys += [word for word in _CONCEPTS.get(name, "").split() if number == 1 or word in chunk]
            if name in _OPERATOR_TOPICS:
                keys += [symbol_token(symbol) for symbol in dict.fromkeys(_LITERAL.findall(chunk))]
            yield Document(
                passage_id=f"topic:{name}:{number}",
                title=defined or (heading if heading == main else f"{main}: {heading}"),
                kind="topic",
                keywords=" ".join(keys),
                text=chunk,
                part=1 if defined else part,
            )


def _definitions(body: str) -> Iterator[tuple[str, str]]:
    """The chunks of a section, each with the name it defines: ``object.__init__`` has a passage of its own."""
    held: list[str] = []
    name = ""
    for block in paragraphs(body):
        match = _DEFINITION.match(block)
        if match or (name and not block.startswith(" ")):
            yield from ((name, chunk) for chunk in _chunks(held))
            held, name = [], match["name"] if match else ""
        held.append(textwrap.dedent(block) if name and not match else block)
    yield from ((name, chunk) for chunk in _chunks(held))


def _topics_of(label: str) -> tuple[str, ...]:
    """The topics that ``help(label)`` shows, following pydoc's aliases (``elif`` -> ``if`` -> topic ``if``)."""
    target = Helper.topics.get(label) or Helper.keywords.get(label) or ""
    if isinstance(target, tuple):
        return (target[0],)
    return _topics_of(target) if target and target != label else ()


def _sections(text: str) -> Iterator[tuple[str, str]]:
    start, heading = 0, ""
    for match in _HEADING.finditer(text):
        if heading:  # a topic opens with its heading, so there is nothing before it
            yield heading, text[start : match.start()]
        start, heading = match.end(), match["title"].replace('"', "")
    yield heading, text[start:]


def _chunks(blocks: list[str]) -> Iterator[str]:
    held: list[str] = []
    size = 0
    for block in blocks:
        if held and size + len(block) > CHUNK:
            yield "\n\n".join(held)
            held, size = [], 0
        held.append(block)
        size += len(block)
    if held:
        yield "\n\n".join(held)


# -- the library's docstrings ------------------------------------------------------------------------------------


def _module(name: str, module: ModuleType, seen: set[int]) -> Iterator[Document]:
    prefix = "" if name == "builtins" else f"{name}."
    for number, chunk in enumerate(_chunks(paragraphs(_doc(module))), start=1):
        yield Document(
            passage_id=f"module:{name}:{number}",
            title=f"{name} module",
            kind="module",
            keywords="",
            text=chunk,
            part=number,
        )
    for attribute in sorted(set(_public(name, module)) - _OBSOLETE):
        value: Any = getattr(module, attribute, None)
        if id(value) in seen:
            continue
        seen.add(id(value))  # modules keep their values, so no other object can have this id meanwhile
        if inspect.isclass(value):
            yield from _class(f"{prefix}{attribute}", value)
        elif inspect.isroutine(value):
            yield from _entry(f"{prefix}{attribute}", "function", value)


def _public(name: str, module: ModuleType) -> list[str]:
    exported = getattr(module, "__all__", None)
    if exported is not None:
        return [attribute for attribute in exported if not attribute.startswith("_")]
    owners = {name, f"_{name}", "posix", "nt", None}
    return [
        attribute
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and getattr(value, "__module__", None) in owners
    ]


def _class(title: str, cls: type[Any]) -> Iterator[Document]:
    yield from _entry(title, "exception" if issubclass(cls, BaseException) else "class", cls)
    for attribute in sorted(vars(cls)):
        value: Any = inspect.getattr_static(cls, attribute)
        if attribute.startswith("_") or not (inspect.isroutine(value) or isinstance(value, property)):
            continue
        plain: Any = getattr(value, "__func__", value)  # what a classmethod or staticmethod wraps
        yield from _entry(f"{title}.{attribute}", "property" if isinstance(value, property) else "method", plain)


def _entry(title: str, kind: str, value: object) -> Iterator[Document]:
    doc = _doc(value)
    if not doc:
        return
    signature = _signature(value)
    for number, chunk in enumerate(_chunks(paragraphs(doc)), start=1):
        head = f"{title}{signature}\n\n" if number == 1 else ""
        yield Document(
            passage_id=title if number == 1 else f"{title}:{number}",
            title=title,
            kind=kind,
            keywords=_spelled_out(title),
            text=_ADDRESS.sub("", head + chunk),
            part=number,
        )


def _doc(value: object) -> str:
    doc = getattr(value, "__doc__", None)
    return inspect.cleandoc(doc) if isinstance(doc, str) else ""


def _signature(value: object) -> str:
    """The call as written, ``""`` where Python does not know it; defaults that are objects are shown as ``...``."""
    try:
        signature = inspect.signature(value)  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError):  # AttributeError: select.epoll.register, CPython 3.13.0
        return ""
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty, default=_plain(parameter.default))
        for parameter in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty)).replace(
        "Ellipsis", "..."
    )


def _plain(default: Any) -> Any:
    is_plain = any(isinstance(default, each) for each in _PLAIN_DEFAULTS) or default is inspect.Parameter.empty
    return default if is_plain else ...


def _spelled_out(title: str) -> str:
    """``ThreadPoolExecutor`` -> ``thread pool executor``: the index does not look inside words."""
    return " ".join(re.findall(r"[A-Z]+(?![a-z])|[A-Z][a-z]+|[a-z]{2,}(?=[A-Z])", title)).lower()
