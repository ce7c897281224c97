"""How a control process listens, and what it refuses to do without being told why."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from crossfade.shim.errors import ConfigurationError

from .stream import StreamLimits

STATE: Final = Path(".crossfade/control")
"""Where credentials and keys lie."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlSettings:
    """Options of a control process.

    Attributes:
        host: Where to listen. Default ``127.0.0.1``. Danger: other machines reach what can move every seam.
        port: The port; 0: one is chosen. Default 8081.
        state: Folder of credentials and stream keys (0600). Default ``.crossfade/control``. Danger: whoever reads the
            keys can read any user's stream.
        certificate, key: PEM files; with them the API is HTTPS. Default none.
        client_ca: PEM file; who shows a certificate of it with a credential's name as common name needs no token.
            Default none: certificates are not asked for. Danger: whoever gets such a name certified there is believed.
        plain_because: Why listening beyond this machine without TLS is fine, for the log. Default none: refused.
            Danger: tokens travel in clear on that network.
        hosts: Further names this process is asked by, checked against ``Host``. Default none: its own address and
            ``localhost``. Danger: a name somebody else can point here lets their page ask with a browser's cookie.
        origins: Origins (``https://app.example``) whose pages may read streams. Default none: pages of the same host.
        limits: See ``StreamLimits``.
    """

    host: str = "127.0.0.1"
    port: int = 8081
    state: Path = STATE
    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    plain_because: str = ""
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    limits: StreamLimits = field(default_factory=StreamLimits)

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("a certificate and its key go together", where="--tls-certificate, --tls-key")
        if self.client_ca is not None and not self.tls:
            raise ConfigurationError("client certificates need TLS: give --tls-certificate, too", where="--client-ca")
        if not is_loopback(self.host) and not self.tls and not self.plain_because.strip():
            raise ConfigurationError(
                f"{self.host} can be reached from other machines, and tokens would travel in clear: give "
                '--tls-certificate and --tls-key, or say why not: --plain-because "TLS ends at the ingress"',
                where="--listen",
            )
        for origin in self.origins:
            _check_origin(origin)

    @property
    def tls(self) -> bool:
        """Whether it speaks HTTPS."""
        return self.certificate is not None

    def allows(self, host: str) -> bool:
        """Whether a ``Host`` header names this process. Ports do not matter: no attacker chooses ours."""
        name = _name(host)
        own = {self.host.lower(), *map(str.lower, self.hosts)}
        return name in own or (is_loopback(self.host) and is_loopback(name))

    def url(self, port: int) -> str:
        """Where it listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{port}"


def parse_listen(text: str) -> tuple[str, int]:
    """``HOST:PORT``, or ``[V6]:PORT``. Raises ``ConfigurationError``."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdecimal() or int(port) > 65_535:
        raise ConfigurationError(f"{text!r} is no HOST:PORT: use one like 127.0.0.1:8081", where="--listen")
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _name(host: str) -> str:
    """The name in a ``Host`` header, lower-case and without its port."""
    try:
        return (urlsplit(f"//{host}").hostname or "").lower()
    except ValueError:
        return ""


def _check_origin(origin: str) -> None:
    try:
        parts = urlsplit(origin)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
        raise ConfigurationError(f"{origin!r} is no origin: use one like https://app.example", where="--allow-origin")
