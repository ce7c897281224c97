"""What every tier shares."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is no failure: how long an example takes says nothing about the law it tests.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

pytest_plugins = [
    "pytester",
    "plugins.conformance",
    "plugins.environment",
    "plugins.nats",
    "plugins.needs",
    "plugins.notes",
    "plugins.sharing",
    "plugins.shells",
    "plugins.shop",
]
