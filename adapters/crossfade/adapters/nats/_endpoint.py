"""What a ``nats://`` URL says: where the servers are, who we are, and what the operator promises of them."""

from __future__ import annotations

import importlib.util
import re
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from crossfade.shim.errors import ConfigurationError

_WHERE = "CROSSFADE_BUS"
_DEFAULT_PORT = 4222
_FILES = ("creds", "nkey", "ca", "cert", "key")
_OPTIONS = (*_FILES, "inbox", "replicas", "sync")
_INBOX = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\Z")


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where to connect and as whom; two equal endpoints need no new connection.

    ``servers`` are ``host:port``. ``creds`` and ``nkey`` are files. ``ca``, ``cert`` and ``key`` are PEM files and
    mean TLS, as does ``tls`` alone (with the machine's own authorities). ``inbox`` begins every subject on which
    answers to this user come, so that a broker may keep others from hearing them. Secrets stay out of ``repr``.
    """

    servers: tuple[str, ...]
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    creds: Path | None = None
    nkey: Path | None = None
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None
    inbox: str = "_INBOX"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS settings, or ``None`` for plain TCP; ``ConfigurationError`` for files that are no PEM."""
        if not (self.tls or self.ca or self.cert):
            return None
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.cert:
                context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"the TLS files (ca, cert, key) cannot be used: {error}", where=_WHERE) from error
        return context


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What the operator states. ``synced``: fsync before each acknowledgement (``None``: not stated)."""

    replicas: int = 1
    synced: bool | None = None


def parse_url(url: str) -> tuple[Endpoint, Options]:
    """``nats://[user:pass@|token@]host[:port][,host[:port]][?option=value&...]`` or ``tls://``, read.

    Options: ``creds``, ``nkey``, ``ca``, ``cert``, ``key`` (files), ``inbox`` (a subject), ``replicas`` (1 to 5),
    ``sync=always``.
    Raises ``ConfigurationError`` that names the option.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("nats", "tls"):
        raise ConfigurationError(f"{parts.scheme!r} is no NATS scheme: use nats:// or tls://", where=_WHERE)
    if parts.path not in ("", "/"):
        raise ConfigurationError(f"a NATS URL has no path, found {parts.path!r}", where=_WHERE)
    options = _options(parts.query)
    identity, _, hosts = parts.netloc.rpartition("@")
    user, colon, password = identity.partition(":")
    files = {name: _file(name, options[name]) for name in _FILES if name in options}
    _check_pairs(files)
    _check_signing(files)
    return (
        Endpoint(
            servers=tuple(_server(host) for host in hosts.split(",")),
            user=unquote(user) if colon else None,
            password=unquote(password) if colon else None,
            token=unquote(user) if user and not colon else None,
            tls=parts.scheme == "tls",
            inbox=_inbox(options.get("inbox", "_INBOX")),
            **files,
        ),
        Options(replicas=_replicas(options.get("replicas", "1")), synced=_synced(options.get("sync"))),
    )


def _options(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name not in _OPTIONS:
            raise ConfigurationError(f"unknown option {name!r}: there are {', '.join(_OPTIONS)}", where=_WHERE)
        if name in options:
            raise ConfigurationError(f"option {name!r} is given twice", where=_WHERE)
        options[name] = value
    return options


def _server(text: str) -> str:
    try:
        host = urlsplit(f"//{text}")
        name, port = host.hostname, host.port or _DEFAULT_PORT
    except ValueError:
        name, port = None, 0
    if not name:
        raise ConfigurationError(f"{text!r} is no server: use host or host:port", where=_WHERE)
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


def _file(option: str, text: str) -> Path:
    path = Path(text)
    if not path.is_file():
        raise ConfigurationError(f"option {option!r}: there is no file {text!r}", where=_WHERE)
    return path


def _inbox(text: str) -> str:
    if not _INBOX.match(text):
        raise ConfigurationError(
            f"option 'inbox' is {text!r}: use tokens of A-Z, a-z, 0-9, _ and - joined by dots", where=_WHERE
        )
    return text


def _check_pairs(files: dict[str, Path]) -> None:
    if ("cert" in files) != ("key" in files):
        raise ConfigurationError("options 'cert' and 'key' belong together", where=_WHERE)


def _check_signing(files: dict[str, Path]) -> None:
    """nats-py signs with a library that it does not bring along."""
    for option in ("creds", "nkey"):
        if option in files and importlib.util.find_spec("nkeys") is None:
            raise ConfigurationError(f"option {option!r} needs the package nkeys: pip install nkeys", where=_WHERE)


def _replicas(text: str) -> int:
    if text not in ("1", "2", "3", "4", "5"):
        raise ConfigurationError(f"option 'replicas' is {text!r}: use 1, 3 or 5", where=_WHERE)
    return int(text)


def _synced(text: str | None) -> bool | None:
    if text not in (None, "always"):
        raise ConfigurationError(f"option 'sync' is {text!r}: the only statement is 'always'", where=_WHERE)
    return None if text is None else True
