"""Events as headers and bytes: the NATS, Kafka and HTTP bindings and the JSON format of CloudEvents 1.0.

Rules
- Written in binary mode, read in binary or structured mode; a batch is refused by name.
- An attribute travels as ``ce-<name>``, lower-case; space, ``"``, ``%`` and everything outside U+0021-7E is
  percent-encoded as UTF-8, and decoded exactly once. Names are compared without case when read. On Kafka it is
  ``ce_<name>``, and the value UTF-8 as it is.
- ``traceparent``, ``tracestate`` and ``baggage`` travel as plain headers, too, where tracing tools look for them.
- No data and empty data differ: ``Content-Type`` is written only when there is data, even an empty one.
- A body that is itself typed ``application/cloudevents...`` cannot be told from structured mode, so ``to_nats``
  and ``to_http`` refuse it (reason ``mode``): send ``to_structured(event)`` with ``STRUCTURED_HEADERS``.
- Read what a newer minor version writes: an unknown attribute is kept as it is, a header whose name is no
  attribute name is somebody else's, an unknown major version is refused (reason ``specversion``).

Bytes we cannot read give ``MalformedEventError``, whose ``reason`` is one of ``attributes, batch, data, depth,
duplicate, format, header, json, mode, percent, size, specversion, time, unicode``; no other exception.

Sources: CloudEvents 1.0.2 core, HTTP binding 3.1.3, NATS binding 3.1.3, Kafka binding 3.2, JSON format 3.1. Stdlib
only.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn
from urllib.parse import unquote_to_bytes

from .errors import MalformedEventError
from .events import EXTENSIONS, SPEC_VERSION, Event

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

STRUCTURED_TYPE: Final = "application/cloudevents+json"
STRUCTURED_HEADERS: Final[Mapping[str, str]] = {"Content-Type": STRUCTURED_TYPE}

_MAX_HEADERS: Final = 64 * 1024  # characters of all attributes together; a broker's own limit is far higher
_MAX_DEPTH: Final = 100  # nesting of structured JSON, so that no body is readable here and not there
_PLAIN_COPIES: Final = ("traceparent", "tracestate", "baggage")
_OTHER_HEADERS: Final = frozenset({"content-type", *_PLAIN_COPIES})
_DEFAULT_TYPE: Final = "application/json"
_HEADER_NAMES: Final = {name: f"ce-{name}" for name in EXTENSIONS}
_REQUIRED: Final = ("id", "source", "type")
_CORE: Final = frozenset({"specversion", *_REQUIRED, "subject", "time", "datacontenttype", "dataschema"})

# U+0021-7E without " and %: what needs no encoding.
_visible = re.compile(r"[!#$&-~]*\Z").match
_line = re.compile(r"[!-~](?:[ -~]*[!-~])?\Z").match
_attribute_name = re.compile(r"[a-z0-9]{1,20}\Z").match
_to_encode = re.compile(r"[^!#$&-~]").sub
_bad_percent = re.compile(r"%(?![0-9A-Fa-f]{2})").search
_ascii_line = re.compile(r"[ -~]*\Z").match
# CloudEvents' String type has no controls, no noncharacters, no lone surrogates.
_illegal = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
).search
_major_one = re.compile(r"1(?:\.[0-9]{1,9}){0,2}\Z").match
_rfc3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.([0-9]{1,30}))?"
    r"(?:[Zz]|([+-])([01][0-9]|2[0-3]):([0-5][0-9]))\Z"
).match
_json_type = re.compile(r"[^;]*[/+]json\s*(?:;|\Z)", re.IGNORECASE).match
_brackets = re.compile(r'"(?:[^"\\]++|\\.)*+"?|[\[{]|[\]}]', re.DOTALL).finditer
_blank = re.compile(r"[ \t\r\n]*").match


# -- NATS ------------------------------------------------------------------------------------------------------


def to_nats(event: Event) -> dict[str, str]:
    """The headers of ``event`` in binary mode; the body is ``event.data or b""``.

    Raises ``MalformedEventError``: ``mode`` (see the top), ``unicode`` (a text CloudEvents does not allow),
    ``attributes`` (a ``datacontenttype`` that fits in no header, an empty ``subject``), ``time``.
    """
    headers = _attributes(event)
    content_type, encoded = _content_type(event.datacontenttype)
    headers["ce-datacontenttype"] = encoded
    if event.data is not None:
        headers["Content-Type"] = content_type
    return headers


class Alike:
    """The headers of events that are alike but for id, time and some extensions, as lines: half of them written once.

    Raises as ``to_nats``.
    """

    def __init__(self, event: Event) -> None:
        headers = to_nats(replace(event, data=b""))
        del headers["ce-id"], headers["ce-time"]
        self._lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])

    def lines(self, event_id: str, extensions: Mapping[str, str]) -> str:
        """The headers of one that happened now: ``name: value`` and a line break each."""
        written = extensions
        if not _visible(event_id + "".join(extensions.values())):
            event_id = _encode(event_id)
            written = {name: _encode(value) for name, value in extensions.items()}
        own = [f"ce-{name}: {value}\r\n" for name, value in written.items()]
        copied = [name for name in _PLAIN_COPIES if name in extensions and _line(extensions[name])]
        own += [f"{name}: {extensions[name]}\r\n" for name in copied]
        return f"{self._lines}ce-id: {event_id}\r\nce-time: {_format_time(datetime.now(UTC))}\r\n{''.join(own)}"


def from_nats(headers: Mapping[str, str] | None, data: bytes) -> Event:
    """The event of a NATS message, in whichever mode it was sent. Raises ``MalformedEventError``."""
    given = _fold(headers or {})
    content_type = given.get("content-type")
    if content_type is not None and _is_cloudevents(content_type):
        return _structured(content_type, data)
    return _binary(given, given.get("ce-datacontenttype"), content_type, data)


# -- Kafka -----------------------------------------------------------------------------------------------------


def to_kafka(event: Event) -> list[tuple[str, bytes]]:
    """The headers of ``event`` in binary mode; the value is ``event.data or b""``, not null. Raises as ``to_nats``."""
    headers = _plain_attributes(event)
    content_type, _ = _content_type(event.datacontenttype)
    headers["ce_datacontenttype"] = content_type
    if not _visible("".join(headers.values())):
        for name, value in headers.items():
            _legal(name, value)
    written = [(name, value.encode()) for name, value in headers.items()]
    if event.data is not None:
        written.append(("content-type", content_type.encode()))
    extensions = event.extensions
    copied = [name for name in _PLAIN_COPIES if name in extensions and _line(extensions[name])]
    return written + [(name, extensions[name].encode()) for name in copied]


def from_kafka(headers: Iterable[tuple[str, bytes | None]], value: bytes) -> Event:
    """The event of a Kafka record, in whichever mode it was sent. Raises ``MalformedEventError``."""
    given = _texts(headers)
    content_type = given.get("content-type")
    if content_type is not None and _is_cloudevents(content_type):
        return _structured(content_type, value)
    attributes = {name[3:]: text for name, text in given.items() if name[:3] == "ce_"}
    for name in _PLAIN_COPIES:
        if name in given and name not in attributes:
            attributes[name] = given[name]
    data_type = attributes.get("datacontenttype", content_type)
    return _event(attributes, data_type, None if not value and content_type is None else value)


def shown_as_nats(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Kafka's headers as every bus shows those of a dead letter: ``ce-`` names, values that fit in a line of ASCII."""
    shown: dict[str, str] = {}
    for name, value in headers:
        if name == "content-type":
            shown["Content-Type"] = (value or b"").decode("utf-8", "replace")
        else:
            shown[f"ce-{name[3:]}" if name[:3] == "ce_" else name] = "".join(map(_shown_byte, value or b""))
    return shown


