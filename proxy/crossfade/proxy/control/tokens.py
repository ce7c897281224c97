"""Signed, expiring texts: who may read which user's stream, and who is logged in to the API.

``{purpose}1.{key id}.{claims}.{mac}``: base64url without padding, HMAC-SHA256 (RFC 2104) over everything before it.
The purpose is part of what is signed, so that a token for one thing is no token for another. Keys lie in a file of
their owner's (0600); the newest one signs, every one of them is accepted, so that rotating throws nobody out.
Standard library only: a frontend mints tokens without loading the control API.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Self, cast

from crossfade.shim.errors import ConfigurationError, CrossfadeError

from . import private_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

Purpose = Literal["stream", "session"]

LONGEST: Final = timedelta(days=7)
"""What a stream token may live at most: whoever finds one reads that user's events until then."""

KEPT: Final = 2
"""Keys that are accepted after a rotation: the new one and the one before."""

_LIMIT: Final = 4096  # characters of a token
_NAMES: Final = 1024  # characters of a user or tenant, as in shim.correlate


class TokenRefusedError(CrossfadeError):
    """A token is not one of ours, or not any more. ``reason``: ``malformed``, ``signature`` or ``expired``."""

    def __init__(self, reason: Literal["malformed", "signature", "expired"]) -> None:
        self.reason = reason
        super().__init__(f"the token is refused: {reason}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A signing key: 32 random bytes, and the name it goes by."""

    id: str
    secret: bytes

    @classmethod
    def new(cls) -> Self:
        """A fresh one."""
        return cls(id=secrets.token_hex(4), secret=secrets.token_bytes(32))


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamToken:
    """Whose events may be read, until when. ``id`` is what a revocation names."""

    user: str
    tenant: str
    expires: datetime
    id: str


class Keyring:
    """The keys, newest first."""

    def __init__(self, keys: Sequence[Key]) -> None:
        if not keys:
            raise ConfigurationError("there is no key in it", where="stream keys")
        self.keys = tuple(keys)

    @classmethod
    def load(cls, path: Path) -> Self:
        """The keys of a file; one is made, with a key, when there is none. Raises ``ConfigurationError``."""
        stored = private_files.read(path)
        if stored is None:
            made = cls([Key.new()])
            made.save(path)
            return made
        try:
            keys = [Key(id=str(each["id"]), secret=_decode(each["secret"])) for each in stored["keys"]]
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigurationError(f"holds no keys: {error!r}", where=str(path)) from error
        return cls(keys)

    def save(self, path: Path) -> None:
        """Write the keys, for their owner only."""
        stored = [{"id": key.id, "secret": _encode(key.secret)} for key in self.keys]
        private_files.write(path, {"keys": stored})

    def rotated(self) -> Keyring:
        """With a new key in front, and the one before it still accepted."""
        return Keyring([Key.new(), *self.keys][:KEPT])

    # -- streams -----------------------------------------------------------------------------------------------

    def mint(self, *, user: str, tenant: str = "", ttl: timedelta, now: datetime | None = None) -> str:
        """A token for the stream of ``user`` of ``tenant``.

        Raises ``ConfigurationError`` for no user, a ``ttl`` that is not between a second and seven days, and names
        that no event can carry.
        """
        if not user:
            raise ConfigurationError("say whose stream: events of nobody have none", where="user")
        for where, name in (("user", user), ("tenant", tenant)):
            if len(name) > _NAMES or not name.isprintable():
                raise ConfigurationError(f"must be printable text of {_NAMES} characters at most", where=where)
        if not timedelta(seconds=1) <= ttl <= LONGEST:
            raise ConfigurationError("must be between a second and seven days", where="ttl")
        expires = (now or datetime.now(UTC)) + ttl
        return self.sign("stream", {"u": user, "t": tenant, "i": secrets.token_hex(8)}, expires=expires)

    def read(self, text: str, *, now: datetime | None = None) -> StreamToken:
        """Whose stream ``text`` opens. Raises ``TokenRefusedError``."""
        claims, expires = self.verify("stream", text, now=now)
        user, tenant, identity = claims.get("u"), claims.get("t"), claims.get("i")
        if not (isinstance(user, str) and isinstance(tenant, str) and isinstance(identity, str) and user):
            raise TokenRefusedError("malformed")
        return StreamToken(user=user, tenant=tenant, expires=expires, id=identity)

    # -- anything ----------------------------------------------------------------------------------------------

    def sign(self, purpose: Purpose, claims: Mapping[str, Any], *, expires: datetime) -> str:
        """A token that holds ``claims`` until ``expires``."""
        key = self.keys[0]
        body = json.dumps({**claims, "exp": int(expires.timestamp())}, separators=(",", ":"))
        signed = f"{purpose}1.{key.id}.{_encode(body.encode('utf-8', 'backslashreplace'))}"
        return f"{signed}.{_encode(_mac(key, signed))}"

    def verify(self, purpose: Purpose, text: str, *, now: datetime | None = None) -> tuple[dict[str, Any], datetime]:
        """The claims and the end of a token. Raises ``TokenRefusedError``."""
        signed, _, mac = text.rpartition(".")
        parts = signed.split(".")
        if len(text) > _LIMIT or len(parts) != 3 or parts[0] != f"{purpose}1":
            raise TokenRefusedError("malformed")
        try:
            given, body = _decode(mac), _decode(parts[2])
        except ValueError:
            raise TokenRefusedError("malformed") from None
        key = next((key for key in self.keys if key.id == parts[1]), None)
        if key is None or not hmac.compare_digest(given, _mac(key, signed)):
            raise TokenRefusedError("signature")
        claims = cast("dict[str, Any]", json.loads(body))  # we wrote it
        expires = datetime.fromtimestamp(claims["exp"], UTC)
        if (now or datetime.now(UTC)) >= expires:
            raise TokenRefusedError("expired")
        return claims, expires


def _mac(key: Key, signed: str) -> bytes:
    return hmac.digest(key.secret, signed.encode("utf-8", "surrogatepass"), "sha256")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _decode(text: str) -> bytes:
    """Strict: one text per value, or a token could be spelled in two ways."""
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("no base64url") from error
    if _encode(data) != text:
        raise ValueError("no canonical base64url")
    return data
