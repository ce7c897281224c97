"""The pages on the proxy have every setting and command as the code has them."""

from __future__ import annotations

import re

from support.routes_page import PAGE, SCHEMA, schema_text, sections, with_tables


def test_the_tables_are_the_codes():
    """Run `PYTHONPATH=tests python -m support.routes_page` after changing a setting or a limit."""
    page = PAGE.read_text()

    assert page == with_tables(page)


def test_every_section_has_its_table():
    """No part of the file is without one."""
    assert set(re.findall(r"<!-- table: (.*?) -->", PAGE.read_text())) == set(sections())


def test_the_schema_is_the_codes():
    """The file that editors follow is what the reader checks."""
    assert SCHEMA.read_text() == schema_text()
