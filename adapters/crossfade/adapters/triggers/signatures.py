"""Who signed a webhook: the schemes of GitHub, Stripe, Slack and Standard Webhooks. Pure.

    scheme    header                          signed with HMAC-SHA256          what its sender calls a delivery
    github    X-Hub-Signature-256             body                             X-GitHub-Delivery
    stripe    Stripe-Signature: t=,v1=        time "." body                    id in the body
    slack     X-Slack-Signature: v0=          "v0:" time ":" body              event_id in the body
    standard  webhook-signature: v1,...       id "." time "." body             webhook-id
    bearer    Authorization: Bearer           (nothing; the secret itself)     ce-source and ce-id

Rules
- The raw body is what was signed: nothing is parsed before its signature is known to be good.
- Every secret is tried, and every signature in the header, each in constant time: senders rotate keys by sending two.
- A signed time further away than ``tolerance`` is refused: what was overheard cannot be sent again later. GitHub and
  bearers sign no time; there only the delivery's id tells a repetition.
- Without an id of its sender's, a delivery is known by the hash of its body and of the time it was signed at.

Sources: the providers' own pages on verifying deliveries; Standard Webhooks specification 1.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

from crossfade.shim.errors import ConfigurationError, CrossfadeError

from .bodies import read_json, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Scheme: TypeAlias = Literal["github", "stripe", "slack", "standard", "bearer"]
SCHEMES: Final[tuple[Scheme, ...]] = get_args(Scheme)

TOLERANCE: Final = 300.0
"""Seconds that a signed time may be off, as the providers advise."""

_STANDARD_SECRET: Final = "whsec_"  # noqa: S105 - the prefix of one
_SECONDS: Final = re.compile(r"[0-9]{1,12}\Z", re.ASCII)
_MOST_SIGNATURES: Final = 16  # in one header: a sender that rotates keys sends two


class SignatureError(CrossfadeError):
    """A delivery is not its sender's. ``reason``: ``missing``, ``malformed``, ``stale`` or ``mismatch``."""

    def __init__(self, message: str, *, reason: Literal["missing", "malformed", "stale", "mismatch"]) -> None:
        self.reason = reason
        super().__init__(message)


@dataclass(frozen=True, kw_only=True, slots=True)
class Signed:
    """What a good signature covers. ``id``: what the sender calls it; ``time``: when it signed, if it says so."""

    id: str | None = None
    time: int | None = None


def read_secret(scheme: Scheme, text: str) -> bytes:
    """A secret as the provider shows it, as the key it stands for. Raises ``ConfigurationError``; never shows it."""
    if not text:
        raise ConfigurationError("the secret is empty: copy it from the sender's settings", where="secret")
    if scheme != "standard":
        return text.encode()
    try:
        return base64.b64decode(text.removeprefix(_STANDARD_SECRET), validate=True)
    except binascii.Error:
        raise ConfigurationError(
            "this is no secret of Standard Webhooks: it is base64, with or without whsec_ before it", where="secret"
        ) from None


def verify(
    scheme: Scheme,
    headers: Mapping[str, str],
    body: bytes,
    secrets: tuple[bytes, ...],
    *,
    now: float,
    tolerance: float = TOLERANCE,
) -> Signed:
    """What is signed, once one of ``secrets`` has signed it. ``headers`` have lower-case names; ``now`` is Unix time.

    Raises ``SignatureError``.
    """
    signed, content, given = _READERS[scheme](headers, body)
    if signed.time is not None and abs(now - signed.time) > tolerance:
        raise SignatureError(
            f"it was signed {abs(now - signed.time):.0f} s from now, {tolerance:g} s are allowed: is this clock right?",
            reason="stale",
        )
    wanted = secrets if content is None else [hmac.new(key, content, hashlib.sha256).digest() for key in secrets]
    # No `any`: how long it takes must not say which of them it was.
    good = sum(hmac.compare_digest(one, other) for one in wanted for other in given)
    if not good:
        raise SignatureError("no signature of it fits a secret that is set here", reason="mismatch")
    return signed


