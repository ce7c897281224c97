"""Who a request is for: the key that keeps a user on one path, and the owner of streams and tasks.

Rules

1. A header names a user only when the peer is trusted (``trust``); from anybody else it is dropped before the request
   goes on, so that no upstream believes it either.
2. A JWT names a user only when its signature, expiry and, where set, issuer and audience hold. Without a key nobody can
   tell: it then keeps a user on one path and proves nothing.
3. A cookie is what the client says: it keeps a user on one path and proves nothing.
4. What is there twice, unreadable or empty names nobody, and the reason is said, for counting. Nothing is guessed.

Only a proven identity owns a stream or a task.
"""

from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, get_args

from crossfade.shim.errors import ConfigurationError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jwt import PyJWK

    from crossfade.shim.matching import Fields

Algorithm = Literal["HS256", "RS256", "ES256"]
Kind = Literal["header", "cookie", "jwt"]

ALGORITHMS: Final[tuple[Algorithm, ...]] = get_args(Algorithm)
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")  # RFC 9110, token
_CLAIM: Final = re.compile(r"[!-~]+\Z")
_MAX_LENGTH: Final = 1024  # characters: what crossfade.shim.correlate takes
_MIN_SECRET: Final = 32  # bytes: RFC 7518, 3.2

_FAULTS: Final = {
    "ExpiredSignatureError": "expired",
    "ImmatureSignatureError": "early",
    "InvalidAudienceError": "audience",
    "InvalidIssuerError": "issuer",
    "InvalidSignatureError": "signature",
}

