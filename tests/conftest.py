"""What every tier shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    import pytest

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
    "plugins.shop",
]


# Minutes long each, and a file runs in one process: begun last, one of them would keep the others waiting at the end.
_LONG = (
    "acceptance/test_docs.py",
    "faults/test_embedded_rounds.py",
    "integration/proxy/test_tasks.py",
    "acceptance/test_desk.py",
    "acceptance/test_cli.py",
    "integration/proxy/test_seams.py",
    "acceptance/test_desk_page.py",
    "faults/test_ledger_faults.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first, otherwise in the order found."""
    items.sort(
        key=lambda item: next((at for at, name in enumerate(_LONG) if str(item.path).endswith(name)), len(_LONG))
    )