def delivery_parts(scheme: Scheme, signed: Signed, headers: Mapping[str, str], body: bytes) -> tuple[str, ...]:
    """What makes a delivery the same at every retry: its sender's id for it, else a hash of what was signed."""
    found = signed.id
    if scheme in ("stripe", "slack"):
        found = text_of(read_json(body), "id" if scheme == "stripe" else "event_id")
    if scheme == "github":
        found = headers.get("x-github-delivery")
    if scheme == "bearer" and headers.get("ce-id"):
        return scheme, headers.get("ce-source", ""), headers["ce-id"]
    if found:
        return scheme, found
    return scheme, "sha256", hashlib.sha256(body).hexdigest(), str(signed.time or "")


_Read: TypeAlias = "tuple[Signed, bytes | None, list[bytes]]"
"""What is signed, the bytes that were (``None``: the secret itself is sent), and the signatures that came."""


def _github(headers: Mapping[str, str], body: bytes) -> _Read:
    return Signed(), body, [_hex(_header(headers, "x-hub-signature-256"), "sha256=")]


def _stripe(headers: Mapping[str, str], body: bytes) -> _Read:
    items = [item.strip().partition("=") for item in _header(headers, "stripe-signature").split(",")]
    times = [value for name, _, value in items if name == "t"]
    given = [value for name, _, value in items if name == "v1"]
    if len(times) != 1 or not 0 < len(given) <= _MOST_SIGNATURES:
        raise SignatureError("Stripe-Signature must say t= once and v1= at least once", reason="malformed")
    signed = Signed(time=_seconds(times[0]))
    return signed, b"%s.%s" % (times[0].encode(), body), [_hex(one) for one in given]


def _slack(headers: Mapping[str, str], body: bytes) -> _Read:
    time = _header(headers, "x-slack-request-timestamp")
    signed = Signed(time=_seconds(time))
    return signed, b"v0:%s:%s" % (time.encode(), body), [_hex(_header(headers, "x-slack-signature"), "v0=")]


def _standard(headers: Mapping[str, str], body: bytes) -> _Read:
    ident, time = _header(headers, "webhook-id"), _header(headers, "webhook-timestamp")
    signed = Signed(id=ident, time=_seconds(time))
    # Other versions (v1a is asymmetric) are another key's business: passed over, as the specification wants it.
    given = [one.removeprefix("v1,") for one in _header(headers, "webhook-signature").split() if one.startswith("v1,")]
    if not 0 < len(given) <= _MOST_SIGNATURES:
        raise SignatureError("webhook-signature must have a signature v1,...", reason="malformed")
    content = b"%s.%s.%s" % (ident.encode("latin-1"), time.encode(), body)
    return signed, content, [_base64(one) for one in given]


def _bearer(headers: Mapping[str, str], body: bytes) -> _Read:  # noqa: ARG001 - as its neighbours
    scheme, _, given = _header(headers, "authorization").partition(" ")
    if scheme.lower() != "bearer" or not given.strip():
        raise SignatureError("Authorization must be Bearer and a secret", reason="malformed")
    return Signed(), None, [given.strip().encode("latin-1")]


_READERS: Final[Mapping[Scheme, Callable[[Mapping[str, str], bytes], _Read]]] = {
    "github": _github,
    "stripe": _stripe,
    "slack": _slack,
    "standard": _standard,
    "bearer": _bearer,
}


def _header(headers: Mapping[str, str], name: str) -> str:
    value = headers.get(name, "").strip()
    if not value:
        raise SignatureError(f"there is no {name}", reason="missing")
    return value


def _seconds(text: str) -> int:
    if not _SECONDS.match(text):
        raise SignatureError("the signed time is no Unix time in seconds", reason="malformed")
    return int(text)


def _hex(text: str, prefix: str = "") -> bytes:
    digits = text.removeprefix(prefix) if text.startswith(prefix) else "no digits"
    try:
        return bytes.fromhex(digits)
    except ValueError:
        raise SignatureError(f"the signature is no hex digits after {prefix!r}", reason="malformed") from None


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise SignatureError("the signature is no base64", reason="malformed") from None
