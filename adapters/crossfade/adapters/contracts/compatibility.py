"""What breaks for the other side between two versions of an AsyncAPI document.

Rules
- What an app receives, the new version must accept as the old one did: callers are deployed later.
- What an app sends must fit what the old version promised: readers are deployed later.
- A member that nobody reads or writes any more is a break, though its JSON stays valid.
- Readers ignore members they do not know, so a new one that may be absent is none.
- A keyword that cannot be judged, and differs, is ``unclear``, never compatible.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, TypeGuard

from crossfade.shim.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Severity = Literal["breaking", "unclear", "compatible"]
Schema: TypeAlias = "Mapping[str, Any]"

_MOST: Final = 64  # references in a row
_ANNOTATIONS: Final = frozenset(
    {"title", "description", "default", "examples", "example", "deprecated", "$comment", "readOnly", "writeOnly"}
    | {"externalDocs", "x-parser-schema-id", "discriminator"}
)
_JUDGED: Final = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "additionalItems"}
    | {"allOf", "anyOf", "oneOf", "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"}
    | {"maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "definitions", "$defs"}
)
_LOWER: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One difference: ``where`` is an operation, a message, and a path in its payload."""

    severity: Severity
    where: str
    text: str


def compare(old: Schema, new: Schema) -> list[Change]:
    """Every difference that matters to the other side, what breaks first.

    Raises ``ConfigurationError`` for what is no AsyncAPI 3 document, and for a reference that leads nowhere.
    """
    before, after = _Document(old, "the old document"), _Document(new, "the new document")
    changes = [
        change
        for name in dict.fromkeys([*before.operations, *after.operations])
        for change in _operation(name, before, after)
    ]
    order: tuple[Severity, ...] = ("breaking", "unclear", "compatible")
    return sorted(changes, key=lambda change: (order.index(change.severity), change.where))


class _Document:
    """One side, its references followed."""

    def __init__(self, raw: Schema, name: str) -> None:
        if not str(raw.get("asyncapi", "")).startswith("3."):
            raise ConfigurationError(f"{name} is no AsyncAPI 3 document: write one with `crossfade events spec`")
        self._raw = raw
        self._name = name
        self.operations: Schema = raw.get("operations") or {}

    def follow(self, value: Any) -> Any:
        """``value``, or what it refers to."""
        for _ in range(_MOST):
            if not _is_object(value) or "$ref" not in value:
                return value
            value = self._find(str(value["$ref"]))
        raise ConfigurationError(f"{self._name}: references go round in circles")

    def _find(self, reference: str) -> Any:
        found: Any = self._raw
        for part in reference.removeprefix("#/").split("/"):
            key = part.replace("~1", "/").replace("~0", "~")
            if not reference.startswith("#/") or not _is_object(found) or key not in found:
                raise ConfigurationError(f"{self._name}: {reference} leads nowhere in it")
            found = found[key]
        return found

    def channel(self, operation: Schema) -> Schema:
        found: Schema = self.follow(operation["channel"])
        return found

    def messages(self, operation: Schema) -> dict[str, Schema]:
        """The messages of an operation by name: all of its channel unless it names some."""
        channel = self.channel(operation)
        named = operation.get("messages")
        if named is None:
            return {name: self.follow(each) for name, each in channel.get("messages", {}).items()}
        return {one["$ref"].rpartition("/")[2]: self.follow(one) for one in named}


def _operation(name: str, before: _Document, after: _Document) -> Iterator[Change]:
    old, new = before.operations.get(name), after.operations.get(name)
    if old is None or new is None:
        yield _change(name, "is new") if old is None else _change(name, "is gone", "breaking")
        return
    if old["action"] != new["action"]:
        yield _change(name, f"was {old['action']}, is {new['action']}", "breaking")
        return
    was, now = before.channel(old).get("address"), after.channel(new).get("address")
    if was != now:
        yield _change(name, f"moved from {was} to {now}", "breaking")
    olds, news = before.messages(old), after.messages(new)
    for message in olds.keys() - news.keys():
        yield _change(f"{name} {message}", "is gone", "breaking")
    for message in news.keys() - olds.keys():
        yield _change(f"{name} {message}", "is new")
    for message in olds.keys() & news.keys():
        judge = _Judge(before, after, received=old["action"] == "receive")
        yield from judge.payloads(f"{name} {message}", olds[message], news[message])


def _change(where: str, text: str, severity: Severity = "compatible") -> Change:
    return Change(severity=severity, where=where, text=text)


@dataclass(frozen=True, slots=True)
class _Found:
    path: str
    text: str
    severity: Severity = "breaking"


