"""Who may use the control API: named credentials, two roles, and sessions for browsers.

Rules
- A credential is 32 random bytes; the file holds its SHA-256 and its role, never itself. It is shown once.
- ``view`` reads, ``operate`` changes. What is not a read needs ``operate`` unless its endpoint says otherwise.
- A browser trades a credential for a session: a signed cookie (HttpOnly, SameSite=Strict). A change made by cookie
  needs the session's CSRF token in a header, which no other site can read; a change with a bearer needs none, for no
  browser sends that by itself.
- Where client certificates are asked for, one of that authority whose common name is a credential's name is as good as
  its token. A browser sends it by itself, so the gate's look at ``Origin`` must do: no page of another site is without.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, cast, get_args

from crossfade.shim.errors import ConfigurationError

from . import private_files
from .tokens import Keyring, TokenRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from .tokens import Key

Role = Literal["view", "operate"]

SESSION: Final = timedelta(hours=12)
COOKIE: Final = "crossfade_session"
CSRF_HEADER: Final = "x-crossfade-csrf"
CERTIFICATE: Final = "crossfade.certificate"
"""Where a request's scope holds the common name of a client's certificate."""

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.@-]{0,63}\Z")

E = TypeVar("E", bound="Callable[..., Any]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Credential:
    """A name, what it may do, and the hash of its secret (hex)."""

    name: str
    role: Role
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Caller:
    """Who asks. ``csrf`` is what a change must show, empty for one with a bearer token."""

    name: str
    role: Role
    csrf: str = ""

    def may(self, role: Role) -> bool:
        """Whether the role is enough for what needs ``role``."""
        return role == "view" or self.role == "operate"


RESERVED: Final = "controller"
"""Nobody's name: what is recorded of it, no person did."""


class Credentials:
    """The credentials of a file; a changed file counts at the next start."""

    def __init__(self, known: Sequence[Credential] = ()) -> None:
        self.known = tuple(known)

    @classmethod
    def load(cls, path: Path) -> Credentials:
        """What the file holds, nothing when there is none. Raises ``ConfigurationError``."""
        stored = private_files.read(path)
        try:
            return cls([_credential(each) for each in (stored or {"credentials": []})["credentials"]])
        except (KeyError, TypeError) as error:
            raise ConfigurationError(f"holds no credentials: {error!r}", where=str(path)) from error

    def save(self, path: Path) -> None:
        """Write them, for their owner only."""
        stored = [{"name": each.name, "role": each.role, "sha256": each.sha256} for each in self.known]
        private_files.write(path, {"credentials": stored})

    def with_new(self, name: str, role: str) -> tuple[Credentials, str]:
        """One more, or the one of this name replaced; and its secret. Raises ``ConfigurationError``."""
        if not _NAME.match(name):
            raise ConfigurationError(
                f"{name!r} is no name: use letters, digits and _.@-, 64 at most; it is recorded as who did something",
                where="name",
            )
        if name == RESERVED:
            raise ConfigurationError(f"{name!r} is who moves seams by itself: take another name", where="name")
        secret = f"cfc_{secrets.token_urlsafe(32)}"
        made = Credential(name=name, role=_role(role), sha256=_hash(secret))
        return Credentials([*(each for each in self.known if each.name != name), made]), secret

    def find(self, secret: str) -> Caller | None:
        """Whose secret this is, in a time that does not depend on which one."""
        given = _hash(secret)
        found = None
        for each in self.known:
            if hmac.compare_digest(each.sha256, given):
                found = Caller(name=each.name, role=each.role)
        return found

    def named(self, name: str) -> Caller | None:
        """Who shows a certificate of this name."""
        return next((Caller(name=each.name, role=each.role) for each in self.known if each.name == name), None)

    def has(self, name: str, role: str) -> bool:
        """Whether a session's owner still is who they were."""
        return any(each.name == name and each.role == role for each in self.known)


class Gatekeeper:
    """Reads who asks from a request's headers."""

    def __init__(self, credentials: Credentials, keyring: Keyring) -> None:
        self._credentials = credentials
        self._keyring = keyring

    def identify(self, headers: Mapping[str, str], *, certificate: str = "") -> Caller | None:
        """By bearer, else by cookie, else by the common name of a ``certificate``; ``None`` for nobody we know.

        A wrong bearer is never mended by anything else.
        """
        given = headers.get("authorization")
        if given is not None:
            scheme, _, secret = given.partition(" ")
            return self._credentials.find(secret.strip()) if scheme.lower() == "bearer" else None
        return self._of_session(_cookie(headers.get("cookie", ""))) or self._credentials.named(certificate)

    def open_session(self, caller: Caller) -> tuple[str, str]:
        """A cookie's value and the CSRF token that belongs to it."""
        value = self._keyring.sign(
            "session",
            {"n": caller.name, "r": caller.role, "i": secrets.token_hex(8)},
            expires=datetime.now(UTC) + SESSION,
        )
        return value, csrf_of(self._keyring.keys, value)

    def _of_session(self, value: str) -> Caller | None:
        try:
            claims, _ = self._keyring.verify("session", value)
        except TokenRefusedError:
            return None
        if not self._credentials.has(claims["n"], claims["r"]):
            return None
        return Caller(name=claims["n"], role=claims["r"], csrf=csrf_of(self._keyring.keys, value))


def common_name(certificate: Mapping[str, Any] | None) -> str:
    """The one common name in the subject of a certificate as ``ssl`` gives it once it has verified it; else nothing."""
    subject = (certificate or {}).get("subject", ())
    names = [value for part in subject for kind, value in part if kind == "commonName"]
    return str(names[0]) if len(names) == 1 else ""


def needs(role: Role) -> Callable[[E], E]:
    """Mark an endpoint that needs another role than its method says."""

    def mark(endpoint: E) -> E:
        cast("Any", endpoint).crossfade_role = role
        return endpoint

    return mark


def needed_role(endpoint: object, method: str) -> Role:
    """What calling this endpoint takes."""
    default: Role = "view" if method in ("GET", "HEAD", "OPTIONS") else "operate"
    return cast("Role", getattr(endpoint, "crossfade_role", default))


def csrf_of(keys: Sequence[Key], session: str) -> str:
    """The CSRF token of a session: derived, so that nothing is kept."""
    key_id = session.split(".")[1]
    key = next(key for key in keys if key.id == key_id)
    return hmac.new(key.secret, f"csrf.{session}".encode(), "sha256").hexdigest()


def _cookie(header: str) -> str:
    try:
        found = SimpleCookie(header).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _hash(secret: str) -> str:
    # No slow hash: 32 random bytes cannot be guessed, and every request pays for it.
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _credential(stored: Mapping[str, Any]) -> Credential:
    return Credential(name=str(stored["name"]), role=_role(stored["role"]), sha256=str(stored["sha256"]))


def _role(text: object) -> Role:
    if text not in get_args(Role):
        raise ConfigurationError(f"{text!r} is no role: use view or operate", where="role")
    return cast("Role", text)