def _shown_byte(byte: int) -> str:
    return chr(byte) if _visible(chr(byte)) else f"%{byte:02X}"


# -- HTTP ------------------------------------------------------------------------------------------------------


def to_http(event: Event) -> dict[str, str]:
    """The lower-case headers of ``event`` in binary mode; the body is ``event.data or b""``. Raises as ``to_nats``."""
    headers = _attributes(event)
    content_type, encoded = _content_type(event.datacontenttype)
    if event.data is not None:
        headers["content-type"] = content_type
    elif content_type != _DEFAULT_TYPE:
        headers["ce-datacontenttype"] = encoded  # the binding has no place for the type of no data
    return headers


def from_http(headers: Mapping[str, str], body: bytes) -> Event:
    """The event of an HTTP request or response, in whichever mode. Raises ``MalformedEventError``."""
    given = _fold(headers)
    content_type = given.get("content-type")
    if content_type is None:
        return _binary(given, given.get("ce-datacontenttype"), None, body)
    if _is_cloudevents(content_type):
        return _structured(content_type, body)
    return _binary(given, None, content_type, body)


# -- JSON format -------------------------------------------------------------------------------------------------


def to_structured(event: Event) -> bytes:
    """``event`` as one JSON object: JSON data inside it byte for byte, any other data as ``data_base64``.

    Raises ``MalformedEventError`` (``unicode``, ``attributes``, ``time``).
    """
    envelope: dict[str, str] = {"specversion": SPEC_VERSION, "id": event.id, "source": event.source}
    envelope["type"] = event.type
    envelope["time"] = _format_time(event.time)
    envelope["datacontenttype"] = event.datacontenttype
    if event.subject is not None:
        envelope["subject"] = _not_empty("subject", event.subject)
    if event.dataschema is not None:
        envelope["dataschema"] = _not_empty("dataschema", event.dataschema)
    envelope.update(event.extensions)
    for name, value in envelope.items():
        _legal(name, value)
    text = json.dumps(envelope, ensure_ascii=False, separators=(",", ":")).encode()
    return text if event.data is None else text[:-1] + _data_member(event.data, event.datacontenttype) + b"}"


