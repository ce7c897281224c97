"""A YAML file read against its shape: plain values, the place of each, and all mistakes at once as file:line:column."""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, cast

from crossfade.shim.errors import ConfigurationError, MissingExtraError

from .shapes import Choice, Flag, ListOf, MapOf, Number, Section, Shape, Text, describe

if TYPE_CHECKING:
    from collections.abc import Iterator

    import yaml

Keys: TypeAlias = tuple[str | int, ...]
"""The way to a value: ``("routes", 0, "match")``."""


class Mark(Protocol):
    """Where a node begins, counted from 0."""

    line: int
    column: int


class Node(Protocol):
    """What this module needs of a ``yaml.Node``; ``id`` is ``scalar``, ``sequence`` or ``mapping``."""

    id: str
    tag: str
    value: Any
    start_mark: Mark


MOST_SHOWN: Final = 20  # mistakes; a file with more has one cause
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, kw_only=True, slots=True, order=True)
class Mistake:
    """One mistake and where it is, counted from 1."""

    line: int
    column: int
    message: str


class FileError(ConfigurationError):
    """A settings file is wrong; ``mistakes`` are in the order of the file, and the text shows one a line."""

    def __init__(self, file: str, mistakes: list[Mistake]) -> None:
        self.file = file
        self.mistakes = tuple(sorted(set(mistakes)))
        lines = [f"{file}:{one.line}:{one.column}: {one.message}" for one in self.mistakes[:MOST_SHOWN]]
        more = len(self.mistakes) - MOST_SHOWN
        super().__init__("\n".join(lines + ([f"... and {more} more"] if more > 0 else [])))
        self.where = f"{file}:{self.mistakes[0].line}:{self.mistakes[0].column}"


@dataclass(slots=True)
class Document:
    """What a file holds: ``values`` in the shape's form, ``None`` where a mistake was found."""

    file: str
    values: Any = None
    mistakes: list[Mistake] = field(default_factory=list[Mistake])
    _places: dict[Keys, tuple[int, int]] = field(default_factory=dict[Keys, tuple[int, int]])

    def mistake(self, keys: Keys, message: str) -> None:
        """Report a value that looks right and is wrong; the place is the value's, else that of what holds it."""
        line, column = self.place(keys)
        self.mistakes.append(Mistake(line=line, column=column, message=message))

    def place(self, keys: Keys) -> tuple[int, int]:
        """Line and column, counted from 1."""
        while keys and keys not in self._places:
            keys = keys[:-1]
        return self._places.get(keys, (1, 1))

    def check(self) -> None:
        """Raise ``FileError`` when there was any mistake."""
        if self.mistakes:
            raise FileError(self.file, self.mistakes)

    def read(self, node: Node, shape: Shape, keys: Keys = ()) -> Any:
        """The value of ``node``, or ``None`` after a mistake; the places of all it holds are kept."""
        self._places[keys] = _place(node)
        if isinstance(shape, Section):
            return self._section(node, shape, keys)
        if isinstance(shape, MapOf):
            if node.id != "mapping":
                return self._wrong(node, shape, keys)
            return {name: self.read(value, shape.item, (*keys, name)) for name, value in self._pairs(node, keys)}
        if isinstance(shape, ListOf):
            if node.id != "sequence":
                return self._wrong(node, shape, keys)
            return [self.read(item, shape.item, (*keys, at)) for at, item in enumerate(node.value)]
        value = _scalar(node, shape) if node.id == "scalar" else None
        return self._wrong(node, shape, keys) if value is None else value

    def _section(self, node: Node, shape: Section, keys: Keys) -> Any:
        if shape.short and node.id == "scalar":
            value = self.read(node, shape.keys[shape.short].shape, keys)
            return None if value is None else {shape.short: value}
        if node.id != "mapping":
            return self._wrong(node, shape, keys)
        values = dict[str, Any]()
        for name, value in self._pairs(node, keys):
            if name in shape.keys:
                values[name] = self.read(value, shape.keys[name].shape, (*keys, name))
            else:
                self.mistake((*keys, name), _unknown(name, list(shape.keys)))
        for name, key in shape.keys.items():
            if key.required and name not in values:
                self.mistake(keys, f"`{name}` is missing: {key.what[0].lower()}{key.what[1:]}")
        return values

    def _pairs(self, node: Node, keys: Keys) -> Iterator[tuple[str, Node]]:
        """The pairs of a mapping; a key that is no text or there twice is a mistake."""
        seen = dict[str, int]()
        for key, value in node.value:
            if key.id != "scalar":
                self.mistake(keys, "a key must be a word")
                continue
            name = key.value
            self._places[*keys, name] = _place(key)
            if name in seen:
                self.mistake((*keys, name), f"`{name}` is here twice, first in line {seen[name]}: keep one")
                continue
            seen[name] = key.start_mark.line + 1
            yield name, value

    def _wrong(self, node: Node, shape: Shape, keys: Keys) -> None:
        is_ = f"{node.value!r}" if node.id == "scalar" and node.value else "an empty value"
        if node.id != "scalar":
            is_ = f"a {'list' if node.id == 'sequence' else 'mapping'}"
        name = next((f"`{key}`" for key in reversed(keys) if isinstance(key, str)), "the file")
        self.mistake(keys, f"{name} must be {describe(shape)}, not {is_}")


