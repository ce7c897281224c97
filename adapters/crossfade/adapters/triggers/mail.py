"""A mail as data: decoded headers, its text and HTML, its attachments; whatever is in it. Pure.

Rules
- Nothing a mail holds makes this raise. What cannot be read is named in ``defects``, and the raw mail stays the truth.
- What it costs is bounded before the parser of the standard library sees it: parts, nesting and header lines are
  counted in the bytes, and a mail with more of them is handed on unparsed (defect ``too-complex``).
- Charsets are those of texts; codecs that decode in quadratic time (punycode, idna) or unescape are not.
- An attachment's name is its last component, never a path.
"""

from __future__ import annotations

import codecs
import email.errors
import email.header
import email.message
import email.parser
import email.policy
import email.utils
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    from datetime import datetime

_MOST_MULTIPARTS: Final = 50  # each nests the parser by some frames, and is looked for in every line
_MOST_BOUNDARIES: Final = 10_000  # lines that begin with `--`
_MOST_HEADERISH: Final = 100_000  # lines that look like a header's
_MOST_HEADERS: Final = 500  # handed on
_MOST_ATTACHMENTS: Final = 100
_DEEPEST: Final = 20
_LONGEST_HEADER: Final = 16_384  # characters
_LONGEST_NAME: Final = 255

_HEADERISH: Final = re.compile(rb"^[!-9;-~]+:", re.MULTILINE)
_NO_TEXT: Final = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined", "utf-7"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Attachment:
    """A part that is no text of the mail's own."""

    name: str
    type: str
    data: bytes


@dataclass(kw_only=True, slots=True)
class Mail:
    """What a mail says. ``message_id`` is empty when it has none; ``body`` is the sha256 of all after its headers."""

    message_id: str = ""
    subject: str = ""
    author: str = ""
    date: datetime | None = None
    headers: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    text: str = ""
    html: str = ""
    attachments: list[Attachment] = field(default_factory=list[Attachment])
    defects: list[str] = field(default_factory=list[str])
    body: str = ""

    def defect(self, name: str) -> None:
        """Name what could not be read, once."""
        if name not in self.defects:
            self.defects.append(name)


def read_mail(content: bytes) -> Mail:
    """What ``content`` says, as far as it can be read."""
    mail = Mail(body=hashlib.sha256(_after_headers(content)).hexdigest())
    if _too_complex(content):
        mail.defect("too-complex")
        head = email.parser.BytesHeaderParser(policy=email.policy.compat32).parsebytes(content[:_LONGEST_HEADER])
        _read_headers(mail, head)
        return mail
    try:
        message = email.parser.BytesParser(policy=email.policy.compat32).parsebytes(content)
        _read_headers(mail, message)
        _read_part(mail, message, 0)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, email.errors.MessageError) as error:
        mail.defect(type(error).__name__)  # the parser's own mistakes: it is older than most of what is sent to it
    return mail


def _too_complex(content: bytes) -> bool:
    lower = content.lower()
    return (
        lower.count(b"multipart/") > _MOST_MULTIPARTS
        or lower.count(b"message/rfc822") > _MOST_MULTIPARTS
        or content.count(b"\n--") > _MOST_BOUNDARIES
        or sum(1 for _ in _HEADERISH.finditer(content)) > _MOST_HEADERISH
    )


def _after_headers(content: bytes) -> bytes:
    found = re.search(rb"\r?\n\r?\n", content)
    return content[found.end() :] if found else content


def _read_headers(mail: Mail, message: email.message.Message) -> None:
    items = [(name, _decoded(mail, str(value))) for name, value in message.items()[:_MOST_HEADERS]]
    if len(message.items()) > _MOST_HEADERS:
        mail.defect("many-headers")
    mail.headers = items
    first = {name.lower(): value for name, value in reversed(items)}
    mail.message_id = first.get("message-id", "").strip()[: _LONGEST_NAME * 4]
    mail.subject, mail.author = first.get("subject", ""), first.get("from", "")
    mail.date = _date(mail, first.get("date", ""))


def _date(mail: Mail, text: str) -> datetime | None:
    try:
        return email.utils.parsedate_to_datetime(text) if text else None
    except (ValueError, TypeError, IndexError, OverflowError):
        mail.defect("date")
        return None


def _decoded(mail: Mail, value: str) -> str:
    """A header's text, its encoded words decoded; on one line."""
    if len(value) > _LONGEST_HEADER:
        mail.defect("long-header")
        value = value[:_LONGEST_HEADER]
    try:
        pieces = email.header.decode_header(value)
    except (email.errors.HeaderParseError, ValueError):
        mail.defect("header")
        pieces = [(value, None)]
    parts = [piece if isinstance(piece, str) else _text(mail, piece, charset or "utf-8") for piece, charset in pieces]
    joined = " ".join("".join(parts).split())
    return joined.encode("utf-8", "replace").decode()  # surrogates stood for bytes that are no text


def _text(mail: Mail, data: bytes, charset: str) -> str:
    try:
        name = codecs.lookup(charset).name.replace("_", "-")
        if name not in _NO_TEXT:
            return data.decode(name)
    except (LookupError, ValueError, TypeError):
        pass  # named below: unknown, no codec of texts, or not what the bytes are
    mail.defect("charset")
    return data.decode("utf-8", "replace")


def _read_part(mail: Mail, part: email.message.Message, depth: int) -> None:
    if depth > _DEEPEST:
        mail.defect("deep")
        return
    kind = part.get_content_type()
    payload: Any = part.get_payload()
    if isinstance(payload, list) and kind != "message/rfc822":
        for inner in cast("list[email.message.Message]", payload):
            _read_part(mail, inner, depth + 1)
        return
    data = _bytes(part, kind)
    attached = part.get_content_disposition() == "attachment" or part.get_filename() is not None
    if kind == "text/plain" and not attached:
        mail.text += _text(mail, data, str(part.get_content_charset() or "utf-8")).replace("\r\n", "\n")
    elif kind == "text/html" and not attached:
        mail.html += _text(mail, data, str(part.get_content_charset() or "utf-8")).replace("\r\n", "\n")
    elif len(mail.attachments) < _MOST_ATTACHMENTS:
        mail.attachments.append(Attachment(name=_name(mail, part), type=kind, data=data))
    else:
        mail.defect("many-attachments")


def _bytes(part: email.message.Message, kind: str) -> bytes:
    if kind == "message/rfc822":
        inner: Any = part.get_payload()
        if not isinstance(inner, list):
            return str(inner).encode("utf-8", "replace")
        return b"".join(one.as_bytes() for one in cast("list[email.message.Message]", inner))
    found: Any = part.get_payload(decode=True)
    return found if isinstance(found, bytes) else b""


def _name(mail: Mail, part: email.message.Message) -> str:
    given = _decoded(mail, part.get_filename() or "")
    last = PurePosixPath(given.replace("\\", "/")).name
    return "".join(c for c in last if c.isprintable())[:_LONGEST_NAME] or f"part-{len(mail.attachments) + 1}"
