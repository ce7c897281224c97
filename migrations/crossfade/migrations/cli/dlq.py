"""``crossfade dlq``: what could not be processed, looked at and sent again."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.shim.errors import BusError, ConfigurationError
from crossfade.shim.redaction import Redactor
from crossfade.shim.redriving import Redriving, Wish, identity, seam_of
from crossfade.shim.sealed import Sealer
from crossfade.shim.subjects import check_seam
from crossfade.workflows.origin import origin

from ._session import BusOption, ConfigOption, JsonOption, Session, print_json, say, session
from ._text import actor, clock, plural, print_columns, safe, shown_data

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossfade.shim.ports import DeadLetter
    from crossfade.shim.redriving import Mark, Verdict

app = typer.Typer(help="Dead letters: what could not be processed.", no_args_is_help=True)

GroupOption = Annotated[str | None, typer.Option(help="Only those that this consumer group gave up.")]
SeamOption = Annotated[str | None, typer.Option(help="Only those of this seam.")]
ReasonOption = Annotated[str | None, typer.Option(help="Only those with this reason, like max-deliver.")]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wanted:
    """Which dead letters."""

    group: str | None
    seam: str | None
    reason: str | None

    def __post_init__(self) -> None:
        if self.seam is not None:
            check_seam(self.seam)

    def selects(self, letter: DeadLetter) -> bool:
        return (
            self.group in (None, letter.group)
            and self.seam in (None, seam_of(letter))
            and self.reason in (None, letter.reason)
        )


@app.command("list")
def list_letters(
    group: GroupOption = None,
    seam: SeamOption = None,
    reason: ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Show so many, the newest.")] = 20,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List dead letters, the newest last."""
    wanted = _Wanted(group=group, seam=seam, reason=reason)

    async def look() -> tuple[list[dict[str, Any]], int]:
        async with session(bus, config) as opened:
            marks = await Redriving(opened.bus, opened.subjects).marks()
            found: deque[DeadLetter] = deque(maxlen=limit)
            total = 0
            async for letter in opened.bus.dead_letters():
                if wanted.selects(letter):
                    found.append(letter)
                    total += 1
            return [await _summary(opened, letter, marks.get(identity(letter), ())) for letter in found], total

    shown, total = asyncio.run(look())
    if as_json:
        print_json({"letters": shown, "total": total})
    elif not shown:
        say(
            "No dead letters." if wanted == _Wanted(group=None, seam=None, reason=None) else "No dead letter like that."
        )
    else:
        _print_letters(shown, total)


