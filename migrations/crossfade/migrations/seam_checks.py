"""What is wrong with an application's seams, or soon will be, told from its code alone: no broker is needed.

A ``fail`` keeps a worker from starting or a seam from leaving ``observe``; a ``warn`` costs something that the owner
should know of before the seam moves.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import typing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from pydantic import TypeAdapter

from crossfade.shim.errors import CrossfadeError
from crossfade.shim.redaction import is_secret_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from crossfade.shim.config import Config
    from crossfade.shim.policy import Policy
    from crossfade.shim.seam import Handler, Registry, Seam

_READS: Final = re.compile(
    r"(?:^|[._])(?:search|get|fetch|find|list|read|load|look_?up|query|count|show|is|has|check|summari[sz]e|parse)(?:[._]|$)"
)
_WAITS: Final = frozenset({"sleep", "wait", "wait_for", "result", "join"})  # calls whose first number is seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class SeamFinding:
    """One remark on one seam; ``remedy`` says what to do."""

    seam: str
    status: Literal["ok", "warn", "fail"]
    found: str
    remedy: str = ""


def check_seams(registry: Registry, config: Config, *, has_key: bool, has_redact_key: bool) -> list[SeamFinding]:
    """Every remark on the seams and handlers declared; a seam without one gets an ``ok``.

    ``has_key``: this process has a key to seal secrets with, ``has_redact_key``: one to mark them with.
    """
    found: list[SeamFinding] = []
    for seam in registry.all():
        remarks = list(_of_seam(seam, registry.handler(seam.name), config, has_key=has_key))
        remarks += [] if has_redact_key else _marks(seam)
        found += remarks or [SeamFinding(seam=seam.name, status="ok", found=f"{_kind(seam)} at {seam.place}")]
    named = {seam.name for seam in registry.all()}
    for handler in registry.handlers():
        if handler.name not in named:
            found += _of_lone_handler(handler)
    return found


def _of_seam(seam: Seam, handler: Handler | None, config: Config, *, has_key: bool) -> Iterator[SeamFinding]:
    try:
        policy = config.policy(seam.name, seam.policy)
    except CrossfadeError as error:
        yield SeamFinding(seam=seam.name, status="fail", found=str(error), remedy="correct the file")
        policy = seam.policy
    yield from _effects(seam, policy)
    yield from _reach(seam, handler)
    yield from _types(seam, handler, has_key=has_key)
    yield from _time(seam, handler, policy)


def _reach(seam: Seam, handler: Handler | None) -> Iterator[SeamFinding]:
    """Whether a worker has something to run."""
    if handler is None and seam.has_body:
        try:
            seam.body()
        except CrossfadeError as error:
            yield SeamFinding(
                seam=seam.name,
                status="fail",
                found=str(error),
                remedy="until then it stops at observe, and a worker that imports it does not start",
            )


def _types(seam: Seam, handler: Handler | None, *, has_key: bool) -> Iterator[SeamFinding]:
    """Whether calls can be written down and read back."""
    try:
        codec = seam.codec
    except CrossfadeError as error:
        yield SeamFinding(
            seam=seam.name, status="fail", found=_short(error), remedy=f"until then it stays legacy: {seam.place}"
        )
        return
    untyped = [name for name, kind in codec.shape.items() if _is_untyped(kind)]
    if untyped:
        yield SeamFinding(
            seam=seam.name,
            status="warn",
            found=f"no type: {', '.join(untyped)}",
            remedy="annotate them: without a type only plain JSON values cross the bus, all others stay legacy",
        )
    if codec.read_once:
        yield SeamFinding(
            seam=seam.name,
            status="warn",
            found=f"may be an iterator: {', '.join(sorted(codec.read_once))}",
            remedy="a list crosses the bus; an iterator can be read only once, by the body, so its call stays legacy: "
            "annotate list and give it one",
        )
    if codec.secret and not has_key:
        yield SeamFinding(
            seam=seam.name,
            status="warn",
            found=f"secret without a key: {', '.join(sorted(codec.secret))}",
            remedy="set CROSSFADE_SEAL_KEY for callers and workers, or the seam stops before canary",
        )
    if handler is not None:
        try:
            handler.check(seam)
        except CrossfadeError as error:
            yield SeamFinding(
                seam=seam.name, status="fail", found=str(error), remedy="until then no worker that imports it starts"
            )


def _marks(seam: Seam) -> Iterator[SeamFinding]:
    """Whether answers hold what is redacted, so that two processes must mark it alike to be compared."""
    try:
        schema = TypeAdapter[Any](seam.codec.shape["return"]).json_schema(mode="serialization")
    except Exception:  # said above where it matters: here it only means that nobody knows the names
        return
    named = sorted({name for name in _members(schema) if is_secret_name(name)})
    if named:
        yield SeamFinding(
            seam=seam.name,
            status="warn",
            found=f"redacted in its answers, without a key: {', '.join(named)}",
            remedy="set one CROSSFADE_REDACT_KEY for callers and workers, or shadow cannot compare these answers",
        )


def _members(schema: Any) -> Iterator[str]:
    """The names of every object's members in a JSON schema."""
    if isinstance(schema, dict):
        found = cast("dict[str, Any]", schema)
        properties = found.get("properties")
        if isinstance(properties, dict):
            yield from cast("dict[str, Any]", properties)
        for part in found.values():
            yield from _members(part)
    elif isinstance(schema, list):
        for part in cast("Any", schema):
            yield from _members(part)


