"""Errors of the control API as RFC 9457 problems: what went wrong, for whom, and what to do."""

from __future__ import annotations

import json
import logging
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.routing import Match

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    CallMissingError,
    ConfigurationError,
    CrossfadeError,
    PolicyChangedError,
    StageChangeRefusedError,
    UnknownSeamError,
    WorkflowRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI
    from starlette.requests import Request

MEDIA_TYPE: Final = "application/problem+json"

_STATUS: Final[tuple[tuple[type[CrossfadeError], int], ...]] = (
    (UnknownSeamError, 404),
    (CallMissingError, 404),
    (PolicyChangedError, 412),
    (StageChangeRefusedError, 409),
    (WorkflowRefusedError, 409),
    (ConfigurationError, 422),
    (BusAmbiguousError, 504),
    (BusError, 503),
)

_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

_log = logging.getLogger("crossfade")


class Problem(BaseModel):
    """RFC 9457. ``type`` is ``about:blank``: the status says what kind it is."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = Field(default="", description="what to do next")


class ProblemError(HTTPException):
    """Raised in a route to answer with a problem; ``more`` are further members of it."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        self.more = more
        super().__init__(status, detail, dict(headers or {}))


_MEANINGS: Final[Mapping[int, str]] = {
    400: "the body cannot be read",
    401: "no credential, or none that is known",
    403: "the role is not enough, or another site's page sent this",
    404: "it is not there",
    409: "it cannot be done as things stand",
    410: "what was known of it is gone",
    411: "the body does not say its length",
    412: "it has changed since you looked",
    413: "the body is too large",
    415: "the body is no JSON",
    421: "asked by a host's name that is not this one's",
    422: "a value that cannot be, named in the detail",
    428: "the change does not say which revision it is about",
    500: "a fault of crossfade's; the log has it",
    503: "the bus cannot be reached, come back later",
    504: "the bus did not say whether it was done: look before you try again",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems for an operation's ``responses``; their schema is the document's ``Problem``, see ``document_of``."""
    content = {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {status: {"description": f"A problem: {_MEANINGS[status]}", "content": content} for status in statuses}


ALWAYS: Final = (401, 403, 411, 413, 421, 500)
"""What any operation behind the gate may answer with."""
BODY: Final = (400, 415, 422)
"""What one with a body may."""
READS: Final = (503,)
"""What one that reads the bus may."""
WRITES: Final = (503, 504)
"""What one that writes to it may."""


def document_of(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the schema that every problem refers to."""
    document = app.openapi()
    document["components"]["schemas"].setdefault("Problem", Problem.model_json_schema())
    return document


def problem(status: int, detail: str = "", *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:
    """The answer."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **more}
    return Response(json.dumps(body), status, dict(headers or {}), MEDIA_TYPE)


def of_error(error: CrossfadeError) -> Response:
    """The answer to an error of ours."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    headers = {"Retry-After": "2"} if status in (503, 504) else {}
    return problem(status, str(error), headers=headers)


def install(app: FastAPI) -> None:
    """Let ``app`` answer every error as a problem."""

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
        more = error.more if isinstance(error, ProblemError) else {}
        if error.status_code == 405:
            allowed = ", ".join(_allowed(app, request.scope))
            return problem(405, f"it answers {allowed}", headers={"Allow": allowed})
        return problem(error.status_code, str(error.detail), headers=error.headers, **more)

    async def of_ours(_request: Request, error: Exception) -> Response:
        assert isinstance(error, CrossfadeError)  # noqa: S101 - what it is registered for
        return of_error(error)

    async def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
        errors = error.errors()
        if any(each["loc"] == ("body",) for each in errors) and not _is_json(request.headers.get("content-type", "")):
            return problem(415, "send Content-Type: application/json with a JSON object")
        return problem(422, "; ".join(_place(each) for each in errors))

    async def of_anything(_request: Request, error: Exception) -> Response:
        _log.error("the control API failed", exc_info=error)
        return problem(500, "this is a fault of crossfade's: the log has it")

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(CrossfadeError, of_ours)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(Exception, of_anything)


def _allowed(app: FastAPI, scope: Mapping[str, Any]) -> list[str]:
    """What a path answers; the framework names the methods of its first route only."""
    asked = ({**scope, "method": method} for method in _METHODS)
    return [each["method"] for each in asked if any(route.matches(each)[0] is Match.FULL for route in app.routes)]


def _is_json(media_type: str) -> bool:
    return re.match(r"application/([a-z0-9.-]+\+)?json *(;|$)", media_type.lower()) is not None


def _place(error: Mapping[str, Any]) -> str:
    """Where and what, never the value: it may be a secret."""
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
