"""Whose request it is and of which run, from what it came with; the ASGI and the WSGI middleware share this.

Rules

1. A header names a user, tenant, session, run or cause only when the peer is ``trusted``; from anybody else it is
   passed over and counted. So no stranger chooses the run, whose first choice of a path its later calls keep.
2. The run is ``X-Correlation-Id``, else the id of the trace that ``traceparent`` names, else a new one.
3. ``traceparent`` and ``tracestate`` are taken from everybody: they link, and prove nothing.
4. What is there twice, unreadable or empty names nobody. Nothing is guessed, and no request fails for it.
"""

from __future__ import annotations

import logging
import re
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from crossfade.shim.correlate import Correlation
from crossfade.shim.errors import ConfigurationError
from crossfade.shim.events import new_id
from crossfade.shim.hooks import report
from crossfade.shim.tracecontext import format_tracestate, parse_traceparent, parse_tracestate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Source: TypeAlias = "str | Callable[[Any], str | None]"
"""``header:NAME``, or a callable that is given the request, as the protocol has it, and answers a name or ``None``."""

CORRELATION: Final = "X-Correlation-Id"
CAUSATION: Final = "X-Causation-Id"
UNIX: Final = "unix"
"""The peer behind a socket that has no addresses."""

_log = logging.getLogger("crossfade")
_HEADER: Final = re.compile(r"header:([!#$%&'*+.^_`|~0-9A-Za-z-]+)\Z")
_MAX_LENGTH: Final = 1024  # characters: what crossfade.shim.correlate takes


class Correlating:
    """Says of each request which correlation is in force while it is answered.

    Raises ``ConfigurationError`` for a source or a peer that is none.
    """

    def __init__(
        self, *, user: Source | None, tenant: Source | None, session: Source | None, trusted: Iterable[str]
    ) -> None:
        self._user = _parse("user", user)
        self._tenant = _parse("tenant", tenant)
        self._session = _parse("session", session)
        if isinstance(trusted, str):
            raise ConfigurationError(f"{trusted!r} is one text: write a list of peers, [{trusted!r}]", where="trusted")
        peers = set(trusted)
        self._unix = UNIX in peers
        self._networks = [_network(peer) for peer in sorted(peers - {UNIX})]

    def correlation(self, request: Any, peer: str | None, fields: Callable[[str], Sequence[bytes]]) -> Correlation:
        """Of ``request`` from ``peer``, an address or ``None``; ``fields`` gives the values of a header by its name."""
        trusted = self._trusts(peer)

        def named(what: str, source: Source | None) -> str | None:
            if callable(source):
                return _called(what, source, request)
            return _of_header(what, fields(source), trusted=trusted) if source else None

        parent = parse_traceparent(_only("traceparent", fields("traceparent")) or "")
        run = named("run", CORRELATION) or (parent.trace_id if parent and trusted else None)
        states = [value.decode("latin-1") for value in fields("tracestate")] if parent else []
        return Correlation(
            run=run or new_id(),
            user=named("user", self._user),
            tenant=named("tenant", self._tenant),
            session=named("session", self._session),
            causation=named("cause", CAUSATION),
            traceparent=str(parent) if parent else None,
            tracestate=format_tracestate(parse_tracestate(",".join(states))) or None,
        )

    def _trusts(self, peer: str | None) -> bool:
        if not peer:
            return self._unix
        try:
            address = ip_address(peer)
        except ValueError:  # a name, as test clients have: no address, so in no network
            return False
        if isinstance(address, IPv6Address) and address.ipv4_mapped:
            address = address.ipv4_mapped
        return any(address in network for network in self._networks)


def answered(correlation: Correlation, given: Iterable[str]) -> list[tuple[str, str]]:
    """The header fields that the answer lacks; ``given``: the names of those it has, in lower case."""
    told = [(CORRELATION, correlation.run), ("traceparent", correlation.traceparent)]
    has = set(given)
    return [(name, value) for name, value in told if value and value.isascii() and name.lower() not in has]


def _parse(name: str, source: Source | None) -> Source | None:
    """``source``, a header's name without its ``header:``."""
    if source is None or callable(source):
        return source
    found = _HEADER.match(str(source))
    if found is None:
        raise ConfigurationError(f"{source!r} is no source: write header:NAME, or give a callable", where=name)
    return found[1]


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text, strict=False)
    except ValueError as error:
        raise ConfigurationError(
            f"{text!r} is no peer: write an address, a network like 10.0.0.0/8, or unix", where="trusted"
        ) from error


def _called(what: str, source: Callable[[Any], str | None], request: Any) -> str | None:
    try:
        name = source(request)
    except Exception:
        report.count("failed", reason=f"{what}-source")
        _log.exception("the source of the %s failed; the request is nobody's", what)
        return None
    return _checked(what, name) if name else None


def _of_header(what: str, values: Sequence[bytes], *, trusted: bool) -> str | None:
    if values and not trusted:
        report.count("skipped", reason=f"{what}-untrusted")
        return None
    return _only(what, values)


def _only(what: str, values: Sequence[bytes]) -> str | None:
    if len(values) > 1:
        report.count("skipped", reason=f"{what}-twice")
    if len(values) != 1 or not values[0]:
        return None
    return _checked(what, values[0].decode("utf-8", "replace"))


def _checked(what: str, name: object) -> str | None:
    """``name`` when events can carry it."""
    if isinstance(name, str) and len(name) <= _MAX_LENGTH and name.isprintable() and "\ufffd" not in name:
        return name
    report.count("skipped", reason=f"{what}-unreadable")
    return None
