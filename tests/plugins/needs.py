"""What becomes of a test marked ``needs`` on a machine without the program."""

from __future__ import annotations

import os

import pytest

from support import needs


def pytest_collection_modifyitems(items):
    # The mark, not pytest.skip() in a hook: the summary then names the test's own line.
    for item in items:
        remedy = _remedy(item)
        if remedy and not _under_ci():
            item.add_marker(pytest.mark.skip(reason=remedy))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    remedy = _remedy(item)
    if remedy and _under_ci():
        pytest.fail(remedy, pytrace=False)


def _under_ci() -> bool:
    return os.environ.get("CI") == "true"


def _remedy(item: pytest.Item) -> str | None:
    """What to install before ``item`` can run, or ``None``."""
    wanted = {mark.args[0] for mark in item.iter_markers("needs")}
    if not wanted:
        return None
    try:
        return needs.remedy(wanted) or None
    except LookupError as error:
        raise pytest.UsageError(f"{item.nodeid} needs {error}") from None