def from_structured(data: bytes) -> Event:
    """The event of one JSON object. Raises ``MalformedEventError``."""
    members: dict[str, Any] = {}
    inline: str | None = None
    for name, value, text in _members(_json_text(data)):
        if name in members:
            raise MalformedEventError(f"{name!r} is there twice", reason="duplicate")
        members[name] = value
        inline = text if name == "data" else inline
    attributes = {
        name: _canonical(name, value)
        for name, value in members.items()
        if value is not None and name not in ("data", "data_base64")
    }
    payload = _payload(members, inline, attributes.get("datacontenttype", _DEFAULT_TYPE))
    return _event(attributes, attributes.get("datacontenttype"), payload)


# -- writing -----------------------------------------------------------------------------------------------------


def _plain_attributes(event: Event) -> dict[str, str]:
    """Every attribute but ``datacontenttype`` as Kafka's headers, as it is."""
    headers = {
        "ce_specversion": SPEC_VERSION,
        "ce_id": event.id,
        "ce_source": event.source,
        "ce_type": event.type,
        "ce_time": _format_time(event.time),
    }
    if event.subject is not None:
        headers["ce_subject"] = _not_empty("subject", event.subject)
    if event.dataschema is not None:
        headers["ce_dataschema"] = _not_empty("dataschema", event.dataschema)
    for name, value in event.extensions.items():
        headers[f"ce_{name}"] = value
    return headers


def _attributes(event: Event) -> dict[str, str]:
    """Every attribute but ``datacontenttype`` as headers.

    All values are checked in one pass, because nearly always none needs encoding: measured, one check per
    value costs more than everything else together.
    """
    extensions = event.extensions
    headers = {
        "ce-specversion": SPEC_VERSION,
        "ce-id": event.id,
        "ce-source": event.source,
        "ce-type": event.type,
        "ce-time": _format_time(event.time),
    }
    if event.subject is not None:
        headers["ce-subject"] = _not_empty("subject", event.subject)
    if event.dataschema is not None:
        headers["ce-dataschema"] = _not_empty("dataschema", event.dataschema)
    for name, value in extensions.items():
        headers[_HEADER_NAMES.get(name) or f"ce-{name}"] = value
    if not _visible("".join(headers.values())):
        headers = {name: _encode(value) for name, value in headers.items()}
    for name in _PLAIN_COPIES:
        if name in extensions and _line(extensions[name]):
            headers[name] = extensions[name]
    return headers


@lru_cache(maxsize=1024)
def _encode(value: str) -> str:
    if _visible(value):
        return value
    _legal("an attribute", value)
    return _to_encode(lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode()), value)


@lru_cache(maxsize=256)
def _content_type(value: str) -> tuple[str, str]:
    """A ``datacontenttype`` as ``Content-Type`` and as attribute."""
    if not _line(value):
        raise MalformedEventError("attribute 'datacontenttype' is no media type", reason="attributes")
    if _is_cloudevents(value):
        raise MalformedEventError(
            f"data typed {value!r} would be read as structured mode: send to_structured(event) with STRUCTURED_HEADERS",
            reason="mode",
        )
    return value, _encode(value)


