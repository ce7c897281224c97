import threading

import pytest

from crossfade import shim

pytest_plugins = ["crossfade.adapters.testing"]


def pytest_report_header():
    return f"crossfade from {shim.__file__}"


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) - before == set()
