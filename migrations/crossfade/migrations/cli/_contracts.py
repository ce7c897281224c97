"""``crossfade events spec|schema|check``: what seams say on the bus as documents, and what a change of it breaks."""

from __future__ import annotations

import json
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from crossfade.adapters.contracts import Contract, asyncapi, compare, of_seam
from crossfade.migrations.rules_file import read_text
from crossfade.shim import schemas
from crossfade.shim.config import load_config
from crossfade.shim.errors import ConfigurationError, MalformedEventError, MissingExtraError
from crossfade.shim.events import TYPES
from crossfade.shim.seam import registry

from ._modules import import_modules
from ._session import BusOption, ConfigOption, JsonOption, print_json, say
from ._text import plural, print_columns, safe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from crossfade.shim.seam import Handler, Seam


def spec(
    modules: Annotated[list[str], typer.Argument(metavar="MODULES", help="Modules that declare seams.")],
    routes: Annotated[str | None, typer.Option("--routes", metavar="FILE", help="Routes of the proxy, too.")] = None,
    title: Annotated[str | None, typer.Option(help="What the app is called; else the first module.")] = None,
    release: Annotated[str | None, typer.Option(help="Its version; else the installed distribution's.")] = None,
    out: Annotated[str | None, typer.Option("--out", metavar="FILE", help="Write there; .yaml writes YAML.")] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
) -> None:
    """Write the AsyncAPI 3 document of an app's seams, as JSON. No bus is needed: --bus only names the server in it."""
    import_modules(modules)
    settings = load_config(config)
    found = list(_contracts(routes))
    if not found:
        raise ConfigurationError("nothing in it declares a seam: name the modules with decorators", where="MODULES")
    document = asyncapi(
        found,
        title=title or modules[0],
        version=release or _release(modules[0]),
        prefix=settings.prefix,
        server=bus or settings.bus or "",
    )
    if out is None:
        typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
        return
    Path(out).write_text(_as_text(document, out), "utf-8")
    say(safe(f"Wrote {plural(len(found), 'seam')} to {out}."))


def schema(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="An event type, like tool.invoke.")],
) -> None:
    """Print the JSON Schema of an event type's payload. A seam's own types are in its AsyncAPI document."""
    try:
        typer.echo(json.dumps(schemas.json_schema(event_type), indent=2, ensure_ascii=False))
    except MalformedEventError:
        near = get_close_matches(event_type, TYPES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(TYPES)}"
        raise ConfigurationError(f"there is no event type {event_type!r}: {hint}", where="TYPE") from None


def check(
    old: Annotated[str, typer.Argument(metavar="BEFORE", help="The document that callers and readers rely on.")],
    new: Annotated[str, typer.Argument(metavar="AFTER", help="The document of the version to be deployed.")],
    as_json: JsonOption = False,
) -> None:
    """Compare two AsyncAPI documents. Exit code 1 when callers or readers of the old one may break."""
    changes = compare(_document(old), _document(new))
    if as_json:
        for change in changes:
            print_json({"severity": change.severity, "where": change.where, "text": change.text})
    elif changes:
        print_columns([(change.severity, safe(change.where), safe(change.text)) for change in changes])
    bad = sum(change.severity != "compatible" for change in changes)
    if not as_json:
        say(f"{plural(bad, 'change')} may break the other side." if bad else "Nothing breaks.")
    raise typer.Exit(1 if bad else 0)


def _contracts(routes: str | None) -> Iterator[Contract]:
    declared: dict[str, Seam | Handler] = {seam.name: seam for seam in registry.all()}
    for handler in registry.handlers():
        declared.setdefault(handler.name, handler)
    yield from map(of_seam, declared.values())
    if routes is not None:
        from crossfade.proxy.reading import read_config  # noqa: PLC0415 - the extra [proxy]

        for route in read_config(routes).routes:
            yield Contract(seam=route.seam, domain="http", description=route.pattern.text)


def _release(module: str) -> str:
    """The version of the distribution that ``module`` came with."""
    for distribution in packages_distributions().get(module.partition(".")[0], ()):
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return "0"


def _as_text(document: dict[str, Any], file: str) -> str:
    if not file.endswith((".yaml", ".yml")):
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return str(_yaml().safe_dump(document, sort_keys=False, allow_unicode=True))


def _document(file: str) -> dict[str, Any]:
    text = read_text(file)
    try:
        found = json.loads(text) if text.lstrip().startswith("{") else _yaml().safe_load(text)
    except json.JSONDecodeError as error:
        raise ConfigurationError(f"this is no JSON: {error.msg}", where=f"{file}:{error.lineno}") from None
    except _yaml().YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else file
        raise ConfigurationError(f"this is no YAML: {getattr(error, 'problem', error)}", where=where) from None
    if not isinstance(found, dict):
        raise ConfigurationError("an AsyncAPI document is an object", where=file)
    return cast("dict[str, Any]", found)


def _yaml() -> Any:
    try:
        import yaml  # noqa: PLC0415 - the extra
    except ImportError as error:
        raise MissingExtraError("proxy", needed_for="YAML") from error
    return yaml
