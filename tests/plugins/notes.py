"""Facts a run should show even when everything passes: measured times, blocks that were not run."""

from __future__ import annotations

import pytest

NOTES = pytest.StashKey[list[str]]()


def pytest_configure(config):
    config.stash[NOTES] = []


@pytest.fixture(scope="session")
def note(pytestconfig):
    """Call it with one line for the run's summary."""
    return pytestconfig.stash[NOTES].append


def pytest_terminal_summary(terminalreporter, config):
    if config.stash[NOTES]:
        terminalreporter.section("notes")
        for line in config.stash[NOTES]:
            terminalreporter.write_line(line)
