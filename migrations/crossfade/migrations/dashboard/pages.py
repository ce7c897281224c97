"""The pages as text: templates with every value escaped, and the words and drawings they are filled with."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import quote

from crossfade.shim.errors import MissingExtraError
from crossfade.shim.instances import build_name
from crossfade.shim.stages import ORDER, TABLE, Stage

try:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
except ModuleNotFoundError as error:
    raise MissingExtraError("migrate", needed_for="the dashboard") from error

from crossfade.proxy.control.gate import Entrance

from . import drawing, numbers, saying, waterfalls

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.migrations.evidence import PathName
    from crossfade.migrations.overview import SeamView
    from crossfade.migrations.retirements import Seen
    from crossfade.migrations.traces.index import Selection
    from crossfade.migrations.traces.run import Run
    from crossfade.proxy.control.auth import Caller

    from .history import Kind, Moved
    from .runs import Listed
    from .sides import Sides
    from .watching import Look

HERE: Final = Path(__file__).parent
ROOT: Final = "/dashboard"
LOGIN: Final = f"{ROOT}/login"

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


def run_address(run: str) -> str:
    """The page of a run, whatever its id is made of."""
    return f"{ROOT}/runs/{quote(run, safe='', errors='replace')}"


_templates = Environment(
    loader=FileSystemLoader(HERE / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_WORDS: Final[dict[str, Any]] = {
    "root": ROOT,
    "login": LOGIN,
    "percent": numbers.percent,
    "seconds": numbers.seconds,
    "count": numbers.count,
    "change": numbers.change,
    "place": saying.place,
    "answer": saying.answer,
    "between": saying.between,
    "wanted": saying.wanted,
    "shown": saying.shown,
    "metrics": saying.METRICS,
    "states": saying.STATES,
    "bound_bar": drawing.bound_bar,
    "width": drawing.WIDTH,
    "build_name": build_name,
    "run_address": run_address,
    "parts": waterfalls.PARTS,
    "chart_width": drawing.CHART_WIDTH,
    "chart_height": drawing.CHART_HEIGHT,
}
"""What templates may say beside what a page hands them."""
cast("dict[str, Any]", _templates.globals).update(_WORDS)


def entrance() -> Entrance:
    """What somebody who has not logged in may see: the page to do so, style and script."""
    files = {
        f"{ROOT}/static/{path.name}": (_TYPES[path.suffix], path.read_bytes())
        for path in sorted((HERE / "static").iterdir())
    }
    page = _templates.get_template("login.html").render().encode()
    return Entrance(login=LOGIN, documents={LOGIN: ("text/html; charset=utf-8", page), **files})


def overview_page(look: Look, caller: Caller) -> str:
    """Every seam, by playbook."""
    views = look.overview.seams
    playbooks = [
        (applied.playbook, [view for view in views if view.applied.name == applied.name])
        for applied in look.overview.playbooks
    ]
    words = [saying.answer(view) for view in views]
    counted = {tone: [word for word in words if word.tone == tone] for tone in ("stop", "ask", "hold", "go", "rest")}
    return _render("overview.html", look, caller, playbooks=playbooks, counted=counted, compared=_compared)


def seam_page(look: Look, caller: Caller, view: SeamView, *, kinds: Sequence[Kind], moves: Sequence[Moved]) -> str:
    """One seam: its gate, old against new, mismatches, what was done."""
    gathered = view.gathered
    paths = gathered.evidence.paths if gathered else {}
    return _render(
        "seam.html",
        look,
        caller,
        view=view,
        compared=_compared(view),
        findings=saying.worst_first(view.ruling.findings) if view.ruling else [],
        bars=drawing.latency_bars(paths),
        chart=drawing.latency_chart(gathered.evidence.minutes, _shown(view)) if gathered else None,
        split=_split(view),
        kinds=[_kind(kind) for kind in kinds],
        moves=moves,
        stages=_stages_back(view),
        leaving=view.live is not None and view.live.stage in (Stage.BUS, Stage.RETIRED),
        deeds=_deeds(view),
        ago=partial(numbers.ago, now=look.at),
    )


PERIODS: Final = ((12, "12 hours"), (24, "1 day"), (168, "7 days"), (840, "35 days"))
"""Quiet periods to choose from, in hours: the last one is longer than any month."""

_STEPS: Final = (
    ("At bus", "quiet for a whole period"),
    ("Retired", "the code is a tripwire, quiet for another"),
    ("Acknowledged", "somebody says that it goes"),
    ("Deleted", "by you"),
)


def retire_page(look: Look, caller: Caller, seen: Seen, *, period: int) -> str:
    """How far the legacy code of a seam is on its way out, and the next step."""
    found = seen.retirement
    deeds = {
        "retire": ("Retire", f"Retire {found.seam}: its legacy code stays as a tripwire"),
        "acknowledge": ("Acknowledge", f"I know that the legacy code of {found.seam} goes"),
    }
    label, text = deeds.get(found.next, ("", ""))
    return _render(
        "retire.html",
        look,
        caller,
        seen=seen,
        said=saying.leaving(found),
        deed={"label": label, "text": text} if label and not found.holds else None,
        reached={Stage.BUS: 0, Stage.RETIRED: 1}.get(found.stage, -1) if found.next != "delete" else 2,
        steps=_STEPS,
        period=period,
        periods=PERIODS if period in dict(PERIODS) else ((period, f"{period} hours"), *PERIODS),
        led=any(view.progress.seam == found.seam for view in look.overview.seams),
        ago=partial(numbers.ago, now=look.at),
    )


def mismatch_page(look: Look, caller: Caller, seam: str, kind: Kind, sample: dict[str, Any], *, sides: Sides) -> str:
    """One mismatch: what was asked, and both answers side by side."""
    return _render("mismatch.html", look, caller, seam=seam, kind=kind, sample=sample, sides=sides)


def runs_page(look: Look, caller: Caller, listed: Listed, wanted: Selection) -> str:
    """The newest runs, and a form to choose among them."""
    began = [numbers.ago(datetime.fromtimestamp(run.began, UTC), look.at) for run in listed.runs]
    rows = list(zip(listed.runs, began, strict=True))
    return _render("runs.html", look, caller, rows=rows, behind=listed.behind, wanted=wanted)


def run_page(look: Look, caller: Caller, run: Run) -> str:
    """One run: its tree of calls on one scale of time, and what it waited for."""
    return _render("run.html", look, caller, found=waterfalls.waterfall(run, now=look.at))


def message_page(caller: Caller, *, title: str, text: str) -> str:
    """One sentence, and the way back."""
    return _templates.get_template("message.html").render(caller=caller, title=title, text=text, leader="?", at=None)


def _render(name: str, look: Look, caller: Caller, **more: Any) -> str:
    return _templates.get_template(name).render(
        look=look, at=look.at, leader=look.overview.leader, caller=caller, **more
    )


# -- what a template should not have to think about --------------------------------------------------------------


def _compared(view: SeamView) -> dict[str, Any]:
    """Old beside new in a line: match, p99 and errors; the new side is the bus from canary on, else shadow runs."""
    if view.gathered is None or view.live is None:
        return {"match": None, "old": None, "new": None, "path": ""}
    evidence = view.gathered.evidence
    path: PathName = _shown(view)[1]
    compared, misses = evidence.compared, evidence.verdicts["mismatch"]
    found = next((each for each in (view.ruling.findings if view.ruling else ()) if each.metric == "match"), None)
    old = evidence.paths["legacy"]
    return {
        "match": (compared - misses) / compared if compared else None,
        "compared": compared,
        "misses": misses,
        "finding": found,
        "path": path,
        "old": _traffic(old if old.calls or view.gathered.baseline is None else view.gathered.baseline),
        "new": _traffic(evidence.paths[path]),
        "coverage": evidence.covered.share,
        "distinct": len(evidence.callers if view.live.stage == "observe" else evidence.keys),  # as the gate counts them
        "observing": view.live.stage == "observe",  # nothing is compared yet, so there is nothing to cover
        "handlers": sorted(evidence.handlers),
        "skipped": sorted(evidence.reasons.items(), key=lambda each: -each[1])[:5],
        "since": evidence.begun,
        "build": None if evidence.build is None else build_name(evidence.build),
        "outdated": evidence.outdated,
        "unanswered": evidence.unanswered.most_common(),
        "worst": evidence.tenants.worst(),
        "newest": evidence.newest,
    }


def _traffic(traffic: Any) -> dict[str, Any]:
    return {
        "calls": traffic.calls,
        "errors": traffic.errors / traffic.calls if traffic.calls else None,
        "p50": traffic.latency.quantile(0.5),
        "p99": traffic.latency.quantile(0.99),
    }


def _shown(view: SeamView) -> tuple[PathName, PathName]:
    return ("legacy", "bus" if view.live and TABLE[view.live.stage].commands else "shadow")


def _split(view: SeamView) -> dict[str, Any] | None:
    """Which share of keys the policy sends to the bus, and which share of calls went there."""
    if view.live is None or view.gathered is None:
        return None
    stage, paths = view.live.stage, view.gathered.evidence.paths
    asked = view.live.percent / 100 if stage is Stage.CANARY else float(TABLE[stage].commands)
    calls = paths["bus"].calls + paths["legacy"].calls
    seen = paths["bus"].calls / calls if calls else None
    return {"asked": asked, "seen": seen, "bus": paths["bus"].calls, "legacy": paths["legacy"].calls}


def _kind(kind: Kind) -> dict[str, Any]:
    newest = kind.samples[0]
    return {"kind": kind, "newest": newest, "first": next(iter(newest["differences"]), None)}


def _stages_back(view: SeamView) -> list[str]:
    """Where it may be taken, the nearest first."""
    if view.live is None:
        return []
    return [str(stage) for stage in reversed(ORDER[: ORDER.index(view.live.stage)])]


def _deeds(view: SeamView) -> list[dict[str, str]]:
    """What an operator may do now: the likeliest first."""
    status, following = view.progress.status, saying.next_step(view)
    if view.live is None or status == "retired":
        return []
    seam = view.progress.seam
    deeds: list[dict[str, str]] = []
    if status == "awaiting-approval":
        deeds.append(_deed("approve", f"Approve {following}", f"Let {seam} go on to {following}", "main"))
    if status in ("paused", "rolled-back"):
        deeds.append(_deed("resume", "Resume", f"Give {seam} back to the controller, where it stands", "main"))
    else:
        deeds.append(_deed("pause", "Pause", f"Keep the controller off {seam}; abort rules rest, too", "plain"))
    if following:
        text = f"Move {seam} to {following} now, past its gate, as your own decision"
        deeds.append(_deed("advance", f"Skip gate to {following}", text, "plain"))
    if _stages_back(view):
        text = f"Take {seam} back at once, breaking off what is under way. It stays back until somebody resumes it"
        deeds.append(_deed("rollback", "Roll back", text, "stop"))
    return deeds


def _deed(name: str, label: str, text: str, look: str) -> dict[str, str]:
    return {"name": name, "label": label, "text": text, "look": look}
