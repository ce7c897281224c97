"""One JSON call over HTTP with a deadline, on the standard library alone; it follows no redirect and no proxy."""

import json
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any, cast
from urllib.parse import urlsplit

from desk import journal

SHADOW = "Crossfade-Shadow"
"""The field of a request that is run again to be compared, passed on to whoever is asked because of it."""


class HttpError(Exception):
    """The call failed: ``status`` is the other side's, 504 when it was too slow, 502 when it could not be reached.

    ``body`` is its JSON when it sent an object.
    """

    def __init__(self, message: str, *, status: int, body: dict[str, Any] | None = None) -> None:
        self.status = status
        self.body = body or {}
        super().__init__(message)


def post(url: str, body: Mapping[str, Any], *, timeout: float, headers: Mapping[str, str] | None = None) -> Any:
    """The JSON that ``url`` answers to ``body``; ``timeout`` is seconds per network step. Raises ``HttpError``."""
    status, raw = _exchange(url, json.dumps(body).encode(), timeout, headers or {})
    try:
        reply = json.loads(raw)
    except ValueError as error:
        raise HttpError(f"{url} answered {status} with something that is not JSON", status=502) from error
    if status >= 400:
        known: dict[str, Any] = cast("dict[str, Any]", reply) if isinstance(reply, dict) else {}
        raise HttpError(f"{url} answered {status}", status=status, body=known)
    return reply


def _exchange(url: str, body: bytes, timeout: float, headers: Mapping[str, str]) -> tuple[int, bytes]:
    parts = urlsplit(url)
    kind = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        # A connection per call: a kept one can die between two calls, and a write must not be sent twice to find out.
        sent = {"Content-Type": "application/json", "Connection": "close", **headers}
        if journal.is_shadow():
            sent[SHADOW] = "?1"
        connection.request("POST", parts.path or "/", body, sent)
        response = connection.getresponse()
        return response.status, response.read()
    except TimeoutError as error:
        raise HttpError(f"{url} did not answer within {timeout:g} s", status=504) from error
    except (OSError, HTTPException) as error:
        raise HttpError(f"{url} cannot be reached ({error or type(error).__name__})", status=502) from error
    finally:
        connection.close()
