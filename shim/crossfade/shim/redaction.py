"""Keeps secrets out of observations, logs, diffs, metrics and pages, without losing equality.

Rules
- By name: a parameter, member or header called like a credential (``password``, ``X-Api-Key``, ``accessToken``;
  case, ``-`` and ``_`` do not matter). ``max_tokens``, ``tokenizer`` or ``page_token`` are not credentials.
- By type: pydantic's ``SecretStr`` and its kin. By path: ``$.user.card``, ``$.items[*].card``.
- Inside text: bearer and basic credentials, URL userinfo, ``name=value`` and ``"name": value`` whose name is one
  of the above, private keys, and tokens of a well-known shape. A secret nobody named and that looks like a plain
  word cannot be recognised: name its parameter.
- The replacement is a keyed hash (BLAKE2b, RFC 7693) of the value as canonical JSON, so equal secrets stay equal
  under one key and nobody without the key can guess them: ``{"$redacted": "<32 hex digits>"}``, in text
  ``[redacted:<8 hex digits>]``. Redacting twice changes nothing. ``None``, true and false are no secrets.
- Past a limit of nodes, depth, length or time the whole value goes: ``{"$redacted": "limit:<which>:<random>"}``,
  never equal to another and counted (``redacted``, reason ``limit``).

The key is ``CROSSFADE_REDACT_KEY`` (any text of 16 characters or more, the same for callers and workers whose
records are compared), else drawn at random per process. Stdlib only.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import json
import logging
import os
import re
import sys
import time
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, cast

from .errors import ConfigurationError
from .hooks import report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

MARK: Final = "$redacted"

_MAX_NODES: Final = 50_000  # about 50 ms of work
_MAX_DEPTH: Final = 100
_MAX_SECONDS: Final = 0.5
_MAX_TEXT: Final = 1024 * 1024  # characters of one string
_LONG: Final = 256  # characters of a string that count as one more node
_CLOCK_EVERY: Final = 1024  # nodes between two looks at the clock

# -- which names ---------------------------------------------------------------------------------------------------

_WORDS: Final = frozenset(
    {"password", "passwd", "passphrase", "passcode", "pwd", "secret", "secrets", "credential", "credentials"}
    | {"authorization", "cookie", "cookies", "cvv", "apikey", "accesskey", "secretkey", "privatekey"}
    | {"authtoken", "accesstoken", "refreshtoken", "clientsecret"}
)
_WHOLE: Final = frozenset({"auth", "basic_auth", "proxy_auth", "http_auth", "jwt", "bearer"})
_KEYS: Final = frozenset(
    {"api", "access", "private", "secret", "signing", "encryption", "master", "account", "ssh", "auth", "shared"}
)
# The word before ``token`` that makes it a cursor or a piece of text, and before ``tokens`` a credential.
_HARMLESS: Final = frozenset(
    {"page", "next", "continuation", "sync", "first", "last", "per", "start", "end", "stop", "special"}
    | {"eos", "bos", "pad", "unk", "sep", "cls", "mask"}
)
_PLURAL: Final = frozenset({"access", "refresh", "auth", "api", "session", "bearer", "id", "security"})

_camel = re.compile(r"(?<=[a-z0-9])(?=[A-Z])").sub
_separators = re.compile(r"[^a-z0-9]+").sub


@lru_cache(maxsize=1024)  # the same few names come again and again; bounded because hostile names are endless
def is_secret_name(name: str) -> bool:
    """Whether a parameter or header of this name holds a credential, by its words."""
    folded = _fold(name)
    words = folded.split("_")
    if folded in _WHOLE or not _WORDS.isdisjoint(words):
        return True
    before = words[-2] if len(words) > 1 else ""
    if words[-1] == "token":
        return before not in _HARMLESS
    if words[-1] == "tokens":
        return before in _PLURAL
    return any(word in ("key", "keys") and words[at - 1] in _KEYS for at, word in enumerate(words) if at)


def _fold(name: str) -> str:
    """``X-Api-Key`` and ``xApiKey`` as ``x_api_key``."""
    return _separators("_", _camel("_", name).lower()).strip("_")


# -- what is secret inside a text ------------------------------------------------------------------------------------

# Every pattern starts at a fixed text or a word's edge and never backs up: hostile text costs linear time.
_header_line = re.compile(
    r"""(?i)(?<![\w-])((?:proxy-)?authorization|(?:set-)?cookie)([ \t]{0,3}[:=][ \t]{0,3})([^\s"'\\][^\r\n]*+)"""
).sub
_scheme = re.compile(r"(?i)(?<![\w-])(bearer|basic)([ \t]{1,3})([A-Za-z0-9._~+/=-]{6,}+)").sub
# A password may hold an unencoded slash, a port may not: ``://db:p/w@host`` but not ``://host:80/@scope``.
_userinfo = re.compile(r"""://([^/\s?#@"'<>:]*+:(?![0-9]{1,5}/)[^\s@"'<>]{0,128}+|[^/\s?#@"'<>]*+)@""").sub
_shaped = re.compile(
    r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|\Z)"
    r"|(?<![\w-])(?:eyJ[\w-]{8,}+\.[\w-]{8,}+\.[\w-]*+|sk-[\w-]{16,}+|gh[pousr]_\w{20,}+|AKIA[0-9A-Z]{16}(?!\w)"
    r"|xox[abprs]-[\w-]{10,}+)",
    re.DOTALL,
).sub
_name = re.compile(
    r"""(?<![\w.-])([A-Za-z_][\w.-]{0,199}+)(?:\\*["'])?[ \t]{0,3}[=:]{1,2}+>?[ \t]{0,3}(?:b(?=["']))?"""
).search
_named_value = re.compile(
    r"""(?P<mark>"|'|\\++["'])?+(?:(?<=\\["'])(?P<escaped>.*?)(?:(?P=mark)|\Z)"""
    r"""|(?<=")(?P<double>(?:[^"\\]++|\\.)*+)(?:"|\\?\Z)|(?<=')(?P<single>(?:[^'\\]++|\\.)*+)(?:'|\\?\Z)"""
    r"""|(?P<bare>(?:(?i:bearer|basic|digest|token|negotiate)[ \t]{1,3})?[^\s&;,"'<>(){}\[\]\\]++))""",
    re.DOTALL,
).match
_marked = re.compile(r"\[redacted:(?:[0-9a-f]{8}|limit)\]").fullmatch
_text_marks = re.compile(r"\[redacted:[0-9a-f]{8}\]").sub
_NO_SECRETS: Final = frozenset({"None", "null", "true", "false", "True", "False"})
_mark_hash = re.compile(r"[0-9a-f]{32}|limit:[a-z]+:[0-9a-f]{8}").fullmatch
# Alternatives that begin with a plain letter let the engine skip ahead: four times faster than (?i:bearer|basic).
_worth_a_look = re.compile(
    r":|=|b(?i:earer|asic)[ \t]|B(?i:earer|asic)[ \t]|eyJ|sk-|gh[pousr]_|AKIA|xox|-----BEGIN"
).search
# A quick look at encoded JSON, in lower case: the words without which no rule above finds anything, behind a letter
# that they have in common and texts often have not; and where a word is frequent, what must stand around it. Searched
# for one by one, because one regular expression of them all takes ten times as long (measured: 100 us for 1 KB).
# A name's words may be joined by anything, which a regular expression cannot follow backwards: what may be such is
# taken for one. Letters beyond ASCII count as letters of a word, as they do in the rules.
_KEY_WORDS: Final = "|".join(rf"(?<={word}key)|(?<={word}[^a-z0-9\"]key)" for word in sorted(_KEYS))
_JOINED: Final = "|".join(f"(?<={word}token)" for word in ("auth", "access", "refresh"))
_COUNTS: Final = "".join(f"(?<!{word}_tokens)" for word in ("max", "prompt", "completion", "input", "output", "total"))
_LOOK_FOR: Final = (
    ("", "auth", r"auth(?:orization|(?![a-z0-9]))"),
    ("", "secret", ""),
    ("", "pass", r"pass(?:w(?:or)?d|phrase|code)"),
    ("", "credential", ""),
    ("", "bearer", ""),
    ("", "basic", r"basic(?: |\\t)"),
    ("k", "token", rf"token(?:(?![a-z0-9])|{_JOINED}|s(?![a-z0-9]){_COUNTS})"),
    ("k", "key", rf"key(?:{_KEY_WORDS}|(?<=[^a-z0-9][^a-z0-9\"]key)|(?<=\\[\"bfnrt]key))"),
    ("k", "cookie", ""),
    ("k", "sk-", r"sk-(?:(?<![\w-]sk-)|(?<=\\[bfnrt]sk-))[\w\x80-\xff-]{16}"),
    ("k", "akia", ""),
    ("w", "pwd", ""),
    ("v", "cvv", ""),
    ("g", "gh", r"gh[pousr]_"),
    ("j", "jwt", ""),
    ("j", "eyj", r"eyj[\w\x80-\xff-]{8,}+\."),
    ("x", "xox", ""),
    ("\\", "\\u", ""),  # any letter may be written so
    ("@", "://", r"://[^\s\"]*@"),
)
# Letters that are one of a to z where case does not count: the Kelvin sign, a long s, an i with and without dot.
_ODD_LETTERS: Final = tuple(letter.encode() for letter in "\u212a\u017f\u0130\u0131")
_plain_word = re.compile(r"[a-z]{1,19}").fullmatch

