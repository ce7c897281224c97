"""Links between the project's own pages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_CODE = re.compile(r"^(\s*)(`{3,}|~{3,}).*?^\1\2`*\s*$|`[^`\n]+`", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_REFERENCE = re.compile(r"^\s*\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)


def links(page: Path) -> list[str]:
    """The targets of a page's links to files and headings of this project, code left out."""
    text = _CODE.sub("", page.read_text())
    targets = _INLINE.findall(text) + _REFERENCE.findall(text)
    return [target for target in targets if not re.match(r"[a-z][a-z0-9+.-]*:", target)]


def broken(page: Path) -> list[str]:
    """The links of ``page`` that lead nowhere: no such file, or no such heading in it."""
    return [target for target in links(page) if not _resolves(page, target)]


def _resolves(page: Path, target: str) -> bool:
    name, _, heading = target.partition("#")
    other = page.parent / name if name else page
    if not other.exists():
        return False
    return not heading or heading in anchors(other)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as code hosts make them: ``The bus: why`` -> ``the-bus-why``."""
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1`*\s*$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    words = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in _HEADING.findall(text))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in words}