@app.command("show")
def show_letter(
    position: Annotated[str, typer.Argument(metavar="POSITION", help="As `dlq list` shows it.")],
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show one dead letter with its payload, redacted, and whether it can be sent again. Exit code 1: not there."""

    async def look() -> dict[str, Any] | None:
        async with session(bus, config) as opened:
            found = [letter async for letter in opened.bus.dead_letters() if letter.position == position]
            return await _document(opened, found[0]) if found else None

    document = asyncio.run(look())
    if document is None:
        _missing([position])
    elif as_json:
        print_json(document)
    else:
        _print_letter(document)


@app.command("redrive")
def redrive_letters(
    positions: Annotated[list[str] | None, typer.Argument(metavar="POSITION", help="As `dlq list` shows them.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every command among them that was not sent again yet.")] = False,
    group: GroupOption = None,
    seam: SeamOption = None,
    reason: ReasonOption = None,
    again: Annotated[bool, typer.Option("--again", help="Also those that were sent again before.")] = False,
    not_done: Annotated[
        str, typer.Option(metavar="TEXT", help="How you know that what an unsafe call does was not done; kept.")
    ] = "",
    timeout: Annotated[
        float | None, typer.Option(help="Seconds the new calls may take, queueing included; else the seam's timeout.")
    ] = None,
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Send dead commands again, as new calls. Exit code 4 when one of them must not be, 1 when one is not there."""
    wish = Wish(actor=actor(), again=again, not_done=not_done, timeout=timeout)
    wanted = _Wanted(group=group, seam=seam, reason=reason)
    _check_choice(positions or [], wanted, every=every)
    report = _Report(as_json=as_json)

    async def send() -> None:
        async with session(bus, config) as opened:
            redriving = Redriving(opened.bus, opened.subjects, Sealer.from_environment())
            letters = [letter async for letter in opened.bus.dead_letters() if wanted.selects(letter)]
            if not every:
                letters = _chosen(letters, positions or [], report)
            for letter in letters:
                verdict, mark = await redriving.redrive(letter, wish)
                if mark is None and every and verdict.why in ("no-command", "redriven"):
                    report.passed += 1
                else:
                    report.add(verdict, mark)

    try:
        asyncio.run(send())
    except BusError as error:
        report.end()
        raise BusError(f"{error} ({report.sent} sent before that; run it again, nothing is sent twice)") from error
    report.end()
    raise typer.Exit(1 if report.missing else 4 if report.refused else 0)


class _Report:
    """Says of each letter what became of it, as it happens: a long run that fails has told what it did."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self.sent = self.refused = self.passed = 0
        self.missing: list[str] = []

    def add(self, verdict: Verdict, mark: Mark | None) -> None:
        letter = verdict.letter
        if mark is None:
            self.refused += 1
        else:
            self.sent += 1
        if self._as_json:
            sent = {"redriven": mark is not None, "callid": mark.callid if mark else None}
            print_json({"position": letter.position, **sent, "why": verdict.why, "text": verdict.text})
        elif mark is not None:
            say(safe(f"{letter.position}  {seam_of(letter)}: sent again as call {mark.callid}"))
        else:
            say(safe(f"{letter.position}  {seam_of(letter)}: not sent, {verdict.text}"))

    def end(self) -> None:
        if self._as_json:
            return
        if self.missing:
            _say_missing(self.missing)
        if self.passed:
            say(f"{plural(self.passed, 'dead letter')} passed over: no command, or sent again before (--again).")
        if self.sent + self.refused > 1 or self.passed:
            say(f"{self.sent} sent again, {self.refused} refused.")


def _check_choice(positions: Sequence[str], wanted: _Wanted, *, every: bool) -> None:
    if every and positions:
        raise ConfigurationError("either name positions or say --all", where="redrive")
    if not every and not positions:
        raise ConfigurationError("name positions (`crossfade dlq list` shows them), or say --all", where="redrive")
    if not every and wanted != _Wanted(group=None, seam=None, reason=None):
        raise ConfigurationError("--group, --seam and --reason go with --all", where="redrive")


def _chosen(letters: Sequence[DeadLetter], positions: Sequence[str], report: _Report) -> list[DeadLetter]:
    by_position = {str(letter.position): letter for letter in letters}
    report.missing = [position for position in positions if position not in by_position]
    return [by_position[position] for position in dict.fromkeys(positions) if position in by_position]


def _missing(positions: Sequence[str]) -> None:
    _say_missing(positions)
    raise typer.Exit(1)


def _say_missing(positions: Sequence[str]) -> None:
    typer.echo(
        f"crossfade: no dead letter at {', '.join(map(safe, positions))}: `crossfade dlq list` shows their positions",
        err=True,
    )


# -- as data -----------------------------------------------------------------------------------------------------


async def _summary(opened: Session, letter: DeadLetter, marks: Sequence[Mark]) -> dict[str, Any]:
    flow = await origin(opened.bus, letter)
    return {
        "position": letter.position,
        "time": letter.time.isoformat(),
        "group": letter.group,
        "seam": seam_of(letter),
        "type": letter.event.type if letter.event else None,
        "callid": letter.event.get("callid") if letter.event else None,
        "workflow": flow.workflow if flow else None,
        "instance": (flow.instance or None) if flow else None,
        "step": (flow.step or None) if flow else None,
        "reason": letter.reason,
        "attempts": letter.attempts,
        "redriven": [mark.callid for mark in marks],
        "local_time": clock(letter.time),
    }


async def _document(opened: Session, letter: DeadLetter) -> dict[str, Any]:
    redactor = Redactor.from_environment()
    redriving = Redriving(opened.bus, opened.subjects, Sealer.from_environment())
    verdict = await redriving.judge(letter, Wish(actor=actor()))
    attributes = dict(letter.event.extensions) if letter.event else redactor.headers(letter.headers)
    unread = f"<{plural(len(letter.data), 'byte')} that are no event>"
    return {
        **await _summary(opened, letter, verdict.marks),
        "detail": redactor.text(letter.detail),
        "subject": letter.subject,
        "origin": letter.origin,
        "id": letter.event.id if letter.event else None,
        "source": letter.event.source if letter.event else None,
        "attributes": attributes,
        "data": await shown_data(opened.bus, letter.event, redactor) if letter.event else unread,
        "redrive": {"possible": not verdict.why, "why": verdict.why, "text": verdict.text},
    }


# -- for people --------------------------------------------------------------------------------------------------


def _print_letters(shown: Sequence[Mapping[str, Any]], total: int) -> None:
    flows = any(letter["workflow"] for letter in shown)
    rows = [("pos", "died at", "seam", "call", *(("workflow",) if flows else ()), "reason", "tries", "again")]
    rows += [
        (
            safe(letter["position"]),
            letter["local_time"][:-4],
            safe(letter["seam"]),
            safe((letter["callid"] or "-")[-8:]),
            *((_flow(letter),) if flows else ()),
            safe(letter["reason"]),
            str(letter["attempts"]),
            "sent" if letter["redriven"] else "",
        )
        for letter in shown
    ]
    print_columns(rows)
    if total > len(shown):
        say(f"\nThe newest {len(shown)} of {total}; --limit {total} shows all.")
    say("\nOne in full: crossfade dlq show POS. Once its cause is mended: crossfade dlq redrive POS")


def _flow(letter: Mapping[str, Any]) -> str:
    """Workflow, the beginning of its instance's id, and step, as far as they are known."""
    parts = letter["workflow"] or "-", (letter["instance"] or "")[:8], letter["step"] or ""
    return safe(" ".join(part for part in parts if part))


def _print_letter(document: Mapping[str, Any]) -> None:
    say(safe(f"dead letter {document['position']}: {document['reason']}"))
    if document["detail"]:
        say(safe(document["detail"]))
    say("")
    flow = ("workflow", "instance", "step")
    facts = ("seam", *flow, "group", "type", "attempts", "callid", "subject", "origin", "id", "source")
    rows = [("died at", document["local_time"])]
    rows += [(name, safe(document[name])) for name in facts if document[name] is not None]
    print_columns(rows)
    say("")
    others = [(name, safe(value)) for name, value in sorted(document["attributes"].items()) if name not in facts]
    print_columns(others or [("no attributes", "")])
    say("\npayload " + safe(json.dumps(document["data"], ensure_ascii=False)))
    verdict = document["redrive"]
    if verdict["possible"]:
        say(f"\nIt can be sent again: crossfade dlq redrive {safe(document['position'])}")
    else:
        say(f"\nIt is not sent again as it stands: {safe(verdict['text'])}")