def read_document(file: str, shape: Section, *, text: bytes | None = None) -> Document:
    """Read ``file`` (or ``text`` in its name) against ``shape``; mistakes of shape are in the document, not raised.

    Raises ``FileError`` for what is no YAML, ``ConfigurationError`` for a file that cannot be read, and
    ``MissingExtraError`` without pyyaml.
    """
    document = Document(file)
    node = _compose(document, _bytes(file) if text is None else text)
    if node is None:
        document.mistake((), f"the file is empty: it must be {describe(shape)}")
    else:
        document.values = document.read(node, shape)
    return document


def _bytes(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except FileNotFoundError:
        raise ConfigurationError("there is no such file", where=file) from None
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror or error}", where=file) from error


def _compose(document: Document, data: bytes) -> Node | None:
    try:
        import yaml  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("proxy", needed_for=f"reading {document.file}") from error
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where there is one: 10 times faster
    try:
        node = yaml.compose(data.decode("utf-8-sig"), Loader=loader)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FileError(document.file, [Mistake(line=line, column=1, message="this line is not UTF-8")]) from error
    except yaml.MarkedYAMLError as error:
        raise FileError(document.file, [_syntax(error)]) from error
    except (yaml.YAMLError, RecursionError) as error:
        message = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise FileError(document.file, [Mistake(line=1, column=1, message=message.replace("\n", " "))]) from error
    return cast("Node | None", node)


def _syntax(error: yaml.MarkedYAMLError) -> Mistake:
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
    what = ", ".join(part for part in (error.problem, error.context) if part)
    return Mistake(line=line, column=column, message=f"this is no YAML: {what}{_remedy(what)}")


def _remedy(what: str) -> str:
    """What most often was meant where libyaml says this."""
    if "cannot start any token" in what:
        return "; indent with spaces, not tabs, and put what begins with @, ` or % in quotes"
    if "flow mapping" in what or "flow sequence" in what:
        return (
            "; inside {...} or [...] put a value with braces in quotes, like 'GET /users/{id}', and close what is open"
        )
    if "block mapping" in what or "block collection" in what:
        return "; keys of one mapping, and items of one list, begin in the same column"
    return ""


def _place(node: Node) -> tuple[int, int]:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _scalar(node: Node, shape: Text | Number | Flag | Choice) -> Any:
    """The value, or ``None`` when it is none of this shape. Text is what was typed: ``1.10`` and ``no`` stay so."""
    kind = node.tag.removeprefix(_TAG)
    match shape:
        case Text():
            return node.value if node.value and node.value.isprintable() and kind != "null" else None
        case Choice():
            return node.value if node.value in shape.options else None
        case Flag():
            return node.value.lower() == "true" if kind == "bool" and node.value.lower() in ("true", "false") else None
        case Number():
            return _number(node.value, shape) if kind in ("int", "float") else None


def _number(text: str, shape: Number) -> float | None:
    try:
        value = int(text) if shape.whole else float(text)
    except ValueError:  # 1.5 where a whole number belongs; 0x10 and 1:30, which YAML also counts as numbers
        return None
    return value if shape.least <= value <= shape.most else None


def _unknown(name: str, known: list[str]) -> str:
    meant = get_close_matches(name, known, 1)
    hint = f"did you mean `{meant[0]}`?" if meant else f"known here: {', '.join(known)}"
    return f"unknown key `{name}`; {hint}"
