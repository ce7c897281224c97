"""A store of its own for every test, with nothing left running on it."""

from __future__ import annotations

import pytest

from integration.embedded.observed import end_everything


@pytest.fixture
def store(tmp_path):
    path = tmp_path / "bus"
    yield path
    end_everything(path)
