"""What somebody sent, as JSON can carry it: JSON as ``data``, other text as ``text``, else base64 in ``body``. Pure."""

from __future__ import annotations

import base64
import json
from typing import Any, cast


def carried(body: bytes) -> dict[str, Any]:
    """``data``, ``text`` or ``body``: one of them, and nothing is lost."""
    value = read_json(body)
    if value is not None or body.strip() == b"null":
        return {"data": value}
    try:
        return {"text": body.decode()}
    except UnicodeDecodeError:
        return {"body": base64.b64encode(body).decode()}


def read_json(body: bytes) -> Any:
    """The body as JSON, ``None`` when it is none (or says NaN, or is nested too deeply to be handed on)."""
    try:
        return json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None


def _refuse(name: str) -> None:
    raise ValueError(name)


def text_of(value: Any, name: str) -> str | None:
    """The text that a JSON object has under ``name``, ``None`` for anything else."""
    found = cast("dict[str, Any]", value).get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) and found else None
