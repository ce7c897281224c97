"""``--log-format``: how the commands that serve log to stderr."""

from __future__ import annotations

import logging
import sys
from enum import StrEnum
from typing import Annotated

import typer

from crossfade.shim.logs import Correlating, JsonFormatter


class LogFormat(StrEnum):
    """Lines for people, or for what collects them."""

    TEXT = "text"
    JSON = "json"


LogFormatOption = Annotated[
    LogFormat, typer.Option("--log-format", envvar="CROSSFADE_LOG_FORMAT", help="How to log to stderr.")
]


def log_to_stderr(form: LogFormat = LogFormat.TEXT, *, level: int = logging.INFO) -> None:
    """Log what is of ``level`` or above; a logging that is configured already stays as it is."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Correlating())
    text = logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    handler.setFormatter(JsonFormatter() if form is LogFormat.JSON else text)
    logging.basicConfig(level=level, handlers=[handler])
