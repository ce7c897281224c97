"""What every tier shares."""

from __future__ import annotations

pytest_plugins = [
    "pytester",
    "plugins.conformance",
    "plugins.environment",
    "plugins.nats",
    "plugins.needs",
    "plugins.notes",
    "plugins.shop",
]