class _Judge:
    """Whether all that ``narrow`` allows is allowed by ``wide``: of a command the new one, of an answer the old one."""

    def __init__(self, before: _Document, after: _Document, *, received: bool) -> None:
        self._received = received
        self._wide, self._narrow = (after, before) if received else (before, after)
        self._open: set[tuple[str, str]] = set()  # what is being judged, so that a type that holds itself ends

    def payloads(self, where: str, old: Schema, new: Schema) -> Iterator[Change]:
        wide, narrow = (new, old) if self._received else (old, new)
        for found in dict.fromkeys(self._fits(wide.get("payload", {}), narrow.get("payload", {}), "")):
            yield _change(f"{where}: {found.path or 'payload'}", found.text, found.severity)

    def _fits(self, wide: Any, narrow: Any, path: str) -> Iterator[_Found]:
        pair = (json.dumps(wide, sort_keys=True), json.dumps(narrow, sort_keys=True))
        if pair in self._open:
            return
        self._open.add(pair)
        try:
            wides = _alternatives(self._wide, wide)
            for each in _alternatives(self._narrow, narrow):
                tries = (list(self._one(one, each, path)) for one in wides)
                yield from min(tries, key=lambda found: (len(found), *(one.severity == "breaking" for one in found)))
        finally:
            self._open.discard(pair)

    def _one(self, wide: Schema, narrow: Schema, path: str) -> Iterator[_Found]:
        """One alternative against one."""
        allowed, given = _values(wide), _values(narrow)
        if allowed is not None:
            if given is None or any(value not in allowed for value in given):
                yield self._differs(path, _shown(given, narrow), _shown(allowed, wide))
                return
        elif (kinds := _mismatch(wide, narrow)) is not None:
            yield self._differs(path, *kinds)
            return
        yield from self._bounds(wide, narrow, path)
        yield from self._members(wide, narrow, path)
        yield from self._items(wide, narrow, path)
        for keyword in sorted((wide.keys() | narrow.keys()) - _ANNOTATIONS - _JUDGED):
            if wide.get(keyword) != narrow.get(keyword) and keyword in wide:
                yield _Found(path, f"its {keyword} changed, which cannot be judged here", "unclear")

    def _differs(self, path: str, narrow: str, wide: str) -> _Found:
        if self._received:
            return _Found(path, f"was {narrow}, which callers may still send; accepted is only {wide}")
        return _Found(path, f"may be {narrow}, where readers expect {wide}")

    def _bounds(self, wide: Schema, narrow: Schema, path: str) -> Iterator[_Found]:
        for keyword in _LOWER:
            if keyword in wide and narrow.get(keyword, float("-inf")) < wide[keyword]:
                yield self._differs(path, f"{keyword} {narrow.get(keyword, 'none')}", f"{keyword} {wide[keyword]}")
        for keyword in _UPPER:
            if keyword in wide and narrow.get(keyword, float("inf")) > wide[keyword]:
                yield self._differs(path, f"{keyword} {narrow.get(keyword, 'none')}", f"{keyword} {wide[keyword]}")

    def _members(self, wide: Schema, narrow: Schema, path: str) -> Iterator[_Found]:
        wides, narrows = wide.get("properties", {}), narrow.get("properties", {})
        for name in sorted(set(wide.get("required", ())) - set(narrow.get("required", ()))):
            text = "is required, and callers may leave it out" if self._received else "is not always there any more"
            yield _Found(_at(path, name), text)
        for name in sorted(wides.keys() & narrows.keys()):
            yield from self._fits(wides[name], narrows[name], _at(path, name))
        closed = wide.get("additionalProperties") is False
        for name in sorted(narrows.keys() - wides.keys()):
            if _is_object(_rest(wide)):
                yield from self._fits(_rest(wide), narrows[name], _at(path, name))
            elif self._received or closed:
                yield _Found(_at(path, name), "is not read any more" if self._received else "is new, and refused")
        for name in sorted(wides.keys() - narrows.keys()):
            if _is_object(_rest(narrow)):
                yield from self._fits(wides[name], _rest(narrow), _at(path, name))
            elif not self._received and name not in wide.get("required", ()):
                yield _Found(_at(path, name), "is gone")
        yield from self._others(wide, narrow, path)

    def _others(self, wide: Schema, narrow: Schema, path: str) -> Iterator[_Found]:
        """Members without a name of their own, as a dictionary has them."""
        allowed = _rest(wide)
        if allowed is False and _rest(narrow) is not False:
            yield self._differs(path, "members of any name", "the named ones")
        elif _is_object(allowed):
            yield from self._fits(allowed, _rest(narrow), _at(path, "*"))

    def _items(self, wide: Schema, narrow: Schema, path: str) -> Iterator[_Found]:
        allowed, given = wide.get("items", {}), narrow.get("items", {})
        if not _is_list(allowed):
            for row in _rows(narrow):
                yield from self._fits(allowed, row, f"{path or 'payload'}[]")
        elif not _is_list(given) or len(given) != len(allowed):
            yield self._differs(path, "a list of another length", "a fixed list")
        else:
            for index, (one, other) in enumerate(zip(allowed, given, strict=True)):
                yield from self._fits(one, other, f"{path or 'payload'}[{index}]")