def _effects(seam: Seam, policy: Policy) -> Iterator[SeamFinding]:
    if policy.effects != "unsafe":
        return
    looks_like_a_read = _READS.search(seam.name) or _READS.search(seam.function.__name__)
    yield SeamFinding(
        seam=seam.name,
        status="warn",
        found="effects='unsafe', or left at that default: each call takes the ledger, no shadow runs, no retries",
        remedy="its name looks like a read: if it changes nothing, say effects='none'"
        if looks_like_a_read
        else "right if running it twice does harm; the broker then needs sync_interval: always",
    )


def _time(seam: Seam, handler: Handler | None, policy: Policy) -> Iterator[SeamFinding]:
    """Whether what will run says of itself that it may take longer than callers wait."""
    function = handler.function if handler is not None else seam.function
    longest = max(_seconds_named(function), default=(0.0, 0))
    if longest[0] >= policy.timeout:
        yield SeamFinding(
            seam=seam.name,
            status="warn",
            found=f"callers wait {policy.timeout:g} s, and line {longest[1]} of {_file(function)} alone may take "
            f"{longest[0]:g} s",
            remedy="raise the seam's timeout above what its code waits for, or submit it as a task",
        )


def _seconds_named(function: Callable[..., Any]) -> Iterator[tuple[float, int]]:
    """Seconds that the code of ``function`` itself waits or allows, with their lines: ``sleep(60)``, ``timeout=60``."""
    try:
        lines, first = inspect.getsourcelines(function)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return  # no source here: nothing to tell
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or node in _decorators(tree):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = [keyword.value for keyword in node.keywords if keyword.arg == "timeout"]
        given += node.args[:1] if name in _WAITS else []
        for value in given:
            if isinstance(value, ast.Constant) and isinstance(value.value, int | float):
                yield float(value.value), first + node.lineno - 1


def _decorators(tree: ast.Module) -> list[ast.expr]:
    return [made for node in tree.body for made in getattr(node, "decorator_list", [])]


def _of_lone_handler(handler: Handler) -> Iterator[SeamFinding]:
    try:
        handler.codec()
    except CrossfadeError as error:
        yield SeamFinding(seam=handler.name, status="fail", found=_short(error), remedy=f"annotate it: {handler.place}")
    yield SeamFinding(
        seam=handler.name,
        status="warn",
        found=f"a handler ({handler.place}) of a seam that nothing here declares",
        remedy="fine when the call sites are elsewhere; else a typing error, or name their module, too",
    )


def _is_untyped(kind: Any) -> bool:
    """Whether a parameter's entry in a codec's shape, or its ``return``, allows anything."""
    if not isinstance(kind, tuple):
        return kind is Any or kind is object  # what it returns
    how, hint, _ = cast("tuple[Any, Any, bool]", kind)
    variadic = how in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return hint is Any or hint is object or (variadic and Any in typing.get_args(hint))


def _short(error: CrossfadeError) -> str:
    """The first sentence of what pydantic has to say; the others are about pydantic."""
    return str(error).partition("\n")[0].partition(". Set `arbitrary_types_allowed")[0]


def _kind(seam: Seam) -> str:
    return f"{seam.domain}, {seam.call_kind}, effects {seam.policy.effects},"


def _file(function: Callable[..., Any]) -> str:
    code = getattr(function, "__code__", None)
    return code.co_filename if code else "its source"
