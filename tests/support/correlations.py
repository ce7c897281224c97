"""What a request's code finds in force, as JSON."""

from __future__ import annotations

from crossfade import shim

_NAMES = ("run", "user", "tenant", "session", "causation", "traceparent", "tracestate")


def here() -> dict[str, str | None]:
    """The correlation in force, by name; empty without one."""
    found = shim.current_correlation()
    return {} if found is None else {name: getattr(found, name) for name in _NAMES}
