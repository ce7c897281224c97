"""The parts of the page on triggers.yaml that the code knows: its tables and its JSON Schema.

``PYTHONPATH=tests python -m support.triggers_page`` writes them; tests/acceptance/test_docs_triggers.py compares.
"""

from __future__ import annotations

import json

from crossfade.migrations.triggers_shape import SHAPE, schema
from support.project import TOP
from support.routes_page import with_tables

PAGE = TOP / "docs" / "reference" / "triggers.md"
SCHEMA = TOP / "docs" / "reference" / "triggers.schema.json"


def page_text() -> str:
    """The page with each marked table as the code has it."""
    return with_tables(PAGE.read_text(), SHAPE)


def schema_text() -> str:
    """The schema's file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page_text())
    SCHEMA.write_text(schema_text())
