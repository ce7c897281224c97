"""What a ``kafka://`` URL says: where the brokers are, who we are, and how topics are made that are not there."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from crossfade.shim.errors import ConfigurationError

_WHERE: Final = "CROSSFADE_BUS"
_DEFAULT_PORT: Final = 9092
_FILES: Final = ("ca", "cert", "key")
_OPTIONS: Final = (*_FILES, "tls", "sasl", "replicas", "sync")
_MECHANISMS: Final = {"plain": "PLAIN", "scram-sha-256": "SCRAM-SHA-256", "scram-sha-512": "SCRAM-SHA-512"}
_USER, _PASSWORD = "CROSSFADE_KAFKA_USER", "CROSSFADE_KAFKA_PASSWORD"


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """Where to connect and as whom. ``servers`` are ``host:port``; secrets stay out of ``repr``.

    ``mechanism`` is SASL's, ``None`` without. ``ca``, ``cert`` and ``key`` are PEM files and mean TLS, as does ``tls``
    alone (with the machine's own authorities).
    """

    servers: tuple[str, ...]
    mechanism: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @property
    def security(self) -> str:
        """Kafka's name for the mix of TLS and SASL."""
        tls = self.tls or self.ca is not None or self.cert is not None
        if self.mechanism:
            return "SASL_SSL" if tls else "SASL_PLAINTEXT"
        return "SSL" if tls else "PLAINTEXT"

    def ssl_context(self) -> ssl.SSLContext | None:
        """The TLS settings, or ``None`` for plain TCP; ``ConfigurationError`` for files that are no PEM."""
        if not self.security.endswith("SSL"):
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
    """How topics are made. ``replicas``: copies (``None``: the brokers' default); ``synced``: fsync before each ack."""

    replicas: int | None = None
    synced: bool = False


def parse_url(url: str) -> tuple[Endpoint, Options]:
    """``kafka://[user:password@]host[:port][,host[:port]][?option=value&...]``, read.

    Options: ``tls=on``, ``ca``, ``cert``, ``key`` (files), ``sasl`` (``plain``, ``scram-sha-256``, ``scram-sha-512``;
    its user and password also from ``CROSSFADE_KAFKA_USER`` and ``CROSSFADE_KAFKA_PASSWORD``), ``replicas``,
    ``sync=always``. Raises ``ConfigurationError`` that names the option.
    """
    parts = urlsplit(url)
    if parts.scheme != "kafka":
        raise ConfigurationError(f"{parts.scheme!r} is no Kafka scheme: use kafka://", where=_WHERE)
    if parts.path not in ("", "/"):
        raise ConfigurationError(f"a Kafka URL has no path, found {parts.path!r}", where=_WHERE)
    options = _options(parts.query)
    identity, _, hosts = parts.netloc.rpartition("@")
    mechanism, user, password = _identity(identity, options.get("sasl"))
    files = {name: _file(name, options[name]) for name in _FILES if name in options}
    if ("cert" in files) != ("key" in files):
        raise ConfigurationError("options 'cert' and 'key' belong together", where=_WHERE)
    endpoint = Endpoint(
        servers=tuple(_server(host) for host in hosts.split(",")),
        mechanism=mechanism,
        user=user,
        password=password,
        tls=_one_of("tls", options.get("tls"), "on"),
        **files,
    )
    return endpoint, Options(
        replicas=_replicas(options.get("replicas")), synced=_one_of("sync", options.get("sync"), "always")
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


def _identity(identity: str, mechanism: str | None) -> tuple[str | None, str | None, str | None]:
    """SASL mechanism, user and password; a user in the URL means PLAIN unless told otherwise."""
    user, colon, password = identity.partition(":")
    name = unquote(user) or os.environ.get(_USER)
    secret = unquote(password) if colon else os.environ.get(_PASSWORD)
    if mechanism is None and not user:
        return None, None, None
    chosen = _MECHANISMS.get(mechanism or "plain")
    if chosen is None:
        raise ConfigurationError(f"sasl={mechanism} is not known: use {', '.join(_MECHANISMS)}", where=_WHERE)
    if not name or secret is None:
        raise ConfigurationError(f"SASL needs a user and a password: set {_USER} and {_PASSWORD}", where=_WHERE)
    return chosen, name, secret


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


def _one_of(option: str, value: str | None, allowed: str) -> bool:
    if value not in (None, allowed):
        raise ConfigurationError(f"{option}={value} is not known: use {option}={allowed} or leave it out", where=_WHERE)
    return value is not None


def _replicas(text: str | None) -> int | None:
    if text is None:
        return None
    if not text.isdecimal() or not 1 <= int(text) <= 9:
        raise ConfigurationError(f"replicas={text} is no number of copies: use 1 to 9", where=_WHERE)
    return int(text)
