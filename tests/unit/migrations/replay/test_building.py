"""Which code was replayed, in the words of whoever keeps it."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from crossfade.migrations.replay.building import described


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder under git with one module that was loaded from it, and what git is told there."""
    (tmp_path / "shop.py").write_text("A = 1\n")
    module = types.ModuleType("shop_of_the_build")
    module.__file__ = str(tmp_path / "shop.py")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    who = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]

    def git(*words):
        subprocess.run(["git", *who, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    git.folder = tmp_path
    return git


def test_a_tag_is_the_build_and_a_change_shows(checkout):
    """What was not committed is another build."""
    checkout("add", "shop.py")
    checkout("commit", "-m", "x")
    checkout("tag", "v1.4")
    assert described(["shop_of_the_build"]) == "v1.4"
    (checkout.folder / "shop.py").write_text("A = 2\n")
    assert described(["shop_of_the_build"]) == "v1.4-dirty"


def test_what_git_does_not_keep_has_no_build(checkout, monkeypatch):
    """An installed package in a checkout, no file at all, several that differ, and a machine without git."""
    assert described(["shop_of_the_build"]) == "unknown"
    assert described([]) == described(["sys"]) == "unknown"
    checkout("add", "shop.py")
    checkout("commit", "-m", "x")
    assert described(["shop_of_the_build"]) != "unknown"
    assert described(["shop_of_the_build", "json"]) == "unknown"
    monkeypatch.setenv("PATH", "")
    assert described(["shop_of_the_build"]) == "unknown"
