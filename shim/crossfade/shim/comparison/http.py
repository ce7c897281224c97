"""Recorded HTTP answers as documents, so that rules reach into them by path.

    $.status                           the number
    $.headers.content-type             a field by its lower-case name; several of one name are joined by ", "
    $.body.hits[*].score               JSON: the value
    $.body                             text, XML, HTML: the text; no body: null, but "" where JSON was announced
    $.body.NAME[0]                     a form: each name's values in order; the names have none
    $.body.NAME[0].body                multipart: each name's parts, with filename, content-type and body
    $.body[2].data                     Server-Sent Events in order: event, data, id
    $.body.sha256  $.body.bytes        anything else: its hash and length

Headers compared are content-type (media type without case, white space and boundary) and location, and what a rule
names: ``"$.headers.x-cost" = "exact"``, or ``"$.headers.*"`` for all but those that differ by nature (date, server,
length, connection and the like). A body that was compressed by gzip or deflate is compared as what it was.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from dataclasses import replace
from math import isinf
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import parse_qsl

from .multipart import read_parts
from .paths import Wild
from .sse import read_events

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .multipart import Part
    from .observed import Outcome
    from .rules import Rules

CHOSEN: Final = ("content-type", "location")
"""Fields that are compared when no rule names any."""

BY_NATURE: Final = frozenset(
    {"date", "server", "age", "via", "content-length", "content-encoding", "etag", "vary", "set-cookie"}
    | {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""Fields that say more of a server than of its answer; compared only when a rule names them."""

_MOST_UNPACKED: Final = 8 * 1024 * 1024  # bytes; beyond, a compressed body is compared as it is
_TEXT: Final = ("text/", "application/xml", "application/javascript")
_MOST_FIELDS: Final = 10_000  # names of a form


def http_outcome(outcome: Outcome, rules: Rules) -> Outcome:
    """``outcome`` with its recorded answer as a document; any other outcome, and what is no answer, as it is."""
    value: Any = outcome.value
    if outcome.kind != "value" or not isinstance(value, dict) or "status" not in value:
        return outcome
    return replace(outcome, value=document(cast("Mapping[str, Any]", value), rules))


def document(answer: Mapping[str, Any], rules: Rules) -> dict[str, Any]:
    """A recorded answer (``status``, ``headers``, and ``text`` or ``body`` in base64) as the page above shows it."""
    fields = _fields(answer.get("headers"))
    shown = {name: _joined(values) for name, values in fields.items() if _is_chosen(name, rules)}
    if isinstance(shown.get("content-type"), str):
        shown["content-type"] = _media_type(shown["content-type"])
    return {"status": answer["status"], "headers": shown, "body": _body(answer, fields)}


def _fields(headers: object) -> dict[str, list[Any]]:
    """Values by lower-case name; what is no field is passed over, as a server could not have sent it."""
    fields: dict[str, list[Any]] = {}
    for pair in cast("Sequence[Any]", headers) if isinstance(headers, list) else ():
        if isinstance(pair, list) and len(found := cast("Sequence[Any]", pair)) == 2 and isinstance(found[0], str):
            fields.setdefault(found[0].lower(), []).append(found[1])
    return fields


def _joined(values: list[Any]) -> Any:
    """RFC 9110 5.3: fields of one name are one list. A redacted value stays one of its own."""
    if all(isinstance(value, str) for value in values):
        return ", ".join(values)
    return values[0] if len(values) == 1 else values


def _is_chosen(name: str, rules: Rules) -> bool:
    if name in CHOSEN:
        return True
    paths = [rule.place.segments for rule in rules.rules if rule.place.root == "$"]
    fields = [path[1] for path in paths if len(path) >= 2 and path[0] == "headers"]
    if name in {field.lower() for field in fields if isinstance(field, str)}:
        return True
    return name not in BY_NATURE and Wild.NAME in fields


def _media_type(said: str) -> str:
    kind, *parameters = (part.strip().lower() for part in said.split(";"))
    return "; ".join([kind, *sorted(each for each in parameters if each and not each.startswith("boundary="))])


# -- bodies ------------------------------------------------------------------------------------------------------------


def _body(answer: Mapping[str, Any], fields: Mapping[str, list[Any]]) -> Any:
    said = fields.get("content-type", [""])[0]
    text: Any = answer.get("text", "")
    if not isinstance(text, str):
        return text  # redacted as a whole
    if text:
        return _read(text.encode("utf-8", "surrogatepass"), str(said), text=text)
    data = _decoded(answer.get("body", ""))
    if not data:
        return "" if _is_json(str(said)) else None  # not what the JSON text null is
    coding = fields.get("content-encoding", [""])[0]
    unpacked = _unpacked(data, str(coding).strip().lower()) if coding else data
    return _hashed(data) if unpacked is None else _read(unpacked, str(said))


def _decoded(body: object) -> bytes:
    if not isinstance(body, str):
        return b""
    try:
        return base64.b64decode(body, altchars=b"-_", validate=True)
    except ValueError:  # no record of ours: what differs in it differs all the same
        return body.encode("utf-8", "surrogatepass")


def _unpacked(data: bytes, coding: str) -> bytes | None:
    """What was compressed; ``None`` for another coding, a broken body, and one that would be too large."""
    if coding not in ("gzip", "x-gzip", "deflate"):
        return None
    try:
        reader = zlib.decompressobj(zlib.MAX_WBITS | 32)
        unpacked = reader.decompress(data, _MOST_UNPACKED)
    except zlib.error:
        return None
    return unpacked if reader.eof else None


def _read(data: bytes, said: str, *, text: str | None = None) -> Any:
    """A body by its media type; what is not as that says, as text, else by its hash."""
    kind = said.partition(";")[0].strip().lower()
    if kind.startswith("multipart/"):
        return _multipart(data, said)
    if text is None:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return _hashed(data)
    if _is_json(said):
        return _json(text)
    if kind == "text/event-stream":
        return read_events(text)
    if kind == "application/x-www-form-urlencoded":
        return _form(text)
    return text if kind.startswith(_TEXT) or kind.endswith("+xml") else _hashed(data)


def _is_json(said: str) -> bool:
    kind = said.partition(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def _json(text: str) -> Any:
    """The value; the text where readers would not agree on one: a name twice, a number that no float holds."""
    try:
        return json.loads(text, object_pairs_hook=_members, parse_float=_number)
    except (ValueError, RecursionError):
        return text


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice")
    return members


def _number(text: str) -> float:
    number = float(text)
    if isinf(number):
        raise ValueError("too large")
    return number


def _form(text: str) -> Any:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return text
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


def _multipart(data: bytes, said: str) -> Any:
    """Parts by name; those without one are called ``""``."""
    found = read_parts(data, said)
    if found is None:
        return _hashed(data)
    parts: dict[str, list[dict[str, Any]]] = {}
    for part in found:
        parts.setdefault(part.name, []).append(_part(part))
    return parts


def _part(part: Part) -> dict[str, Any]:
    nested = part.kind.lower().startswith("multipart/")
    body = _hashed(part.data) if nested else _read(part.data, part.kind)
    shown = {"content-type": _media_type(part.kind), "body": body}
    return shown if part.filename is None else {"filename": part.filename, **shown}


def _hashed(data: bytes) -> dict[str, Any]:
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
