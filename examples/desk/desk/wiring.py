"""Where each tool lives: a function in this process, or a service when its address is given."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Protocol, TypeVar

from desk import tools
from desk.http_client import HttpError, post
from desk.records import Hit, Passage, Point, Report, Section, Summary

T = TypeVar("T")


class ToolError(Exception):
    """A tool service did not do its work; ``status`` is the one to answer with: 502 or 504."""

    def __init__(self, message: str, *, tool: str, status: int) -> None:
        self.tool = tool
        self.status = status
        super().__init__(message)


class Search(Protocol):
    """See ``tools.search``."""

    def __call__(self, query: str, limit: int = 5, *, request: str = "") -> list[Hit]: ...  # noqa: D102


class Fetch(Protocol):
    """See ``tools.fetch``."""

    def __call__(self, passage_id: str, *, request: str = "") -> Passage: ...  # noqa: D102


class Summarise(Protocol):
    """See ``tools.summarise``."""

    def __call__(self, texts: list[str], question: str, sentences: int = 3, *, request: str = "") -> Summary: ...  # noqa: D102


class WriteReport(Protocol):
    """See ``tools.write_report``."""

    def __call__(self, topic: str, sections: list[Section], *, request: str = "") -> Report: ...  # noqa: D102


@dataclass(frozen=True, kw_only=True)
class Toolbox:
    """The tools an agent works with, wherever each of them lives."""

    search: Search
    fetch: Fetch
    summarise: Summarise
    write_report: WriteReport


def wire(*, search: str = "", fetch: str = "", summarise: str = "", write_report: str = "") -> Toolbox:
    """A toolbox whose tools with an address (``http://127.0.0.1:8003``) are called there, the others here."""
    return Toolbox(
        search=_remote_search(search) if search else tools.search,
        fetch=_remote_fetch(fetch) if fetch else tools.fetch,
        summarise=_remote_summarise(summarise) if summarise else tools.summarise,
        write_report=_remote_write_report(write_report) if write_report else tools.write_report,
    )


def _remote_search(base: str) -> Search:
    def search(query: str, limit: int = 5, *, request: str = "") -> list[Hit]:
        body = {"query": query, "limit": limit, "request": request}
        return _call("search", base, body, timeout=5, read=lambda reply: [Hit(**hit) for hit in reply["hits"]])

    return search


def _remote_fetch(base: str) -> Fetch:
    def fetch(passage_id: str, *, request: str = "") -> Passage:
        body = {"passage_id": passage_id, "request": request}
        try:
            return _call("fetch", base, body, timeout=5, read=lambda reply: Passage(**reply))
        except ToolError as error:
            cause = error.__cause__
            if isinstance(cause, HttpError) and cause.body.get("error", {}).get("code") == "unknown_passage":
                raise tools.UnknownPassageError(passage_id) from error
            raise

    return fetch


def _remote_summarise(base: str) -> Summarise:
    def summarise(texts: list[str], question: str, sentences: int = 3, *, request: str = "") -> Summary:
        body = {"texts": texts, "question": question, "sentences": sentences, "request": request}
        return _call("summarise", base, body, timeout=30, read=_summary)

    return summarise


def _summary(reply: dict[str, Any]) -> Summary:
    return Summary(points=[Point(**point) for point in reply["points"]], method=reply["method"], note=reply["note"])


def _remote_write_report(base: str) -> WriteReport:
    def write_report(topic: str, sections: list[Section], *, request: str = "") -> Report:
        body = {"topic": topic, "sections": [asdict(section) for section in sections], "request": request}
        return _call("write_report", base, body, timeout=60, read=lambda reply: Report(**reply))

    return write_report


def _call(tool: str, base: str, body: dict[str, Any], *, timeout: float, read: Callable[[Any], T]) -> T:
    try:
        return read(post(f"{base.rstrip('/')}/{tool}", body, timeout=timeout))
    except HttpError as error:
        status = 504 if error.status == 504 else 502
        raise ToolError(f"the {tool} service failed: {error}", tool=tool, status=status) from error
    except (KeyError, TypeError) as error:
        raise ToolError(f"the {tool} service answered in a way that makes no sense", tool=tool, status=502) from error