def _format_time(time: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    try:
        utc = time if time.tzinfo is UTC else time.astimezone(UTC)
        return utc.isoformat(timespec="microseconds")[:-6] + "Z"
    except OverflowError as error:
        raise MalformedEventError("attribute 'time' lies outside the years 1 to 9999", reason="time") from error


def _not_empty(name: str, value: str) -> str:
    if not value:
        raise MalformedEventError(f"attribute {name!r} is empty: leave it out", reason="attributes")
    return value


def _legal(name: str, value: str) -> None:
    if _illegal(value):
        raise MalformedEventError(f"{name} holds a character that CloudEvents forbids", reason="unicode")


def _data_member(data: bytes, content_type: str) -> bytes:
    if _json_type(content_type) and _reads_back(data):
        return b',"data":' + data
    return b',"data_base64":"' + base64.b64encode(data) + b'"'


def _reads_back(data: bytes) -> bool:
    """Whether ``data`` inside an envelope is read as these very bytes."""
    try:
        text = _json_text(data, depth=_MAX_DEPTH - 1)
        return _value(text, 0)[1] == len(text)
    except MalformedEventError:
        return False


# -- reading -----------------------------------------------------------------------------------------------------


def _fold(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers that matter here under lower-case names, checked and bounded."""
    folded: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if lower[:3] == "ce-" or lower in _OTHER_HEADERS:
            if lower in folded:
                raise MalformedEventError(f"header {lower[:30]!r} is there twice", reason="duplicate")
            folded[lower] = value
    try:
        text = "".join(folded.values())
    except TypeError as error:  # nats-py hands out an email.header.Header where a value was not ASCII
        raise MalformedEventError("a header is not text", reason="header") from error
    if not _ascii_line(text):
        raise MalformedEventError("a header holds a control or is not ASCII", reason="header")
    if len(text) + sum(map(len, folded)) > _MAX_HEADERS:
        raise MalformedEventError(f"the attributes take over {_MAX_HEADERS} characters", reason="size")
    return folded


def _texts(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """Kafka's headers that matter here under lower-case names, checked and bounded."""
    texts: dict[str, str] = {}
    for name, value in headers:
        lower = name.lower()
        if lower[:3] != "ce_" and lower not in _OTHER_HEADERS:
            continue
        if lower in texts:
            raise MalformedEventError(f"header {lower[:30]!r} is there twice", reason="duplicate")
        try:
            texts[lower] = (value or b"").decode()
        except UnicodeDecodeError as error:
            raise MalformedEventError(f"header {lower[:30]!r} is not UTF-8", reason="unicode") from error
    text = "".join(texts.values())
    if not _ascii_line(text):
        _legal("a header", text)
    if len(text) + sum(map(len, texts)) > _MAX_HEADERS:
        raise MalformedEventError(f"the attributes take over {_MAX_HEADERS} characters", reason="size")
    return texts


def _binary(given: dict[str, str], data_type: str | None, content_type: str | None, data: bytes) -> Event:
    attributes = {name[3:]: value for name, value in given.items() if name[:3] == "ce-"}
    if not _visible("".join(attributes.values())):
        attributes = {name: _decode(value) for name, value in attributes.items()}
    for name in _PLAIN_COPIES:
        if name in given and name not in attributes:
            attributes[name] = given[name].strip(" ")
    data_type = content_type if data_type is None else _decode(data_type)
    return _event(attributes, data_type, None if not data and content_type is None else data)


def _structured(content_type: str, data: bytes) -> Event:
    kind = content_type.partition(";")[0].strip().lower()
    if kind.startswith("application/cloudevents-batch"):
        raise MalformedEventError("a batch of events is not accepted: send one event each", reason="batch")
    if kind != STRUCTURED_TYPE:
        raise MalformedEventError(f"the only event format read here is {STRUCTURED_TYPE}", reason="format")
    return from_structured(data)


def _event(attributes: Mapping[str, str], data_type: str | None, data: bytes | None) -> Event:
    """An event of decoded attributes; one without ``time`` happened, as far as we know, now."""
    version = attributes.get("specversion")
    if version is None:
        raise MalformedEventError("no 'specversion': this is not an event", reason="attributes")
    if not _major_one(version):
        raise MalformedEventError(f"specversion {version[:20]!r} is not 1.x", reason="specversion")
    for name in _REQUIRED:
        if not attributes.get(name):
            raise MalformedEventError(f"required attribute {name!r} is missing", reason="attributes")
    return Event(
        type=attributes["type"],
        source=attributes["source"],
        id=attributes["id"],
        time=_parse_time(attributes["time"]) if "time" in attributes else datetime.now(UTC),
        subject=attributes.get("subject") or None,
        datacontenttype=(data_type or "").strip(" ") or _DEFAULT_TYPE,
        dataschema=attributes.get("dataschema") or None,
        extensions={n: v for n, v in attributes.items() if n in _HEADER_NAMES or _is_extension(n)},
        data=data,
    )


def _is_extension(name: str) -> bool:
    return name not in _CORE and name != "data" and bool(_attribute_name(name))


def _decode(value: str) -> str:
    """One round of unquoting and percent-decoding (HTTP binding 3.1.3.2)."""
    value = value.strip(" ")
    if value[:1] == '"' and value[-1:] == '"' and len(value) > 1:
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    if "%" not in value:
        return value
    if _bad_percent(value):
        raise MalformedEventError("a header holds a % without two hex digits", reason="percent")
    try:
        decoded = unquote_to_bytes(value).decode()
    except UnicodeDecodeError as error:
        raise MalformedEventError("a header is percent-encoded, but not UTF-8", reason="unicode") from error
    _legal("a header", decoded)
    return decoded


def _parse_time(text: str) -> datetime:
    """RFC 3339 as UTC, cut (not rounded) to microseconds."""
    found = _rfc3339(text)
    if not found:
        raise MalformedEventError(f"time {text[:40]!r} is not RFC 3339", reason="time")
    day, clock, fraction, sign, hours, minutes = found.groups()
    try:
        time = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '0')[:6]:0<6}+00:00")
        if sign is None:
            return time
        offset = timedelta(hours=int(hours), minutes=int(minutes))
        return time - offset if sign == "+" else time + offset
    except (ValueError, OverflowError) as error:
        raise MalformedEventError(f"time {text[:40]!r} does not exist", reason="time") from error