def _rows(schema: Schema) -> list[Any]:
    """What is said of a list's items, the same for all or one by one and then the rest."""
    given = schema.get("items", True)
    if not _is_list(given):
        return [given]
    rows = given
    return rows if schema.get("maxItems", float("inf")) <= len(rows) else [*rows, schema.get("additionalItems", True)]


def _is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def _is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _at(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _alternatives(document: _Document, schema: Any) -> list[Schema]:
    """The schemas of which a value must meet one, each without references and parts at its top."""
    followed = document.follow(schema)
    if followed is True or not followed:
        return [{}] if followed is not False else [_NOTHING]
    own = {key: value for key, value in followed.items() if key not in ("allOf", "anyOf", "oneOf")}
    found = _single_types(own)
    for part in followed.get("allOf", ()):
        found = [_both(one, other) for one in found for other in _alternatives(document, part)]
    for keyword in ("anyOf", "oneOf"):
        if keyword in followed:
            others = [other for part in followed[keyword] for other in _alternatives(document, part)]
            found = [_both(one, other) for one in found for other in others]
    return found


_NOTHING: Final[Schema] = {"enum": []}


def _both(one: Schema, other: Schema) -> Schema:
    """A schema met by what meets both."""
    types = {each["type"] for each in (one, other) if "type" in each}
    if len(types) > 1 and types != {"integer", "number"}:
        return _NOTHING
    joined: dict[str, Any] = {**one, **other, **({"type": "integer"} if len(types) > 1 else {})}
    for keyword in one.keys() & other.keys() - _JUDGED - _ANNOTATIONS:
        if one[keyword] != other[keyword]:
            joined[keyword] = [one[keyword], other[keyword]]  # equal to nothing it is held against: unclear
    for keyword in _LOWER + _UPPER:
        if keyword in one and keyword in other:
            joined[keyword] = (max if keyword in _LOWER else min)(one[keyword], other[keyword])
    mine, theirs = _values(one), _values(other)
    if mine is not None and theirs is not None:
        joined.pop("const", None)
        joined["enum"] = [value for value in mine if value in theirs]
    if "items" in one and "items" in other:
        joined["items"] = _both_items(one["items"], other["items"])
    return {**joined, **_both_members(one, other)}


def _both_members(one: Schema, other: Schema) -> Schema:
    """What is said of members where two schemas hold: of one that only the one names, also the other's rest."""
    sides = (one, other)
    names = [name for side in sides for name in side.get("properties", {})]
    found: dict[str, Any] = {}
    if names:
        found["properties"] = {
            name: _narrowed(*(side.get("properties", {}).get(name, _rest(side)) for side in sides)) for name in names
        }
    if any("additionalProperties" in side for side in sides):
        found["additionalProperties"] = _narrowed(*map(_rest, sides))
    if any("required" in side for side in sides):
        found["required"] = sorted({name for side in sides for name in side.get("required", ())})
    return found


def _rest(side: Schema) -> Any:
    return side.get("additionalProperties", True)


def _both_items(one: Any, other: Any) -> Any:
    if not _is_list(one) and not _is_list(other):
        return _narrowed(one, other)
    ones, others = (each if _is_list(each) else None for each in (one, other))
    length = len(ones if ones is not None else others or [])
    pairs = zip(ones or [one] * length, others or [other] * length, strict=False)
    return [_narrowed(mine, theirs) for mine, theirs in pairs]


def _narrowed(one: Any, other: Any) -> Any:
    """Both of two schemas as one; what says nothing but words is left out."""
    if one is False or other is False:
        return False
    said = [each for each in (one, other) if _is_object(each) and set(each) - _ANNOTATIONS]
    return {"allOf": said} if len(said) > 1 else said[0] if said else True


def _single_types(schema: Schema) -> list[Schema]:
    kinds = schema.get("type")
    return [{**schema, "type": kind} for kind in kinds] if _is_list(kinds) else [schema]


def _values(schema: Schema) -> list[Any] | None:
    """The only values it allows; ``None`` where it names none."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    kind = schema.get("type")
    return values if values is None or kind is None else [value for value in values if _is_a(value, kind)]


def _mismatch(wide: Schema, narrow: Schema) -> tuple[str, str] | None:
    """The types of both where they do not fit."""
    wanted, given = wide.get("type"), narrow.get("type")
    values = _values(narrow)
    if wanted is None or wanted == given or (wanted, given) == ("number", "integer"):
        return None
    if given is None and values and all(_is_a(value, wanted) for value in values):
        return None
    return _shown(values, narrow), str(wanted)


def _is_a(value: Any, kind: str) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        "string": (str,), "integer": (int,), "number": (int, float), "boolean": (bool,), "null": (type(None),),
        "object": (dict,), "array": (list,),
    }  # fmt: skip
    return isinstance(value, kinds.get(kind, ())) and (kind == "boolean" or not isinstance(value, bool))


def _shown(values: list[Any] | None, schema: Schema) -> str:
    if values is not None:
        return " or ".join(repr(value) for value in values) or "nothing"
    return str(schema.get("type", "any JSON"))
