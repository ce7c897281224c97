"""What every tier shares."""

from __future__ import annotations

import os
import sys

# Where this is set, every process of every test compiles all that it imports: half of the suite's CPU time.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

from hypothesis import HealthCheck, settings  # noqa: E402 - so that it is kept as bytecode, too

# A busy machine is no failure: how long an example takes says nothing about the law it tests.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

pytest_plugins = [
    "pytester",
    "plugins.conformance",
    "plugins.environment",
    "plugins.kafka",
    "plugins.nats",
    "plugins.needs",
    "plugins.notes",
    "plugins.sharing",
    "plugins.shells",
    "plugins.shop",
]
