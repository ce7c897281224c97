"""The desk in a terminal: ask, report, index, or start all services."""

import argparse
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import uuid
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from desk import agent, corpus, reports
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
    serve = commands.add_parser("serve", help="start all services and print the page's address")
    serve.add_argument("--port", type=int, default=0, help="the page's port; 0 lets the system choose (default)")
    serve.add_argument("--verbose", action="store_true", help="write access logs to standard error")
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
    corpus.count()  # builds the index once, before seven processes want it
    os.environ.setdefault("DESK_JOURNAL", str(corpus.home() / "journal.jsonl"))
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    with ExitStack() as running:
        shared = ["--verbose"] if options.verbose else []
        tools = {
            name: _start(running, "tool", name, *shared) for name in ("search", "fetch", "summarise", "write_report")
        }
        agent_url = _start(
            running,
            "agent",
            *("--fetch", tools["fetch"], "--summarise", tools["summarise"], "--write-report", tools["write_report"]),
            *shared,
        )
        page = _start(
            running,
            "frontend",
            *("--agent", agent_url, "--search", tools["search"], "--fetch", tools["fetch"]),
            *("--port", str(options.port), *shared),
        )
        print(f"Desk is at {page} (journal: {os.environ['DESK_JOURNAL']}). Ctrl-C stops it.", flush=True)
        stop.wait()
    return 0


def _start(running: ExitStack, service: str, *arguments: str) -> str:
    """Start a service that ends with this process, and wait for its address."""
    command = [sys.executable, "-m", f"desk.services.{service}", *arguments, "--stop-with-stdin"]
    here = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
    process = subprocess.Popen(  # noqa: S603 - our own module
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,  # Ctrl-C is for this process, which then stops them in order
    )
    running.callback(_stop, process)
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        raise SystemExit(f"desk: the {service} service did not start")
    return str(json.loads(line)["url"])


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=12)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            pipe.close()