def _is_cloudevents(content_type: str) -> bool:
    return content_type.lstrip().lower().startswith("application/cloudevents")


# -- reading JSON --------------------------------------------------------------------------------------------------


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MalformedEventError("a JSON object has one name twice", reason="duplicate")
    return members


def _no_constant(name: str) -> NoReturn:
    raise MalformedEventError(f"{name} is not JSON", reason="json")


_decoder: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _json_text(data: bytes, *, depth: int = _MAX_DEPTH) -> str:
    """``data`` as text, refused when it nests deeper than ``depth``."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise MalformedEventError("the event is not UTF-8", reason="unicode") from error
    level = 0
    for found in _brackets(text):
        level += 1 if found[0] in "[{" else -1 if found[0] in "]}" else 0
        if level > depth:
            raise MalformedEventError(f"JSON nests deeper than {depth}", reason="depth")
    return text


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        value, end = _decoder.raw_decode(text, at)
    except (ValueError, RecursionError) as error:  # ValueError: not JSON, or an integer of thousands of digits
        raise MalformedEventError("the event is not JSON", reason="json") from error
    return value, end


def _members(text: str) -> Iterator[tuple[str, Any, str]]:
    """Name, value and verbatim text of each member of the one object in ``text``."""
    at = _skip(text, 0, "{")
    separator = ","
    if text[at : at + 1] == "}":
        at, separator = at + 1, "}"
    while separator == ",":
        name, at = _value(text, at)
        if not isinstance(name, str):
            raise MalformedEventError("the event is not JSON", reason="json")
        start = _skip(text, at, ":")
        value, end = _value(text, start)
        yield name, value, text[start:end]
        at = _blank_end(text, end)
        separator = text[at : at + 1]
        at = _skip(text, at, separator if separator in (",", "}") else ",")
    if at != len(text):
        raise MalformedEventError("something follows the event", reason="json")


def _blank_end(text: str, at: int) -> int:
    found = _blank(text, at)
    return found.end() if found else at


def _skip(text: str, at: int, mark: str) -> int:
    """The end of ``mark`` and the blanks around it."""
    at = _blank_end(text, at)
    if not mark or text[at : at + 1] != mark:
        raise MalformedEventError("the event is no JSON object", reason="json")
    return _blank_end(text, at + 1)


def _canonical(name: str, value: object) -> str:
    """An attribute's JSON value as CloudEvents' canonical text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise MalformedEventError(f"attribute {name[:30]!r} is an object, an array or a fraction", reason="attributes")
    _legal("an attribute", value)
    return value


def _payload(members: Mapping[str, Any], inline: str | None, content_type: str) -> bytes | None:
    encoded = members.get("data_base64")
    if inline is not None and encoded is not None:
        raise MalformedEventError("'data' and 'data_base64' are both there", reason="data")
    if encoded is not None:
        return _from_base64(encoded)
    if inline is None:
        return None
    if _json_type(content_type):
        return inline.encode()
    if not isinstance(members["data"], str):
        raise MalformedEventError(f"'data' of type {content_type[:60]!r} must be a string", reason="data")
    try:
        return members["data"].encode()
    except UnicodeEncodeError as error:
        raise MalformedEventError("'data' holds half a surrogate pair", reason="unicode") from error


def _from_base64(value: object) -> bytes:
    if not isinstance(value, str):
        raise MalformedEventError("'data_base64' is no string", reason="data")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedEventError("'data_base64' is not base64", reason="data") from error
