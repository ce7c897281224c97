"""The foreign project's tests are run by their own pytest, see test_foreign_project.py."""

from __future__ import annotations

collect_ignore = ["foreign_project"]
