"""The desk in a terminal: ask, report, index, or start all services."""

import argparse
import json
import os
import signal
import sys
import textwrap
import threading
import uuid
from dataclasses import asdict

from desk import agent, corpus, reports
from desk.processes import Addresses, Processes
from desk.records import Answer
from desk.wiring import wire


def main() -> None:
    """Run the command given on the command line."""
    parser = argparse.ArgumentParser(prog="desk", description="Answers about Python from its own documentation.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    ask = commands.add_parser("ask", help="answer a question here")
    ask.add_argument("question", nargs="+")
    ask.add_argument("--json", action="store_true", help="print the answer as JSON")
    ask.set_defaults(run=_ask)
    report = commands.add_parser("report", help="write a report about a topic")
    report.add_argument("topic", nargs="+")
    report.set_defaults(run=_report)
    serve = commands.add_parser("serve", help="start all services; with CROSSFADE_BUS also what stands in front")
    serve.add_argument("--port", type=int, default=0, help="the page's port; 0 lets the system choose (default)")
    serve.add_argument("--verbose", action="store_true", help="write access logs to standard error")
    serve.add_argument("--json", action="store_true", help="print the addresses as JSON")
    serve.add_argument("--stop-with-stdin", action="store_true", help="stop when standard input ends")
    serve.set_defaults(run=_serve)
    index = commands.add_parser("index", help="build the index again")
    index.set_defaults(run=_index)
    options = parser.parse_args()
    try:
        sys.exit(options.run(options))
    except corpus.CorpusError as error:
        sys.exit(f"desk: {error}")


def _ask(options: argparse.Namespace) -> int:
    found = agent.answer(" ".join(options.question), uuid.uuid4().hex, wire())
    if options.json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        print(as_text(found))
    return 0 if found.points else 1


def as_text(found: Answer, *, width: int = 96) -> str:
    """An answer for a terminal of ``width`` columns."""
    if not found.points:
        return "The documentation says nothing about this. Other words may find something."
    titles = {source.number: source.title for source in found.sources}
    lines = [found.note, ""] if found.note else []
    told = 0
    for point in found.points:
        if point.source != told:
            lines += [""] * bool(told) + [titles[point.source]]
            told = point.source
        lines.append(_bullet(f"{point.text} [{point.source}]", width))
    if found.example:
        lines += ["", f"Example [{found.example_source}]", textwrap.indent(found.example, "    ")]
    lines += ["", "Sources"]
    lines += [f"  [{source.number}] {source.title}  ({source.passage_id})" for source in found.sources]
    if found.more:
        lines += ["", _bullet("Read on: " + ", ".join(dict.fromkeys(hit.title for hit in found.more)), width, mark="")]
    return "\n".join(lines)


def _bullet(text: str, width: int, *, mark: str = "- ") -> str:
    return textwrap.fill(text, width, initial_indent=f"  {mark}", subsequent_indent=" " * (2 + len(mark)))


def _report(options: argparse.Namespace) -> int:
    try:
        written = agent.report(" ".join(options.topic), uuid.uuid4().hex, wire())
    except agent.NothingFoundError as error:
        print(f"The documentation has nothing about {error}.")
        return 1
    print(f"{reports.folder() / written.name} ({written.words} words)")
    return 0


def _index(_: argparse.Namespace) -> int:
    built = corpus.build()
    print(f"{built.passages} passages in {built.seconds:.1f} s: {built.path}")
    if built.missing:
        print(f"not in this Python: {', '.join(built.missing)}")
    return 0


# -- serve -------------------------------------------------------------------------------------------------------


def _serve(options: argparse.Namespace) -> int:
    corpus.count()  # builds the index once, before all the processes want it
    os.environ.setdefault("DESK_JOURNAL", str(corpus.home() / "journal.jsonl"))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    if options.stop_with_stdin:
        threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    with Processes(verbose=options.verbose) as running:
        start = running.start_on_bus if os.environ.get("CROSSFADE_BUS") else running.start_legacy
        addresses = start(options.port)
        print(json.dumps(asdict(addresses)) if options.json else _described(addresses), flush=True)
        stop.wait()
    return 0


def _described(addresses: Addresses) -> str:
    said = f"Desk is at {addresses.page} (journal: {os.environ['DESK_JOURNAL']}). Ctrl-C stops it."
    if not addresses.routes:
        return said
    token = f", the operator's token (shown this once): {addresses.token}" if addresses.token else ""
    return (
        f"{said}\nIts bus side, when a seam is to move: crossfade worker desk.tools"
        f"\n  and for the routes: crossfade worker --http {addresses.frontend} --routes {addresses.routes}"
        f"\nIts control plane is at {addresses.control}{token}"
    )
