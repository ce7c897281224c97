"""The page on triggers.yaml says what the code does."""

from __future__ import annotations

from support.triggers_page import PAGE, SCHEMA, page_text, schema_text


def test_the_tables_are_the_codes():
    """Run `PYTHONPATH=tests python -m support.triggers_page` after changing a setting."""
    assert PAGE.read_text() == page_text()


def test_the_schema_is_the_codes():
    """Run the same."""
    assert SCHEMA.read_text() == schema_text()
