"""What one proxy process is willing to spend on its clients and its upstreams.

Sizes are bytes, times are seconds. Each line: what, default, danger.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

from crossfade.shim.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """Every limit of the data plane."""

    connections: int = 10_000
    """Open client connections; one more is closed at once. Danger: each takes a descriptor and so does its upstream."""
    header_bytes: int = 32 * 1024
    """Header fields of a message: 431, from an upstream 502. Danger: many connections times this is memory."""
    header_count: int = 100
    """Header fields of a message: 431, from an upstream 502."""
    uri_bytes: int = 8 * 1024
    """The request target: 414."""
    body_bytes: int | None = None
    """A request's body: 413, by Content-Length before a byte is read. Default: no limit, bodies are streamed."""
    header_timeout: float = 10.0
    """From a connection's or a request's first byte to the end of its head: 408. Danger: below 5 phones suffer."""
    body_timeout: float = 30.0
    """Silence of a client inside its body: 408."""
    body_rate: int = 0
    """Least bytes per second of a body, on average after ``body_timeout``: 408. 0 asks nothing."""
    keepalive_timeout: float = 75.0
    """Silence of a client between requests: close. Danger: shorter than a balancer in front keeps, it sees resets."""
    send_timeout: float = 30.0
    """Silence of a client that does not read its answer, or of an upstream that does not read a body: abort."""
    connect_timeout: float = 5.0
    """Connecting to an upstream, TLS included: 504."""
    response_timeout: float = 60.0
    """From a request's end to the head of its response: 504. Danger: long-running answers need more, or a task."""
    read_timeout: float = 300.0
    """Silence of an upstream inside a response, event streams included: abort."""
    tunnel_timeout: float = 3600.0
    """Silence of an upgraded connection in both directions: close."""
    upstream_connections: int = 256
    """Open connections to one upstream; further requests wait. Danger: what its workers cannot take queues there."""
    upstream_waiting: int = 1024
    """Requests that wait for a connection: one more is a 503."""
    queue_timeout: float = 5.0
    """That wait: 503 with Retry-After."""
    upstream_idle_timeout: float = 30.0
    """An unused upstream connection: close. Danger: longer than the upstream keeps its own, more reuse races."""
    replay_bytes: int = 64 * 1024
    """How much of a body is kept to be sent again where that is legal."""
    linger_timeout: float = 2.0
    """How long an answered client that still sends is listened to, so that it can read the answer."""
    drain_timeout: float = 30.0
    """From SIGTERM to the last connection's end. Danger: longer than the supervisor waits before it kills."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is None and field.name == "body_bytes":
                continue
            least = (
                0
                if field.name in {"body_rate", "body_bytes", "replay_bytes", "upstream_waiting", "drain_timeout"}
                else None
            )
            if not isinstance(value, int | float) or math.isnan(value) or value < 0 or (least is None and value == 0):
                raise ConfigurationError(f"{value!r} is not above zero", where=f"limits.{field.name}")


def parse_limits(settings: dict[str, str]) -> Limits:
    """``Limits`` from text, as the command line has it; ``ConfigurationError`` names the setting that is wrong."""
    known = {field.name: field.type for field in fields(Limits)}
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in known:
            raise ConfigurationError(f"there is no such limit; there are {', '.join(known)}", where=f"limits.{name}")
        try:
            values[name] = float(text) if known[name] == "float" else int(text)
        except ValueError as error:
            raise ConfigurationError(f"{text!r} is not a number", where=f"limits.{name}") from error
    return Limits(**values)
