"""Errors of the control API as RFC 9457 problems: what went wrong, for whom, and what to do."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusError,
    CallMissingError,
    ConfigurationError,
    CrossfadeError,
    PolicyChangedError,
    StageChangeRefusedError,
    UnknownSeamError,
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
    (ConfigurationError, 422),
    (BusAmbiguousError, 504),
    (BusError, 503),
)

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


RESPONSES: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"description": "A problem (RFC 9457)", "content": {MEDIA_TYPE: {"schema": Problem.model_json_schema()}}}
}
"""What every operation may answer with besides its own."""


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

    async def of_http(_request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101 - what it is registered for
        more = error.more if isinstance(error, ProblemError) else {}
        return problem(error.status_code, str(error.detail), headers=error.headers, **more)

    async def of_ours(_request: Request, error: Exception) -> Response:
        assert isinstance(error, CrossfadeError)  # noqa: S101 - what it is registered for
        return of_error(error)

    async def of_validation(_request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101 - what it is registered for
        return problem(422, "; ".join(_place(each) for each in error.errors()))

    async def of_anything(_request: Request, error: Exception) -> Response:
        _log.error("the control API failed", exc_info=error)
        return problem(500, "this is a fault of crossfade's: the log has it")

    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(CrossfadeError, of_ours)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(Exception, of_anything)


def _place(error: Mapping[str, Any]) -> str:
    """Where and what, never the value: it may be a secret."""
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"
