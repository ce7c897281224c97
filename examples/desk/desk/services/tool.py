"""One tool as a service: ``python -m desk.services.tool search`` answers ``POST /search``.

The body holds the tool's parameters by name, the answer is its result as JSON.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, cast

from desk import journal, tools
from desk.records import Section
from desk.services import command
from desk.services.http import Refusal, Reply, Request, Route, number, request_id, text


def _search(body: Mapping[str, Any]) -> dict[str, Any]:
    limit = number(body, "limit", 5, most=50)
    hits = tools.search(text(body, "query"), limit, request=request_id(body, "request"))
    return {"hits": [asdict(hit) for hit in hits]}


def _fetch(body: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return asdict(tools.fetch(text(body, "passage_id", limit=200), request=request_id(body, "request")))
    except tools.UnknownPassageError as error:
        raise Refusal(404, "unknown_passage", f"there is no passage {error}") from error


def _summarise(body: Mapping[str, Any]) -> dict[str, Any]:
    texts = _texts(body, "texts")
    sentences = number(body, "sentences", 3, most=20)
    return asdict(tools.summarise(texts, text(body, "question"), sentences, request=request_id(body, "request")))


def _write_report(body: Mapping[str, Any]) -> dict[str, Any]:
    sections = body.get("sections")
    if not isinstance(sections, list) or not sections:
        raise Refusal(400, "missing_sections", 'the body needs a list "sections"')
    read = [_section(section) for section in cast("list[object]", sections)]
    return asdict(tools.write_report(text(body, "topic", limit=200), read, request=request_id(body, "request")))


def _section(section: object) -> Section:
    if not isinstance(section, dict):
        raise Refusal(400, "bad_section", "a section must be an object")
    fields = cast("dict[str, Any]", section)
    return Section(
        heading=text(fields, "heading", limit=200),
        paragraphs=_texts(fields, "paragraphs"),
        sources=_texts(fields, "sources"),
    )


def _texts(body: Mapping[str, Any], name: str) -> list[str]:
    value = body.get(name)
    if not isinstance(value, list) or not all(isinstance(each, str) for each in cast("list[object]", value)):
        raise Refusal(400, f"missing_{name}", f'the body needs a list of texts "{name}"')
    return cast("list[str]", value)


TOOLS = {"search": _search, "fetch": _fetch, "summarise": _summarise, "write_report": _write_report}


def _route(name: str) -> Route:
    def answer(request: Request) -> Reply:
        try:
            return Reply(content=TOOLS[name](request.body))
        except journal.JournalError as error:
            raise Refusal(503, "journal_unavailable", str(error)) from error

    return answer


def main() -> None:
    """Run the service named on the command line."""
    parser = command.parser("One tool of the desk as an HTTP service.")
    parser.add_argument("tool", choices=sorted(TOOLS))
    options = parser.parse_args()
    command.serve(options.tool, {("POST", f"/{options.tool}"): _route(options.tool)}, options)


if __name__ == "__main__":
    main()
