"""``crossfade traces``: what runs did, one by one and by the thousand, on the old path and the new."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from crossfade.migrations.traces import otlp, waterfall
from crossfade.migrations.traces.aligning import Pair, align, changes
from crossfade.migrations.traces.critical import critical_path
from crossfade.migrations.traces.index import MOST_CALLS, Selection, TraceIndex
from crossfade.migrations.traces.populations import PARTS, QUANTILES, Difference, Population, Side, compare
from crossfade.shim.errors import ConfigurationError

from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session
from ._text import clock, plural, print_columns, read_span, safe

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence
    from typing import TextIO

    from crossfade.migrations.traces.run import Call, Fact, Node, Run

app = typer.Typer(
    help="Runs as trees of calls: on the legacy path, on the bus, and beside each other.", no_args_is_help=True
)

T = TypeVar("T")

_PART: Final = 6  # characters of a run's id that may stand for it
_DEFAULT: Final = ".crossfade/traces.sqlite"

IndexOption = Annotated[
    str, typer.Option("--index", metavar="FILE", help="Where the index is; it can be deleted at any time.")
]
SeamOption = Annotated[str | None, typer.Option(help="Only runs with a call of this seam.")]
PathOption = Annotated[
    str | None, typer.Option(help="legacy or bus: the path of that call, else of what began the run.")
]
SinceOption = Annotated[str | None, typer.Option(help="Begun at most so long ago, like 30s, 10m, 2h or 1d.")]
ConfidenceOption = Annotated[float, typer.Option(min=0.5, max=0.9999, help="Of each bound.")]


@app.command("list")
def list_runs(
    seam: SeamOption = None,
    path: PathOption = None,
    since: SinceOption = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 20,
    index: IndexOption = _DEFAULT,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Runs, newest first: when, how long, what began them, how many calls."""
    found = _asked(lambda traces: traces.summaries(_selection(seam, path, since), limit=limit), index, bus, config)
    if as_json:
        print_json([asdict(each) for each in found])
        return
    if not found:
        say("No run is in the log, or none that you asked for.")
        return
    rows = [
        (
            safe(each.run),
            clock(datetime.fromtimestamp(each.began, UTC)),
            waterfall.ms(each.seconds),
            str(each.calls),
            str(each.errors or ""),
            "+".join(map(safe, each.paths)),
            safe(each.seam),
        )
        for each in found
    ]
    print_columns([("run", "began", "took", "calls", "failed", "paths", "begun by"), *rows])


