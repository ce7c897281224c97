"""Summaries by a language model, when ``DESK_MODEL_URL`` names an OpenAI-compatible endpoint (``http://host/v1``).

``DESK_MODEL_NAME``, ``DESK_MODEL_KEY`` and ``DESK_MODEL_TIMEOUT`` (seconds, 20) are optional.
"""

import os
import re

from desk.http_client import HttpError, post
from desk.records import Point

_INSTRUCTION = (
    "Answer the question in at most {limit} sentences, using only the numbered passages. "
    "End every sentence with the number of its passage in square brackets, like [2]."
)
_CITED = re.compile(r"(?P<text>[^\[\]]+?)\s*\[(?P<source>\d+)\](?:\[\d+\])*[.\s]*")


class ModelError(Exception):
    """The endpoint gave no usable answer; the text says what it did instead."""


def model_url() -> str:
    """The endpoint in use, ``""`` when the desk summarises on its own."""
    return os.environ.get("DESK_MODEL_URL", "").rstrip("/")


def ask(url: str, texts: list[str], question: str, limit: int) -> list[Point]:
    """The model's sentences with their sources; raises ``ModelError``."""
    passages = "\n\n".join(f"[{number}] {text}" for number, text in enumerate(texts, start=1))
    body = {
        "model": os.environ.get("DESK_MODEL_NAME", "default"),
        "temperature": 0,
        "messages": [
            {"role": "system", "content": _INSTRUCTION.format(limit=limit)},
            {"role": "user", "content": f"{passages}\n\nQuestion: {question}"},
        ],
    }
    key = os.environ.get("DESK_MODEL_KEY")
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    timeout = float(os.environ.get("DESK_MODEL_TIMEOUT") or 20)
    try:
        reply = post(f"{url}/chat/completions", body, timeout=timeout, headers=headers)
        content = reply["choices"][0]["message"]["content"]
    except HttpError as error:
        raise ModelError(str(error)) from error
    except (KeyError, IndexError, TypeError) as error:
        raise ModelError("its reply was not a chat completion") from error
    return _points(str(content), len(texts))[:limit]


def _points(content: str, texts: int) -> list[Point]:
    points = [
        Point(text=" ".join(found["text"].split()).strip(" ."), source=int(found["source"]))
        for found in _CITED.finditer(content)
    ]
    valid = [Point(text=f"{point.text}.", source=point.source) for point in points if 1 <= point.source <= texts]
    if not valid:
        raise ModelError("it cited none of the passages")
    return valid
