"""The parts of the page on routes.yaml that the code knows: its tables and its JSON Schema.

``PYTHONPATH=tests python -m support.routes_page`` writes them; tests/acceptance/test_docs_proxy.py compares.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import json
import re
from dataclasses import fields

from crossfade.proxy import limits
from crossfade.proxy.settings import SHAPE, schema
from crossfade.proxy.shapes import ListOf, MapOf, Section, Shape
from support.project import TOP

PAGE = TOP / "docs" / "reference" / "routes.md"
SCHEMA = TOP / "docs" / "reference" / "routes.schema.json"

_HEAD = "| setting | what | default | danger |\n|---|---|---|---|\n"
_MARKED = re.compile(r"(<!-- table: (.*?) -->\n\n)(?:\|.*\n)*")


def sections(shape: Shape = SHAPE, at: str = "") -> dict[str, Section]:
    """Every section of the file by its dotted place."""
    match shape:
        case Section():
            found = {at or "the file": shape}
            for name, key in shape.keys.items():
                found |= sections(key.shape, f"{at}.{name}".lstrip("."))
            return found
        case ListOf() | MapOf():
            return sections(shape.item, f"{at}[]")
        case _:
            return {}


def table(at: str, section: Section) -> str:
    """A section's settings as Markdown."""
    if at == "limits":
        return _HEAD + "".join(_limit_rows())
    rows = [
        f"| `{name}` | {key.what} | {'required' if key.required else key.default or 'none'} | {key.danger} |\n"
        for name, key in section.keys.items()
    ]
    return _HEAD + "".join(rows)


def _limit_rows() -> list[str]:
    """A limit's words stand below it in the source: what, then perhaps its danger."""
    body = ast.parse(inspect.getsource(limits.Limits)).body[0].body
    texts = {
        first.target.id: second.value.value
        for first, second in itertools.pairwise(body)
        if isinstance(first, ast.AnnAssign) and isinstance(second, ast.Expr)
    }
    rows = []
    for limit in fields(limits.Limits):
        what, _, danger = " ".join(texts[limit.name].replace("``", "`").split()).partition(" Danger: ")
        danger = danger[:1].upper() + danger[1:]
        default = "no limit" if limit.default is None else f"{limit.default:,g}"
        rows.append(f"| `{limit.name}` | {what} | {default} | {danger} |\n")
    return rows


def with_tables(page: str, shape: Shape = SHAPE) -> str:
    """The page with each marked table as the code has it."""
    found = sections(shape)
    return _MARKED.sub(lambda mark: mark[1] + table(mark[2], found[mark[2]]), page)


def schema_text() -> str:
    """The schema's file."""
    return json.dumps(schema(), indent=2) + "\n"


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text()))
    SCHEMA.write_text(schema_text())