_Read: TypeAlias = "tuple[str | None, str]"
"""A name, or ``None`` and the reason."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Identity:
    """Who a request is for. ``proven``: the parts that are there can be relied on.

    ``reason`` says why a part is missing although the request tried to give it: ``untrusted``, ``twice``,
    ``unreadable``, ``signature`` (or another fault of the token), ``claim``; empty when nothing went wrong.
    """

    user: str | None = None
    tenant: str | None = None
    proven: bool = False
    reason: str = ""

    @property
    def owner(self) -> tuple[str, str] | None:
        """Tenant (may be empty) and user who may own a stream or a task, or ``None``: nobody is proven."""
        return (self.tenant or "", self.user) if self.proven and self.user else None


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """Where a name comes from: ``header:X-User``, ``cookie:session``, ``jwt:sub``."""

    kind: Kind
    name: str

    @classmethod
    def parse(cls, text: str) -> Source:
        """Raises ``ValueError``, whose text says what to write instead."""
        kind, _, name = text.partition(":")
        if kind not in get_args(Kind) or not (_NAME if kind != "jwt" else _CLAIM).match(name):
            raise ValueError(f"{text!r} is no source of an identity: write header:NAME, cookie:NAME or jwt:CLAIM")
        return cls(kind=cast("Kind", kind), name=name.lower() if kind == "header" else name)


@dataclass(frozen=True, kw_only=True)
class TokenRules:
    """What makes a JWT proof: one algorithm, and its key or a set of keys (RFC 7517). ``None`` checks nothing of it."""

    algorithm: Algorithm
    key_file: str | None = None
    jwks_file: str | None = None
    issuer: str | None = None
    audience: str | None = None

    def claims(self, token: str) -> dict[str, Any]:
        """The claims of a valid token. Raises ``ValueError`` with the fault as one word, like ``expired``."""
        import jwt  # noqa: PLC0415 - an extra

        try:
            return jwt.decode(
                token,
                self._key(jwt.get_unverified_header(token).get("kid")),
                algorithms=[self.algorithm],
                audience=self.audience,
                issuer=self.issuer,
                options={"require": ["exp"], "verify_aud": self.audience is not None},
            )
        except jwt.PyJWTError as error:
            raise ValueError(_fault(error)) from error

    def load(self) -> None:
        """Read the keys now. Raises ``ConfigurationError`` for a file that is missing or holds none that fits."""
        _ = self._keys

    def _key(self, kid: object) -> Any:
        keys = self._keys
        if kid is None and len(keys) == 1:
            return next(iter(keys.values()))
        if kid in keys:
            return keys[str(kid)]
        if self.key_file is not None:
            return keys[""]
        raise ValueError("key")

    @cached_property
    def _keys(self) -> dict[str, Any]:
        if importlib.util.find_spec("jwt") is None:
            raise MissingExtraError("proxy", needed_for="a signed identity")
        return {"": self._single()} if self.key_file is not None else {key.key_id or "": key for key in self._set()}

    def _single(self) -> Any:
        import jwt  # noqa: PLC0415 - an extra

        data = _read(self.key_file or "").strip()
        if self.algorithm == "HS256" and len(data) < _MIN_SECRET:
            raise ConfigurationError(
                f"{self.key_file}: the secret has {len(data)} bytes and needs {_MIN_SECRET}: openssl rand -base64 32"
            )
        try:
            return jwt.get_algorithm_by_name(self.algorithm).prepare_key(data)
        except (ValueError, TypeError, jwt.PyJWTError) as error:
            raise ConfigurationError(
                f"{self.key_file}: this is no public key for {self.algorithm} in PEM form"
            ) from error

    def _set(self) -> Sequence[PyJWK]:
        import jwt  # noqa: PLC0415 - an extra

        try:
            keys = jwt.PyJWKSet.from_dict(json.loads(_read(self.jwks_file or ""))).keys
        except (ValueError, TypeError, AttributeError, jwt.PyJWTError) as error:
            raise ConfigurationError(f"{self.jwks_file}: this is no set of keys (RFC 7517): {error}") from error
        fitting = [key for key in keys if key.algorithm_name == self.algorithm]
        if not fitting:
            raise ConfigurationError(f"{self.jwks_file}: none of its keys is for {self.algorithm}")
        return fitting


@dataclass(frozen=True, kw_only=True, slots=True)
class IdentityRules:
    """Where user and tenant come from; nowhere by default."""

    user: Source | None = None
    tenant: Source | None = None
    jwt: TokenRules | None = None

    @property
    def guarded(self) -> frozenset[bytes]:
        """Lower-case names of the headers that are dropped when the peer is not trusted."""
        sources = (self.user, self.tenant)
        return frozenset(source.name.encode() for source in sources if source and source.kind == "header")

    def identify(self, headers: Fields, *, trusted: bool) -> Identity:
        """Who a request with these header lines is for; ``trusted``: whether its peer is."""
        given = [(source, *_read_source(source, headers, self.jwt, trusted=trusted)) for source in self._sources]
        names = {id(source): name for source, name, _ in given}
        proofs = [self._proves(source) for source, name, _ in given if name is not None]
        return Identity(
            user=names.get(id(self.user)),
            tenant=names.get(id(self.tenant)),
            proven=bool(proofs) and all(proofs),
            reason=next((reason for _, _, reason in given if reason), ""),
        )

    @property
    def _sources(self) -> list[Source]:
        return [source for source in (self.user, self.tenant) if source is not None]

    def _proves(self, source: Source) -> bool:
        """A header got this far only from a trusted peer, a token with rules only when they hold."""
        return source.kind == "header" or (source.kind == "jwt" and self.jwt is not None)


def _read_source(source: Source, headers: Fields, rules: TokenRules | None, *, trusted: bool) -> _Read:
    if source.kind == "jwt":
        return _claim(source.name, headers, rules)
    if source.kind == "cookie":
        return _one(_cookies(source.name, headers))
    lines = _lines(source.name.encode(), headers)
    return _one(lines) if trusted or not lines else (None, "untrusted")


def _claim(name: str, headers: Fields, rules: TokenRules | None) -> _Read:
    lines = _lines(b"authorization", headers)
    tokens = [line[7:].strip() for line in lines if line[:7].lower() == b"bearer "]
    token, reason = _one(tokens, limit=64 * 1024)
    if token is None:
        return None, reason
    if len(lines) > 1:
        return None, "twice"
    try:
        value = (rules.claims(token) if rules else _unverified(token)).get(name)
    except ValueError as error:
        return None, str(error)
    return _one([value.encode()]) if isinstance(value, str) else (None, "claim")


def _unverified(token: str) -> dict[str, Any]:
    import jwt  # noqa: PLC0415 - an extra

    try:
        return jwt.decode(token, options={"verify_signature": False})
    except jwt.PyJWTError as error:
        raise ValueError(_fault(error)) from error


def _fault(error: Exception) -> str:
    """One word of a fixed few, since it becomes a metric's label."""
    name = type(error).__name__
    words = {
        "ExpiredSignatureError": "expired",
        "ImmatureSignatureError": "early",
        "InvalidSignatureError": "signature",
    }
    return words.get(name, "issuer" if "Issuer" in name else "audience" if "Audience" in name else "token")


def _lines(name: bytes, headers: Fields) -> list[bytes]:
    return [value for key, value in headers if key.lower() == name]


def _cookies(name: str, headers: Fields) -> list[bytes]:
    wanted = name.encode()
    pairs = (pair.partition(b"=") for line in _lines(b"cookie", headers) for pair in line.split(b";"))
    return [value.strip().strip(b'"') for key, _, value in pairs if key.strip() == wanted]


def _one(values: list[bytes], *, limit: int = _MAX_LENGTH) -> _Read:
    """The only value, when there is one and an event can carry it."""
    if len(values) != 1:
        return None, "twice" if values else ""
    try:
        text = values[0].decode()
    except UnicodeDecodeError:
        return None, "unreadable"
    return (text, "") if text and text.isprintable() and len(text) <= limit else (None, "unreadable")


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{file} cannot be read: {error.strerror or error}") from error