_path = re.compile(r"\$(?:\.[^.\[\]*]+|\.\*|\[\*\]|\[\d+\])+").fullmatch
_path_part = re.compile(r"\.([^.\[\]]+)|\[(\*|\d+)\]").findall

_SCALARS: Final = (bool, int, float)
_SEQUENCES: Final = (list, tuple)
_Paths = tuple[tuple[str, ...], ...]


class Redactor:
    """Replaces secrets in JSON-like values, encoded JSON, headers and text.

    ``names`` are further patterns of names (``*_ssn``: shell wildcards over the name folded to ``lower_case``);
    ``paths`` point at members (``$.user.card``, ``[*]`` any item, ``.*`` any member) of what ``value`` is given.
    Raises ``ConfigurationError`` for an empty key or a path that is none. Thread-safe.
    """

    def __init__(self, key: bytes, *, names: Iterable[str] = (), paths: Iterable[str] = ()) -> None:
        if not key:
            raise ConfigurationError("the redaction key is empty")
        self._key = hashlib.blake2b(key, digest_size=32).digest()
        self._names = tuple(pattern.lower().replace("-", "_") for pattern in names)
        self._paths = tuple(_segments(path) for path in paths)
        # The same few names come again and again; the cache is bounded because hostile names are endless.
        self._about: Callable[[str], tuple[str, bool]] = lru_cache(maxsize=4096)(self._decide)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits, equal where the key is: only then can marks be compared. Of no use as a key."""
        return hashlib.blake2b(b"fingerprint", key=self._key, digest_size=8, person=b"cf redact").hexdigest()

    @classmethod
    def from_environment(cls, *, names: Iterable[str] = (), paths: Iterable[str] = ()) -> Redactor:
        """With the key in ``CROSSFADE_REDACT_KEY``, else with one drawn for this process."""
        key = os.environ.get("CROSSFADE_REDACT_KEY", "")
        if key and len(key) < 16:
            raise ConfigurationError("is too short: use 16 characters or more", where="CROSSFADE_REDACT_KEY")
        return cls(key.encode("utf-8", "surrogateescape") or _process_key, names=names, paths=paths)

    def __repr__(self) -> str:
        return f"Redactor({len(self._names)} names, {len(self._paths)} paths)"

    def value(self, value: Any) -> Any:
        """A JSON-like value without its secrets; the value itself when there are none, never changed in place."""
        try:
            return _Walk(self.text, self._about, self._mark).value(value, self._paths, _MAX_DEPTH)
        except _LimitError as error:
            report.count("redacted", reason="limit")
            return _limited(error.args[0])

    def passes(self, data: bytes) -> bool:
        """Whether encoded JSON certainly holds nothing to replace, so that ``value`` need not walk through it.

        ``False`` means only that the walk, which takes 20 times longer, has to tell.
        """
        return not (self._names or self._paths or _is_suspicious(data.lower()))

    def encoded(self, data: bytes) -> bytes:
        """Encoded JSON without its secrets; what is not JSON is replaced whole."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            return _dump(self._mark(data))
        return _dump(self.value(value))

    def digest(self, encoded: bytes) -> dict[str, str]:
        """The mark of one secret value given as JSON, as ``value`` would have left it."""
        try:
            return self._mark(json.loads(encoded))
        except (ValueError, RecursionError):
            return self._mark(encoded)

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers whose credentials are replaced; names stay as they are."""
        return {
            name: self._text_mark(value) if self.is_secret(name) else self.text(value)
            for name, value in headers.items()
        }

    def text(self, text: str) -> str:
        """Text (an error's message, a log line, a URL) without the credentials that can be recognised in it."""
        if not _worth_a_look(text):
            return text
        if len(text) > _MAX_TEXT:
            report.count("redacted", reason="limit")
            return "[redacted:limit]"
        text = _shaped(lambda found: self._text_mark(found[0]), text)
        text = _userinfo(self._without_userinfo, text)
        text = _header_line(lambda found: found[1] + found[2] + self._text_mark(found[3].strip()), text)
        return _scheme(self._without_credentials, self._without_named(text))

    # -- deciding ----------------------------------------------------------------------------------------------

    def is_secret(self, name: str) -> bool:
        """Whether a parameter, member or header of this name is replaced."""
        return self._about(name)[1]

    def _decide(self, name: str) -> tuple[str, bool]:
        """``name`` itself as it may be shown, and whether its value is secret."""
        folded = _fold(name)
        secret = is_secret_name(name) or any(fnmatch.fnmatchcase(folded, pattern) for pattern in self._names)
        return self.text(name), secret

    # -- replacing ---------------------------------------------------------------------------------------------

    def _hash(self, value: Any) -> str:
        try:
            text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
        except (ValueError, TypeError, RecursionError):
            return f"limit:value:{os.urandom(4).hex()}"  # not even comparable
        return hashlib.blake2b(text.encode(), key=self._key, digest_size=16).hexdigest()

    def _mark(self, value: Any) -> dict[str, str]:
        return value if is_redacted(value) else {MARK: self._hash(value)}

    def _text_mark(self, text: str) -> str:
        return text if _marked(text) else f"[redacted:{self._hash(text)[:8]}]"

    def _without_userinfo(self, found: re.Match[str]) -> str:
        user, colon, password = found[1].partition(":")
        if not found[1] or _marked(found[1]):
            return found[0]
        return f"://{user}:{self._text_mark(password)}@" if colon else f"://{self._text_mark(user)}@"

    def _without_named(self, text: str) -> str:
        """``text`` without the values of what is called like a credential.

        Values of other names are searched in turn: ``url=https://host/?token=...``.
        """
        parts: list[str] = []
        kept = at = 0
        while name := _name(text, at):
            at = name.end()
            value = _named_value(text, at) if self.is_secret(name[1].rstrip(".").rpartition(".")[2]) else None
            if value is None or value.lastgroup is None:
                continue
            inside = value.lastgroup
            if value[inside] and not (inside == "bare" and value[inside] in _NO_SECRETS):
                parts += [text[kept : value.start(inside)], self._text_mark(value[inside])]
                kept = value.end(inside)
            at = value.end()
        return "".join([*parts, text[kept:]])

    def _without_credentials(self, found: re.Match[str]) -> str:
        if _plain_word(found[3]) or not (found[1].lower() == "bearer" or _is_basic(found[3])):
            return found[0]  # "a basic understanding", "the bearer certificate"
        return f"{found[1]}{found[2]}{self._text_mark(found[3])}"


_quick_look: Final = tuple(
    (
        letter.encode(),
        tuple((word.encode(), re.compile(around.encode()).search) for of, word, around in _LOOK_FOR if of == letter),
    )
    for letter in dict.fromkeys(letter for letter, _, _ in _LOOK_FOR)
)


def _is_suspicious(lower: bytes) -> bool:
    """Whether encoded JSON in lower case may hold something that a rule replaces."""
    for letter, words in _quick_look:
        if letter in lower:
            for word, is_found in words:
                if word in lower and is_found(lower):
                    return True
    return not lower.isascii() and any(letter in lower for letter in _ODD_LETTERS)


def is_redacted(value: Any) -> bool:
    """Whether ``value`` is what a ``Redactor`` leaves in the place of a secret."""
    if not isinstance(value, dict):
        return False
    members = cast("Mapping[Any, Any]", value)
    mark = members.get(MARK)
    return len(members) == 1 and isinstance(mark, str) and bool(_mark_hash(mark))


def between_marks(text: str) -> list[str]:
    """What of a text is not a mark."""
    return _text_marks("\0", text).split("\0")


def blank_marks(value: Any) -> Any:
    """A JSON-like value whose marks are all the same one: what is left to compare where the keys differ."""
    if isinstance(value, str):
        return _text_marks("[redacted]", value)
    if is_redacted(value):
        return {MARK: ""}
    if isinstance(value, dict):
        members = cast("Mapping[Any, Any]", value)
        return {blank_marks(name): blank_marks(member) for name, member in members.items()}
    return list(map(blank_marks, cast("Sequence[Any]", value))) if isinstance(value, _SEQUENCES) else value


class RedactingFilter(logging.Filter):
    """Redacts a record before it is formatted: message, exception, stack and extra attributes.

    Put it on handlers (a logger's filter does not see its children's records). The exception becomes text,
    because its message and locals could not be trusted otherwise.
    """

    def __init__(self, redactor: Redactor) -> None:
        super().__init__()
        self._redactor = redactor
        self._formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Always ``True``: nothing is dropped."""
        redact = self._redactor.text
        try:
            record.msg = redact(record.getMessage())
        except Exception as error:
            record.msg = f"<a log record that cannot be formatted: {type(error).__name__}>"
        record.args = None
        if record.exc_info:
            record.exc_text = record.exc_text or self._formatter.formatException(record.exc_info)
            record.exc_info = None
        record.exc_text = redact(record.exc_text) if record.exc_text else record.exc_text
        record.stack_info = redact(record.stack_info) if record.stack_info else record.stack_info
        for name, value in list(vars(record).items()):
            if name not in _RECORD and (self._redactor.is_secret(name) or isinstance(value, str | dict | list)):
                clear = self._redactor.value({name: value})
                setattr(record, name, clear.get(name, clear))
        return True


_RECORD: Final = frozenset(vars(logging.LogRecord("", 0, "", 0, "", None, None))) | {"message", "asctime", "taskName"}
_process_key: Final = os.urandom(32)


class _LimitError(Exception):
    """Which limit was reached."""


class _Walk:
    """One pass over one value, with its budget."""

    def __init__(
        self,
        text: Callable[[str], str],
        about: Callable[[str], tuple[str, bool]],
        mark: Callable[[Any], dict[str, str]],
    ) -> None:
        self._text = text
        self._about = about
        self._mark = mark
        self._nodes = 0
        self._until = time.monotonic() + _MAX_SECONDS

    def value(self, value: Any, paths: _Paths, depth: int) -> Any:
        """``value`` without secrets, the same object when it has none."""
        if isinstance(value, str):
            self._spend(depth, len(value) // _LONG)
            return self._text(value)
        if value is None or isinstance(value, _SCALARS):
            return value
        if isinstance(value, dict):
            return self._members(cast("Mapping[Any, Any]", value), paths, depth)
        if isinstance(value, _SEQUENCES):
            return self._items(cast("Sequence[Any]", value), paths, depth)
        return self._mark(value)

    def _spend(self, depth: int, nodes: int) -> None:
        before = self._nodes
        self._nodes += nodes
        if not depth:
            raise _LimitError("depth")
        if self._nodes > _MAX_NODES:
            raise _LimitError("nodes")
        if self._nodes // _CLOCK_EVERY != before // _CLOCK_EVERY and time.monotonic() > self._until:
            raise _LimitError("time")

    def _members(self, value: Mapping[Any, Any], paths: _Paths, depth: int) -> Any:
        if is_redacted(value):
            return value
        self._spend(depth, len(value) + 1)
        changed = False
        members: dict[Any, Any] = {}
        for name, member in value.items():
            shown, secret = self._about(name) if isinstance(name, str) else (name, False)
            below = _below(paths, str(name)) if paths else ()
            if type(member) is str and not secret and not below and len(member) <= _LONG:
                new = self._text(member)  # by far the most frequent member
            else:
                new = self._member(shown, member, below, depth, secret=secret)
            changed = changed or new is not member or shown is not name
            members[shown] = new
        return members if changed else value

    def _member(self, name: Any, member: Any, below: _Paths, depth: int, *, secret: bool) -> Any:
        if secret or () in below:
            return member if member is None or isinstance(member, bool) else self._mark(member)
        if isinstance(member, list) and name in ("headers", "trailers"):
            return self._pairs(cast("Sequence[Any]", member), below, depth - 1)
        return self.value(member, below, depth - 1)

    def _pairs(self, pairs: Sequence[Any], paths: _Paths, depth: int) -> Any:
        """Headers as a list of ``[name, value]``."""
        self._spend(depth, len(pairs) + 1)
        return [self._pair(pair, depth) or self.value(pair, paths, depth - 1) for pair in pairs]

    def _pair(self, pair: Any, depth: int) -> list[Any] | None:
        items = cast("Sequence[Any]", pair) if isinstance(pair, _SEQUENCES) else ()
        if len(items) != 2 or not isinstance(items[0], str):
            return None
        shown, secret = self._about(items[0])
        return [shown, self._member(shown, items[1], (), depth, secret=secret)]

    def _items(self, value: Sequence[Any], paths: _Paths, depth: int) -> Any:
        self._spend(depth, len(value) + 1)
        changed = False
        items: list[Any] = []
        for at, item in enumerate(value):
            below = _below(paths, str(at)) if paths else ()
            new = self._mark(item) if () in below else self.value(item, below, depth - 1)
            changed = changed or new is not item
            items.append(new)
        return items if changed else value


def _below(paths: _Paths, name: str) -> _Paths:
    return tuple(path[1:] for path in paths if path[0] in (name, "*"))


def _segments(path: str) -> tuple[str, ...]:
    if not _path(path):
        raise ConfigurationError(f"{path!r} is no path: write it like $.user.card or $.items[*].card")
    return tuple(name or index for name, index in _path_part(path))


def _plain(value: Any) -> Any:
    """A value that JSON does not know, as the payload codec would write it."""
    types = sys.modules.get("pydantic.types")  # a secret cannot exist while this is not loaded
    if types is not None and isinstance(value, types.SecretStr | types.SecretBytes | types.Secret):
        value = value.get_secret_value()
    return (
        base64.urlsafe_b64encode(value).decode()
        if isinstance(value, bytes)
        else repr(value)
        if not isinstance(value, str)
        else value
    )


def _is_basic(credentials: str) -> bool:
    """Whether this is base64 of ``user:password`` (RFC 7617 2)."""
    try:
        return b":" in base64.b64decode(credentials + "=" * (-len(credentials) % 4), altchars=b"-_")
    except ValueError:
        return False


def _limited(which: str) -> dict[str, str]:
    return {MARK: f"limit:{which}:{os.urandom(4).hex()}"}


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")
