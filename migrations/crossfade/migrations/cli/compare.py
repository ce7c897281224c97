"""``crossfade compare``: two answers judged as a shadow run would judge them, to try rules out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from crossfade.migrations.rules_file import read_rules, read_text
from crossfade.shim import comparison
from crossfade.shim.comparison import Outcome, Rules
from crossfade.shim.errors import ConfigurationError

from ._session import JsonOption, print_json, say
from ._text import plural, print_columns, safe

if TYPE_CHECKING:
    from crossfade.shim.comparison import Verdict


def compare(
    old: Annotated[str, typer.Argument(metavar="LEGACY", help="A JSON file: what the legacy side answered.")],
    new: Annotated[str, typer.Argument(metavar="OTHER", help="A JSON file: what the other side answered.")],
    rules: Annotated[
        str | None, typer.Option("--rules", metavar="FILE", help="Rules by path; without them all is exact.")
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="The files hold recorded HTTP answers: status, headers, text or body.")
    ] = False,
    stream: Annotated[
        bool, typer.Option("--stream", help="The files hold what streams yielded: lists, or observations' `stream`.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare two answers under rules, to try the rules out. Exit code 1 unless they match or differences are ignored.

    Nothing is sent anywhere and no bus is needed.
    """
    said = read_rules(rules) if rules else Rules()
    if stream:
        verdict = comparison.compare_streams(_stream(old), _stream(new), said)
    else:
        verdict = comparison.compare(_side(old, said, http=http), _side(new, said, http=http), said)
    if as_json:
        print_json(verdict.to_json())
    else:
        _print(verdict)
    raise typer.Exit(0 if verdict.kind in ("match", "ignored") else 1)


def _side(file: str, rules: Rules, *, http: bool) -> Outcome:
    value = _read(file)
    if not http:
        return Outcome(kind="value", value=value)
    if not isinstance(value, dict) or "status" not in value:
        raise ConfigurationError('an answer is like {"status": 200, "headers": [["a", "b"]], "text": ""}', where=file)
    return comparison.http_outcome(Outcome(kind="value", value=value), rules)


def _stream(file: str) -> Outcome:
    value = _read(file)
    told = cast("dict[str, Any]", value if isinstance(value, dict) else {"items": value})
    if not isinstance(told.get("items"), list):
        raise ConfigurationError('a stream is a list, or like {"items": [], "end": "finished"}', where=file)
    return Outcome(kind="value", items=tuple(told["items"]), closed=told.get("end") == "closed")


def _read(file: str) -> Any:
    try:
        return json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"this is no JSON: {error.msg}", where=f"{file}:{error.lineno}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"this JSON cannot be read: {error}", where=file) from None


def _print(verdict: Verdict) -> None:
    why = verdict.rule or verdict.reason
    said = f"{verdict.kind} ({why})" if why else verdict.kind
    say(safe(f"{said}, signature {verdict.signature}" if verdict.signature else said))
    if verdict.detail:
        say(safe(verdict.detail))
    if verdict.differences:
        say("")
        rows = [("path", "how", "legacy", "bus")]
        print_columns(rows + [tuple(map(safe, (d.path, d.kind, d.old, d.new))) for d in verdict.differences])
    if verdict.more:
        say(f"\n{plural(verdict.more, 'difference')} more.")
