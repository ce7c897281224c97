"""The pages on playbooks have every setting and every playbook as the code has them."""

from __future__ import annotations

import re

import pytest

from crossfade.migrations.builtin import builtins
from crossfade.migrations.playbook import SHAPE
from support.playbook_page import PAGE, page_text
from support.project import TOP
from support.routes_page import sections


def test_the_tables_are_the_codes():
    """Run `PYTHONPATH=tests python -m support.playbook_page` after changing a setting."""
    assert PAGE.read_text() == page_text()


def test_every_section_has_its_table():
    """No part of the file is without one; a step's abort is the playbook's."""
    assert set(re.findall(r"<!-- table: (.*?) -->", PAGE.read_text())) == set(sections(SHAPE)) - {"steps[].abort"}


@pytest.mark.parametrize("name", builtins())
def test_every_playbook_that_comes_along_has_its_page(name):
    """It says when to use it, what to watch, how to go back, and its title is the playbook's."""
    page = (TOP / "docs" / "playbooks" / f"{name}.md").read_text()

    assert page.startswith(f"# {builtins()[name].title}\n")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == ["When to use it", "What to watch", "How to go back"]
    assert f"(../playbooks/{name}.md)" in PAGE.read_text()