@app.command()
def show(
    run: Annotated[str, typer.Argument(metavar="RUNID", help="A run's id, its beginning or end, or a call's id.")],
    index: IndexOption = _DEFAULT,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One run as a tree, with where its time went and what it waited for."""
    found = _asked(lambda traces: _one(traces, run), index, bus, config)
    if as_json:
        print_json(_document(found))
        return
    say(safe(f"Run {found.id}: {waterfall.ms(found.seconds)}, {plural(sum(1 for _ in found.walk()), 'call')}"))
    rows = [_tree_row(node, depth) for node, depth in found.walk()]
    print_columns([("call", "path", "outcome", "at", "total", "queue", "own", "transport"), *_from(found, rows)])
    say("\nIt waited for:")
    print_columns(_waited(found))
    if found.idle > 0:
        say(f"\nFor {waterfall.ms(found.idle)} no recorded call was under way.")


@app.command()
def diff(
    old: Annotated[str, typer.Argument(metavar="BEFORE", help="A run, or runs: seam=web.search,path=legacy,since=2h")],
    new: Annotated[
        str | None,
        typer.Argument(metavar="AFTER", help="The other side; without it, what was run again to compare in BEFORE."),
    ] = None,
    confidence: ConfidenceOption = 0.95,
    index: IndexOption = _DEFAULT,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Two runs call by call, or two populations of runs by what surely differs. Exit code 1 when they differ."""
    compared = _asked(lambda traces: _compared(traces, old, new, confidence), index, bus, config)
    if as_json:
        print_json([each.document() for each in compared])
    else:
        for each in compared:
            each.print()
    raise typer.Exit(1 if any(each.differs for each in compared) else 0)


@app.command()
def report(
    runs: Annotated[
        list[str],
        typer.Argument(metavar="RUNS", help="Runs, or one selection; with --diff two sides as for diff."),
    ],
    output: Annotated[str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it.")] = "traces.html",
    beside: Annotated[bool, typer.Option("--diff", help="The two (runs or populations) beside each other.")] = False,
    confidence: ConfidenceOption = 0.95,
    index: IndexOption = _DEFAULT,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write one HTML file with waterfalls, which opens anywhere and asks the network for nothing."""
    if beside and len(runs) > 2:
        raise ConfigurationError("compares two sides: name one run or two, or two populations", where="--diff")

    def parts(traces: TraceIndex) -> Iterator[str]:
        if beside:
            sides = _compared(traces, runs[0], runs[1] if len(runs) == 2 else None, confidence)
            return (text for each in sides for text in each.html())
        return (text for each in _chosen(traces, runs) for text in waterfall.run_section(each))

    def write(traces: TraceIndex) -> None:
        with _replaced(Path(output)) as file:
            file.writelines(waterfall.page("Traces", parts(traces)))

    _asked(write, index, bus, config)
    if as_json:
        print_json({"file": output})
        return
    say(f"Wrote {safe(output)}: open it in a browser.")


@app.command("import")
def import_spans(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="OTLP JSON, one document or one a line, or Jaeger's JSON.")
    ],
    path: Annotated[str, typer.Option(help="The path that its calls count for.")] = "legacy",
    index: IndexOption = _DEFAULT,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take another tool's spans into the index, so that runs from before crossfade can be compared with."""
    calls, runs = 0, set[str | None]()

    def counted(facts: Iterable[Fact]) -> Iterator[Fact]:
        nonlocal calls
        for each in facts:
            calls += 1
            runs.add(each.run)
            yield each

    with _spans(file) as opened:
        _asked(lambda traces: traces.add(counted(otlp.read(opened, path=path, where=file))), index, bus, config)
    if as_json:
        print_json({"calls": calls, "runs": len(runs)})
        return
    say(f"Took in {plural(calls, 'call')} of {plural(len(runs), 'run')} from {safe(file)}.")


@app.command("export")
def export_spans(
    runs: Annotated[
        list[str], typer.Argument(metavar="RUNS", help="Runs, or one selection like seam=web.search,since=1h")
    ],
    index: IndexOption = _DEFAULT,
    bus: BusOption = None,
    config: ConfigOption = None,
) -> None:
    """Print runs as OTLP JSON, for any tool that takes OpenTelemetry's spans; no arguments and no values are in it."""
    _asked(lambda traces: sys.stdout.writelines(otlp.export(_chosen(traces, runs))), index, bus, config)


# -- sides -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, slots=True)
class _Runs:
    """Two runs, or two paths of one."""

    old: Run
    new: Run
    names: tuple[str, str]
    pairs: list[Pair]

    @property
    def differs(self) -> bool:
        return any(pair.change != "same" or pair.outcome_differs for pair in self.pairs)

    def document(self) -> dict[str, Any]:
        return {
            "old": self.names[0],
            "new": self.names[1],
            "seconds": [self.old.seconds, self.new.seconds],
            "changes": dict(changes(self.pairs)),
            "calls": [
                {"seam": pair.seam, "depth": pair.depth, "change": pair.change, **_sides(pair)} for pair in self.pairs
            ],
        }

    def print(self) -> None:
        say(
            safe(
                f"{self.names[0]}: {waterfall.ms(self.old.seconds)}   {self.names[1]}: {waterfall.ms(self.new.seconds)}"
            )
        )
        rows = [
            (
                safe("  " * min(pair.depth, 40) + pair.seam),
                "" if pair.change == "same" else pair.change,
                _took(pair.old),
                _took(pair.new),
                safe(" / ".join(_ended(side.call) if side else "-" for side in (pair.old, pair.new))),
            )
            for pair in self.pairs
        ]
        print_columns([("call", "change", "old", "new", "outcomes"), *rows])

    def html(self) -> Iterable[str]:
        return waterfall.pair_section(self.old, self.new, self.pairs, names=self.names)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Populations:
    """Two populations of runs."""

    old: Population
    new: Population
    names: tuple[str, str]
    differences: list[Difference]
    confidence: float

    @property
    def differs(self) -> bool:
        return any(each.certain for each in self.differences)

    def document(self) -> dict[str, Any]:
        return {
            "old": {"name": self.names[0], "runs": self.old.runs, "left_out": self.old.left_out},
            "new": {"name": self.names[1], "runs": self.new.runs, "left_out": self.new.left_out},
            "confidence": self.confidence,
            "edges": [
                {"edge": each.edge, "certain": each.certain, "old": _said(each.old), "new": _said(each.new)}
                for each in self.differences
            ],
        }

    def print(self) -> None:
        for name, side in zip(self.names, (self.old, self.new), strict=True):
            say(safe(f"{name}: {plural(side.runs, 'run')}, {plural(len(side.shapes), 'shape')}"))
            if side.left_out:
                say(f"  {plural(side.left_out, 'call')} of rarer edges left out")
        rows = [
            (
                safe(each.edge),
                ", ".join(each.certain) or "-",
                *(f"{side.calls_a_run:.2f}" for side in (each.old, each.new)),
                *(waterfall.bounded(side.quantiles["total", 0.5]) for side in (each.old, each.new)),
            )
            for each in self.differences
        ]
        print_columns([("calls", "surely differ", "a run, old", "new", "p50, old", "new"), *rows])

    def html(self) -> Iterable[str]:
        return waterfall.population_section(
            self.old, self.new, self.differences, names=self.names, confidence=self.confidence
        )


def _compared(traces: TraceIndex, old: str, new: str | None, confidence: float) -> Sequence[_Runs | _Populations]:
    if new is None:
        return _again(_one(traces, old))
    if "=" in old or "=" in new:
        sides = _population(traces, old), _population(traces, new)
        differences = compare(*sides, confidence=confidence)
        return [
            _Populations(old=sides[0], new=sides[1], names=(old, new), differences=differences, confidence=confidence)
        ]
    a, b = _one(traces, old).served(), _one(traces, new).served()
    return [_Runs(old=a, new=b, names=(a.id, b.id), pairs=align(a.roots, b.roots))]


def _again(run: Run) -> list[_Runs]:
    """What was run again for comparison, beside what it repeats."""
    twins = run.twins()
    if not twins:
        raise ConfigurationError("nothing of this run was run again to compare: name a second run", where="AFTER")
    kinds = ((_part(run, first), _part(run, twin), first.call.seam) for first, twin in twins)
    return [
        _Runs(old=a, new=b, names=(f"{s}, legacy", f"{s}, shadow"), pairs=align(a.roots, b.roots)) for a, b, s in kinds
    ]


def _part(run: Run, node: Node) -> Run:
    return type(run)(id=run.id, roots=(node,))


def _population(traces: TraceIndex, text: str) -> Population:
    found = Population()
    for run in _chosen(traces, [text]):
        found.add(run)
    return found


def _parsed(text: str) -> Selection:
    given = dict[str, str]()
    for term in text.split(","):
        name, equals, value = term.partition("=")
        if not equals or name not in _TERMS or not value:
            raise ConfigurationError(
                f"{term!r} is no choice of runs: use {', '.join(_TERMS)}, like path=bus", where=text
            )
        given[name] = value
    return _selection(given.get("seam"), given.get("path"), given.get("since"), given.get("until"))


_TERMS: Final = ("seam", "path", "since", "until")


def _selection(seam: str | None, path: str | None, since: str | None, until: str | None = None) -> Selection:
    if path not in (None, "legacy", "bus", "shadow"):
        raise ConfigurationError(f"{path!r} is no path: use legacy or bus", where="path")
    return Selection(seam=seam, path=path, since=_ago(since, "since"), until=_ago(until, "until"))


def _ago(text: str | None, where: str) -> float | None:
    return None if text is None else time.time() - read_span(text, where=where).total_seconds()


# -- the index -------------------------------------------------------------------------------------------------------


def _asked(ask: Callable[[TraceIndex], T], index: str, bus: str | None, config: str | None) -> T:
    """What ``ask`` finds in the index, once it is up to date."""

    async def run() -> T:
        async with _opened(index, bus, config) as traces:
            return ask(traces)

    return asyncio.run(run())


@asynccontextmanager
async def _opened(index: str, bus: str | None, config: str | None) -> AsyncGenerator[TraceIndex]:
    async with session(bus, config) as opened:
        traces = TraceIndex(Path(index), source=f"{opened.url} prefix {opened.subjects.prefix}")
        try:
            await traces.update(opened.bus, opened.subjects)
            traces.prune(most=MOST_CALLS)
            yield traces
        finally:
            traces.close()


def _one(traces: TraceIndex, text: str) -> Run:
    found = traces.run(text)
    if found is not None:
        return found
    if len(text) < _PART:
        raise ConfigurationError(f"is too short for a run: give {_PART} characters or more", where=safe(text))
    matching = traces.matching(text)
    if len(matching) > 1:
        raise ConfigurationError(
            f"may be {plural(len(matching), 'run')}: {', '.join(map(safe, matching))}", where=safe(text)
        )
    run = traces.run(matching[0]) if matching else None
    if run is None:
        raise ConfigurationError("is no run or call that is known: see crossfade traces list", where=safe(text))
    return run


def _chosen(traces: TraceIndex, runs: Sequence[str]) -> Iterator[Run]:
    """The runs that are named, each of them known, or those of the one selection, one at a time."""
    if len(runs) == 1 and "=" in runs[0]:
        return _selected(traces, runs[0])
    named = [_one(traces, each).id for each in runs]
    return (_one(traces, each) for each in named)


def _selected(traces: TraceIndex, text: str) -> Iterator[Run]:
    none = True
    for run in traces.select(_parsed(text)):
        none = False
        yield run
    if none:
        raise ConfigurationError("selects no run: crossfade traces list shows what there is", where=text)


@contextmanager
def _replaced(file: Path) -> Generator[TextIO]:
    """Writes beside ``file``, which is there once all of it is written, or stays as it was."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", errors="backslashreplace") as opened:
            yield opened
        beside.replace(file)
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error}", where=str(file)) from error
    finally:
        beside.unlink(missing_ok=True)


@contextmanager
def _spans(file: str) -> Generator[TextIO]:
    try:
        opened = Path(file).open(encoding="utf-8")  # noqa: SIM115 - closed below, where errors are others
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error}", where=file) from error
    with opened:
        try:
            yield opened
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"cannot be read: {error}", where=file) from error


# -- as data and for people ------------------------------------------------------------------------------------------


def _document(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "began": run.began,
        "seconds": run.seconds,
        "idle": run.idle,
        "calls": [{**_call(node), "depth": depth} for node, depth in run.walk()],
        "critical_path": [
            {"callid": piece.node.call.id if piece.node else None, "part": piece.part, "seconds": piece.seconds}
            for piece in critical_path(run)
        ],
    }


def _call(node: Node) -> dict[str, Any]:
    call = node.call
    start, end = call.handled
    about = {name: value for name, value in asdict(call).items() if name not in ("id", "run", "queue", "handler")}
    times = {"total": call.seconds, "queue": start - call.began, "handler": end - start, "own": node.own}
    return {"callid": call.id, **about, **times, "transport": call.transport}


def _sides(pair: Pair) -> dict[str, Any]:
    return {name: _call(node) if node else None for name, node in (("old", pair.old), ("new", pair.new))}


def _said(side: Side) -> dict[str, Any]:
    return {
        "in_runs": [side.runs.low, side.runs.high],
        "calls_a_run": side.calls_a_run,
        "errors": [side.errors.low, side.errors.high],
        "seconds": {
            f"{part} p{share * 100:g}": {
                "value": value,
                "low": bounds.low,
                "high": None if bounds.high == float("inf") else bounds.high,
            }
            for part in PARTS
            for share in QUANTILES
            for value, bounds in [side.quantiles[part, share]]
        },
    }


def _tree_row(node: Node, depth: int) -> tuple[Call, tuple[str, ...]]:
    call = node.call
    start, _ = call.handled
    spans = (call.seconds, start - call.began, node.own, call.transport)
    return call, (
        safe("  " * min(depth, 40) + call.seam),
        safe(call.path),
        safe(_ended(call)),
        *(waterfall.ms(value) if value > 0 else "" for value in spans),
    )


def _from(run: Run, rows: Iterable[tuple[Call, tuple[str, ...]]]) -> list[tuple[str, ...]]:
    return [(*row[:3], f"+{waterfall.ms(call.began - run.began)}", *row[3:]) for call, row in rows]


def _waited(run: Run) -> list[tuple[str, ...]]:
    pieces = critical_path(run)
    whole = run.seconds or 1.0
    shown = [
        (
            waterfall.ms(piece.seconds),
            f"{piece.seconds / whole:.0%}",
            piece.part,
            safe(piece.node.call.seam if piece.node else ""),
        )
        for piece in pieces
    ]
    return [("took", "share", "in", "of"), *shown]


def _took(node: Node | None) -> str:
    return waterfall.ms(node.call.seconds) if node else ""


def _ended(call: Call) -> str:
    return f"{call.outcome}: {call.reason}" if call.reason else call.outcome
