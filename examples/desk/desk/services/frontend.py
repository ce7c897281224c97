"""The frontend: pages for people, ``POST /ask`` and ``POST /reports`` for their browsers and for programs.

It knows three addresses: the agent, and the search and fetch services for looking things up without a question.
"""

import uuid
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

from desk import reports
from desk.http_client import HttpError, post
from desk.services import command, page
from desk.services.http import Refusal, Reply, Request, Route, Routes, request_id, text
from desk.tools import UnknownPassageError
from desk.wiring import ToolError, wire

_SECURITY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes(*, agent: str, search: str, fetch: str, stream_keys: Path | None = None) -> Routes:
    """The frontend's routes over these three services; with ``stream_keys`` its page follows reports by events."""
    toolbox = wire(search=search, fetch=fetch)

    def ask(request: Request) -> Reply:
        return Reply(content=_ask(agent, text(request.body, "question"), request_id(request.body)))

    def report(request: Request) -> Reply:
        body = {"topic": text(request.body, "topic", limit=200), "request_id": _id(request_id(request.body))}
        return Reply(content=_agent(f"{agent}/reports", body, timeout=120), status=201)

    def home(request: Request) -> Reply:
        question = request.query.get("q", "").strip()
        if not question:
            return _page(page.home())
        reply = _ask(agent, text({"question": question}, "question"), "")
        return _page(page.answer(reply, live=stream_keys is not None))

    def found(request: Request) -> Reply:
        query = text(dict(request.query), "q")
        hits = toolbox.search(query, 20, request=f"{_id(request_id(dict(request.query)))}.1")
        return _page(page.hits(query, hits))

    def passage(request: Request) -> Reply:
        shown = toolbox.fetch(request.rest, request=f"{uuid.uuid4().hex}.1")
        return _page(page.passage(shown))

    known: Routes = {
        ("GET", "/"): _for_people(home),
        ("GET", "/search"): _for_people(found),
        ("GET", "/passages/*"): _for_people(passage),
        ("GET", "/reports/*"): _for_people(_report),
        ("GET", "/progress/*"): _progress,
        ("GET", "/static/*"): _static,
        ("POST", "/ask"): ask,
        ("POST", "/reports"): report,
    }
    return known if stream_keys is None else {**known, **_live_routes(agent, stream_keys)}


def _live_routes(agent: str, stream_keys: Path) -> Routes:
    """What a page needs to follow a report without asking: a token, and a report that begins at once."""
    from desk.services.live import Live, visitor  # noqa: PLC0415 - a desk without streams needs no crossfade[proxy]

    live = Live(stream_keys)

    def begin(request: Request) -> Reply:
        identity = _id(request_id(request.body))
        body = {
            "topic": text(request.body, "topic", limit=200),
            "request_id": identity,
            "user": visitor(request.cookies),
        }
        return Reply(content=_agent(f"{agent}/reports/begin", body, timeout=60), status=202)

    def token(request: Request) -> Reply:
        return live.token(request.cookies)

    return {("POST", "/stream-token"): token, ("POST", "/reports/begin"): begin}


def _id(given: str) -> str:
    return given or uuid.uuid4().hex


def _ask(agent: str, question: str, given: str) -> dict[str, Any]:
    return _agent(f"{agent}/ask", {"question": question, "request_id": _id(given)}, timeout=60)


def _agent(url: str, body: dict[str, Any], *, timeout: float) -> dict[str, Any]:
    """The agent's answer; its own refusals are passed on as they are."""
    try:
        reply: dict[str, Any] = post(url, body, timeout=timeout)
    except HttpError as error:
        inner: dict[str, Any] = error.body.get("error") or {}
        if {"code", "message"} <= set(inner):
            raise Refusal(error.status, **inner) from error
        code = "agent_timeout" if error.status == 504 else "agent_unavailable"
        raise Refusal(504 if error.status == 504 else 502, code, f"the agent failed: {error}") from error
    return reply


def _report(request: Request) -> Reply:
    written = reports.read(request.rest)
    if written is None:
        raise Refusal(404, "unknown_report", f"there is no report {request.rest}")
    return _page(page.report(request.rest, written))


def _progress(request: Request) -> Reply:
    known = reports.progress(request.rest)
    if known is None:
        raise Refusal(404, "unknown_request", f"no report is being written for {request.rest}")
    return Reply(content=known)


_SCRIPT = "text/javascript; charset=utf-8"
_KINDS = {"desk.css": "text/css; charset=utf-8", "desk.js": _SCRIPT, "live.js": _SCRIPT}


def _static(request: Request) -> Reply:
    if request.rest not in _KINDS:
        raise Refusal(404, "unknown_path", f"there is nothing at /static/{request.rest}")
    content = files("desk.services").joinpath("static", request.rest).read_text(encoding="utf-8")
    return Reply(content=content, content_type=_KINDS[request.rest], headers={"Cache-Control": "no-cache"})


def _page(content: str, status: int = 200) -> Reply:
    return Reply(content=content, status=status, headers=_SECURITY)


def _for_people(route: Callable[[Request], Reply]) -> Route:
    """The same route with its refusals shown as a page."""

    def answer(request: Request) -> Reply:
        try:
            return route(request)
        except Refusal as refusal:
            return _page(page.problem(str(refusal)), refusal.status)
        except UnknownPassageError as error:
            return _page(page.problem(f"There is no passage “{error}”."), 404)
        except ToolError as error:
            return _page(page.problem(str(error)), error.status)

    return answer


def main() -> None:
    """Run the frontend."""
    parser = command.parser("The desk's frontend: pages and the public API.")
    for service in ("agent", "search", "fetch"):
        parser.add_argument(f"--{service}", required=True, metavar="URL", help=f"where {service} is served")
    parser.add_argument(
        "--stream-keys",
        type=Path,
        metavar="FILE",
        help="stream-keys.json of `crossfade control`: the page follows reports by their events",
    )
    options = parser.parse_args()
    made = routes(
        agent=options.agent.rstrip("/"), search=options.search, fetch=options.fetch, stream_keys=options.stream_keys
    )
    command.serve("frontend", made, options)


if __name__ == "__main__":
    main()
