"""Reports on disk: Markdown files in the desk's ``reports`` folder, and how far each one has come."""

import hashlib
import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from desk import corpus
from desk.records import Report, Section


def folder() -> Path:
    """Where reports are written; made when it is missing."""
    path = corpus.home() / "reports"
    path.mkdir(parents=True, exist_ok=True)
    return path


def slug(text: str) -> str:
    """``text`` as a safe part of a file name."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:60] or "untitled"


def name_of(topic: str, request: str) -> str:
    """The file name of the report that the call ``request`` writes."""
    return f"{slug(topic)}-{slug(request)}.md" if request else f"{slug(topic)}.md"


def render(topic: str, sections: list[Section]) -> str:
    """The report as Markdown."""
    parts = [f"# {topic}", "From the documentation that is installed with Python."]
    for section in sections:
        parts += [f"## {section.heading}", *section.paragraphs]
        parts.append("Sources: " + ", ".join(f"`{source}`" for source in section.sources))
    return "\n\n".join(parts) + "\n"


def save(topic: str, text: str, request: str) -> Report:
    """Write the file, replacing one of the same topic and request."""
    name = name_of(topic, request)
    _replace(folder() / name, text)
    digest = hashlib.sha256(text.encode()).hexdigest()
    return Report(topic=topic, name=name, words=len(text.split()), sha256=digest)


def read(name: str) -> str | None:
    """The report of this file name, ``None`` when there is none; a name cannot lead out of the folder."""
    if not re.fullmatch(r"[a-z0-9-]+\.md", name):
        return None
    path = folder() / name
    return path.read_text(encoding="utf-8") if path.exists() else None


def note_progress(request: str, fraction: float, note: str) -> None:
    """Leave behind how far the report of ``request`` has come; ``fraction`` is 0 to 1."""
    if request:
        _replace(_progress(request), json.dumps({"fraction": round(fraction, 3), "note": note}))


def progress(request_id: str) -> dict[str, Any] | None:
    """The latest progress of any report that the calls of ``request_id`` write, ``None`` before the first step."""
    files = list(folder().glob(f".{slug(request_id)}-*.progress"))
    if not files:
        return None
    latest = max(files, key=lambda path: path.stat().st_mtime_ns)
    known: dict[str, Any] = json.loads(latest.read_text(encoding="utf-8"))
    return known


def _progress(request: str) -> Path:
    return folder() / f".{slug(request)}.progress"


def _replace(path: Path, text: str) -> None:
    handle, name = tempfile.mkstemp(prefix=".writing-", dir=path.parent)
    with os.fdopen(handle, "w", encoding="utf-8") as draft:
        draft.write(text)
        draft.flush()
        os.fsync(draft.fileno())
    Path(name).replace(path)
