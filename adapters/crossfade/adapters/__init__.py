"""Buses, triggers, frameworks and telemetry; each module needs its own extra."""
