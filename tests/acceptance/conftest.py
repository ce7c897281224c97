"""Desks to ask. The foreign project's tests are run by their own pytest, see test_foreign_project.py."""

from __future__ import annotations

import os

import pytest

from support.desks import DESK, run, stack

collect_ignore = ["foreign_project"]


@pytest.fixture(scope="session")
def desk_index(tmp_path_factory):
    """A folder that already holds an index; tests that write get a copy of it."""
    home = tmp_path_factory.mktemp("index")
    run("index", home=home)
    return home


@pytest.fixture(scope="session")
def standing(desk_index):
    """One stack for tests that leave it as they found it."""
    with stack(desk_index, DESK_REPORT_SECONDS="1.2") as running:
        yield running


@pytest.fixture
def desk_importable(monkeypatch):
    monkeypatch.syspath_prepend(str(DESK))


@pytest.fixture
def home(desk_index, tmp_path):
    for file in desk_index.glob("index-*.sqlite"):
        os.link(file, tmp_path / file.name)
    return tmp_path
