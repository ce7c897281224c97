"""``routes.yaml``: where the proxy listens, which upstreams it has, which routes are seams. Frozen once read.

    upstreams: {legacy: http://127.0.0.1:9000}
    routes:
      - seam: http.reports
        match: POST /v1/reports
        upstream: legacy

Every setting is in ``settings.py``; ``reading.py`` makes a ``Config`` of a file. A seam's stage is no setting of this
file: it starts at ``legacy``, ``crossfade.toml`` may say otherwise, and live state wins, as for decorated functions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from crossfade.shim.http import CAPTURE, COMPARE
from crossfade.shim.matching import Pattern, Router
from crossfade.shim.policy import Effects, Policy

from .breaker import Rule
from .identity import IdentityRules
from .limits import Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .headers import Network

Mode = Literal["call", "task"]
Scheme = Literal["http", "https"]

LISTEN: Final = "127.0.0.1:8080"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_ANYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 - compared, not bound


@dataclass(frozen=True, kw_only=True, slots=True)
class Address:
    """Where to listen or connect; port 0 lets the system choose where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """``HOST:PORT``, an IPv6 host in brackets. Raises ``ValueError``, whose text says what to write instead."""
        host, colon, port = text.rpartition(":")
        bare = host.removeprefix("[").removesuffix("]")
        if not colon or not bare or not (port.isascii() and port.isdecimal()) or int(port) > 65_535 or "/" in host:
            raise ValueError(f"{text!r} is no HOST:PORT: write one like {LISTEN}, port 0 to have one chosen")
        if ":" in bare and bare == host:
            raise ValueError(f"{text!r}: write an IPv6 address in brackets, [{host}]:{port}")
        return cls(host=bare.lower(), port=int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def is_served_by(self, listener: Address) -> bool:
        """Whether connecting here reaches ``listener``, as far as names tell."""
        if not self.port or self.port != listener.port:
            return False
        same = self.host == listener.host or {self.host, listener.host} <= _LOOPBACK
        return same or (listener.host in _ANYWHERE and self.host in _LOOPBACK | _ANYWHERE)


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerTls:
    """The certificate the proxy shows; with ``client_ca`` clients must show one, too."""

    cert: str
    key: str
    client_ca: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class UpstreamTls:
    """How an ``https`` upstream is checked, and the certificate shown to it. ``server_name``: the host by default."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """A service behind the proxy; ``also`` are further addresses of it, alike in everything else."""

    name: str
    scheme: Scheme
    address: Address
    also: tuple[Address, ...] = ()
    tls: UpstreamTls | None = None

    @property
    def url(self) -> str:
        """``scheme://host:port``."""
        return f"{self.scheme}://{self.address}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Capture:
    """How many bytes of a body an observation keeps; a longer one is observed without its body."""

    request: int = CAPTURE
    response: int = CAPTURE


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """A seam of kind http. ``breaker``: when its bus path is not asked any more."""

    seam: str
    pattern: Pattern
    upstream: Upstream
    mode: Mode = "call"
    effects: Effects = "unsafe"
    timeout: float = 30.0
    capture: Capture = field(default_factory=Capture)
    breaker: Rule = field(default_factory=Rule)

    @property
    def policy(self) -> Policy:
        """Where the seam starts; ``crossfade.toml`` and live state come on top."""
        return Policy(effects=self.effects, timeout=self.timeout, compare=COMPARE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    """One whole configuration. ``control``: who serves streams and tasks; ``access_log``: a path, ``-`` for stdout."""

    listen: Address
    upstreams: Mapping[str, Upstream]
    default: Upstream
    tls: ServerTls | None = None
    identity: IdentityRules = field(default_factory=IdentityRules)
    trust: tuple[Network, ...] = ()
    limits: Limits = field(default_factory=Limits)
    control: Upstream | None = None
    access_log: str | None = None
    routes: tuple[Route, ...] = ()
    file: str = ""

    def warnings(self) -> list[str]:
        """What is legal and hardly meant, each with its remedy."""
        tasks = [] if self.control else [route for route in self.routes if route.mode == "task"]
        keyed = [] if self.identity.user else [route for route in self.routes if route.effects == "unsafe"]
        found = [f"{route.seam} {text}" for route in self.routes for text in route.pattern.doubts()]
        found += [
            f"{route.seam} has `mode: task` and nobody could look its tasks up, so its clients wait for their answers: "
            "add `control: HOST:PORT`, where `crossfade control` listens"
            for route in tasks
        ]
        found += [
            f"{route.seam} is unsafe and `identity` names no user, so its clients without Authorization share their "
            "Idempotency-Keys, and who repeats another's key and request is given the answer: say who asks, like "
            "`identity: {user: 'cookie:session'}`"
            for route in keyed
        ]
        return found

    def router(self) -> Router[Route]:
        """The routes, compiled."""
        return Router((route.pattern, route) for route in self.routes)
