"""Secret arguments on their way through the bus: encrypted by callers, opened by workers, bound to one call.

A sealed value is ``v1.<key id>.<base64url of nonce, ciphertext and tag>``: AES-256-GCM (NIST SP 800-38D) with a
random 96-bit nonce, so rotate a key before 2^32 values. The caller's ``context`` (seam, call id, parameter) is
authenticated with it: a value copied into another call, parameter or seam does not open. The length of the value
is not hidden.

Keys come from ``CROSSFADE_SEAL_KEY`` or, as a file's content, ``CROSSFADE_SEAL_KEY_FILE``:
``id:base64[,id2:base64]`` (or one a line), each 32 bytes (``openssl rand -base64 32``). The first one seals, all
of them open, so a key is rotated by adding the new one behind, then moving it to the front, then removing the old.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .errors import ConfigurationError, MalformedEventError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VARIABLE: Final = "CROSSFADE_SEAL_KEY"
_VERSION: Final = "v1"
_NONCE: Final = 12  # bytes
_TAG: Final = 16
_KEY: Final = 32

_entry = re.compile(r"([A-Za-z0-9_-]{1,32}):([A-Za-z0-9+/_-]{43}=?)\Z").match
_sealed = re.compile(r"v1\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]+={0,2})\Z").match


class Sealer:
    """Seals with the first of ``keys`` (id -> 32 bytes) and opens with any of them. Thread-safe.

    Raises ``ConfigurationError`` for no key or one of another length, ``MissingExtraError`` without ``cryptography``.
    """

    __slots__ = ("_ciphers", "_first")

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        if not keys:
            raise ConfigurationError("no key to seal with", where=_VARIABLE)
        self._first = next(iter(keys))
        self._ciphers = {name: _cipher(name, key) for name, key in keys.items()}

    @classmethod
    def from_environment(cls) -> Sealer | None:
        """With the keys named at the top, or ``None`` when neither variable is set.

        Raises ``ConfigurationError`` (both are set, the file cannot be read, a key is malformed), which never
        shows a key.
        """
        text, path = os.environ.get(_VARIABLE, ""), os.environ.get(f"{_VARIABLE}_FILE", "")
        if text and path:
            raise ConfigurationError(f"is set beside {_VARIABLE}_FILE: keep one", where=_VARIABLE)
        if path:
            return cls(_parse(_read(path), where=f"{_VARIABLE}_FILE"))
        return cls(_parse(text, where=_VARIABLE)) if text else None

    def __repr__(self) -> str:
        return f"Sealer(seals with {self._first!r}, opens {sorted(self._ciphers)})"

    def seal(self, value_json: bytes, *, context: bytes) -> str:
        """``value_json`` encrypted; two calls with the same value give different texts."""
        nonce = os.urandom(_NONCE)
        sealed = self._ciphers[self._first].encrypt(nonce, value_json, _bound(self._first, context))
        return f"{_VERSION}.{self._first}.{base64.urlsafe_b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, *, context: bytes) -> bytes:
        """The value that was sealed for this very ``context``.

        Raises ``MalformedEventError``: reason ``seal-key`` when this process lacks the key it was sealed with,
        ``seal`` when it was changed, cut, or sealed for another call, parameter or seam.
        """
        found = _sealed(sealed)
        if not found:
            raise MalformedEventError("this is no sealed value", reason="seal")
        name, text = found.groups()
        cipher = self._ciphers.get(name)
        if cipher is None:
            raise MalformedEventError(
                f"sealed with key {name!r}, which is not in {_VARIABLE} here: add it to open older commands",
                reason="seal-key",
            )
        return _decrypt(cipher, text, _bound(name, context))


def _decrypt(cipher: AESGCM, text: str, bound: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

    try:
        data = base64.urlsafe_b64decode(text)
        if len(data) < _NONCE + _TAG or base64.urlsafe_b64encode(data).decode() != text:
            raise MalformedEventError("the sealed value is cut short or spelt in another way", reason="seal")
        return cipher.decrypt(data[:_NONCE], data[_NONCE:], bound)
    except (ValueError, InvalidTag):
        raise MalformedEventError(
            "the sealed value was changed, or sealed for another call, parameter or seam", reason="seal"
        ) from None


def _bound(name: str, context: bytes) -> bytes:
    """What the tag covers beside the value; a key id holds no separator, so the parts cannot shift."""
    return f"crossfade {_VERSION} {name}\x1f".encode() + context


def _cipher(name: str, key: bytes) -> AESGCM:
    try:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("sealed", needed_for="sealing secret parameters") from error
    if len(key) != _KEY:
        raise ConfigurationError(f"key {name!r} has {len(key)} bytes, not {_KEY}", where=_VARIABLE)
    return AESGCM(key)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} cannot be read ({type(error).__name__})", where=f"{_VARIABLE}_FILE") from None


def _parse(text: str, *, where: str) -> dict[str, bytes]:
    keys: dict[str, bytes] = {}
    for at, entry in enumerate(re.split(r"[,\s]+", text.strip()), 1):
        found = _entry(entry)
        if not found:  # the text is not shown: it may be most of a key
            raise ConfigurationError(
                f"key {at} is not id:base64 of {_KEY} bytes (id: A-Z, a-z, 0-9, _ and -; openssl rand -base64 32)",
                where=where,
            )
        name, encoded = found.groups()
        if name in keys:
            raise ConfigurationError(f"key id {name!r} is there twice", where=where)
        keys[name] = base64.urlsafe_b64decode(encoded.rstrip("=").replace("+", "-").replace("/", "_") + "=")
    return keys
