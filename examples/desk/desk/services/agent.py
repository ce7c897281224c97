"""The agent as a service: ``POST /ask`` and ``POST /reports``.

A tool whose address is given is called over HTTP, any other is a function call in this process.
"""

import os
import uuid
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from crossfade import shim
from desk import agent
from desk.records import TENANT
from desk.services import command
from desk.services.http import Refusal, Reply, Request, Route, Routes, request_id, text
from desk.tools import UnknownPassageError
from desk.wiring import Toolbox, ToolError, wire


def routes(toolbox: Toolbox) -> Routes:
    """The agent's routes over this toolbox."""

    def ask(request: Request) -> dict[str, Any]:
        question = text(request.body, "question")
        identity = _request_id(request)
        with shim.correlate(run=identity):
            return asdict(agent.answer(question, identity, toolbox))

    def report(request: Request) -> dict[str, Any]:
        topic = text(request.body, "topic", limit=200)
        identity = _request_id(request)
        with shim.correlate(run=identity):
            return asdict(agent.report(topic, identity, toolbox))

    def begin(request: Request) -> dict[str, Any]:
        topic = text(request.body, "topic", limit=200)
        identity = _request_id(request)
        with shim.correlate(run=identity, user=text(request.body, "user", limit=80), tenant=TENANT):
            return asdict(agent.begin_report(topic, identity, toolbox))

    return {
        ("POST", "/ask"): _answering(ask),
        ("POST", "/reports"): _answering(report),
        ("POST", "/reports/begin"): _answering(begin),
    }


def _request_id(request: Request) -> str:
    return request_id(request.body) or uuid.uuid4().hex


def _answering(work: Callable[[Request], dict[str, Any]]) -> Route:
    def answer(request: Request) -> Reply:
        try:
            return Reply(content=work(request))
        except ToolError as error:
            code = "tool_timeout" if error.status == 504 else "tool_unavailable"
            raise Refusal(error.status, code, str(error), tool=error.tool) from error
        except shim.OutcomeUnknownError as error:
            raise Refusal(504, "outcome_unknown", str(error), callid=error.callid) from error
        except agent.NothingFoundError as error:
            raise Refusal(404, "nothing_found", f"the documentation has nothing about {error}") from error
        except UnknownPassageError as error:
            message = f"search found {error}, fetch does not have it: do both use the same index?"
            raise Refusal(502, "index_mismatch", message, tool="fetch") from error

    return answer


def main() -> None:
    """Run the agent."""
    parser = command.parser("The desk's agent as an HTTP service.")
    for tool in ("search", "fetch", "summarise", "write-report"):
        parser.add_argument(f"--{tool}", default="", metavar="URL", help=f"where {tool} is served; else called here")
    options = parser.parse_args()
    toolbox = wire(
        search=options.search,
        fetch=options.fetch,
        summarise=options.summarise,
        write_report=options.write_report,
    )
    with connected():
        command.serve("agent", routes(toolbox), options)


def connected() -> AbstractContextManager[object]:
    """A connection to the bus when ``CROSSFADE_BUS`` names one; without it the tools are plain functions."""
    return shim.connect() if os.environ.get("CROSSFADE_BUS") else nullcontext()


if __name__ == "__main__":
    main()
