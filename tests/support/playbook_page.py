"""The parts of the page on playbooks that the code knows: its tables.

``PYTHONPATH=tests python -m support.playbook_page`` writes them; tests/acceptance/test_docs_playbooks.py compares.
"""

from __future__ import annotations

from crossfade.migrations.playbook import SHAPE
from support.project import TOP
from support.routes_page import with_tables

PAGE = TOP / "docs" / "reference" / "playbook.md"


def page_text() -> str:
    """The page with each marked table as the code has it."""
    return with_tables(PAGE.read_text(), SHAPE)


if __name__ == "__main__":
    PAGE.write_text(page_text())
