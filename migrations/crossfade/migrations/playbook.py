"""A playbook: which seams move, through which stages, behind which gates. Pure, but for reading the file.

Rules
- A step's gate is judged while the seam stands at that step: it lets it go on to the next.
- A step's ``abort`` rules hold while the seam stands there, and beyond the last step as long as the playbook runs.
- ``approve`` on a step: somebody must say yes before a seam goes there, gate or no gate.
- Stages that the steps leave out are passed through without a gate; the way never goes back, and never to retired.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from crossfade.proxy.documents import Document, read_document
from crossfade.proxy.shapes import Choice, Key, ListOf, Number, Section, Text, json_schema
from crossfade.shim.errors import ConfigurationError, SeamDefinitionError
from crossfade.shim.stages import ORDER, Stage
from crossfade.shim.subjects import check_seam

from .gates import Abort, Gate, ReplayWanted
from .limits import Limit, Sign, parse_duration, parse_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.proxy.documents import Keys

_TARGET: Final = re.compile(r"(observe|shadow|bus|canary\s+(\d+(?:\.\d{1,2})?)\s*%)\Z")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}\Z")
_BELOW: Final[tuple[Sign, ...]] = ("<=", "<")
_ABOVE: Final[tuple[Sign, ...]] = (">=", ">")
_FROM_CANARY: Final = ("errors", "unknown")
_TIMES: Final = ("p50", "p99")
_NO_CALLS: Final[Mapping[str, str]] = dict.fromkeys(
    _FROM_CANARY, "no call goes over the bus yet: ask for it from canary on"
)
_NOT_COMPARED: Final[Mapping[str, str]] = dict.fromkeys(
    ["match", "coverage"], "nothing is compared: ask for it at shadow"
)
_NOT_RUN: Final[Mapping[str, str]] = dict.fromkeys(_TIMES, "no handler runs yet: ask for it from shadow on")
_UNKNOWABLE: Final[Mapping[Stage, Mapping[str, str]]] = {
    Stage.OBSERVE: {**_NO_CALLS, **_NOT_COMPARED, **_NOT_RUN, "calls": "nothing is compared: ask for it at shadow"},
    Stage.SHADOW: _NO_CALLS,
    Stage.CANARY: _NOT_COMPARED,
    Stage.BUS: _NOT_COMPARED,
}
"""What no evidence of a stage can ever show: a gate that asked for it would never open."""
_STEPS: Final = "write observe, shadow, canary 5% or bus (retiring is `crossfade migrate retire`)"

_LIMIT_ABOVE: Final = Text(like='">= 0.99"')
_LIMIT_BELOW: Final = Text(like='"<= legacy + 1%"')
_TIME: Final = Text(like="1h")
_CONFIDENCE: Final = Number(least=0.5, most=0.9999)

_REPLAY: Final = Section(
    keys={
        "within": Key(shape=_TIME, what="Time since it passed, like 1h or 7d.", required=True),
        "build": Key(
            shape=Text(like='"1.4.2"'),
            what="What `crossfade replay` said the build was: `--build`, `CROSSFADE_BUILD`, else git's word.",
            default="any",
        ),
    },
    short="within",
)

_GATE: Final = Section(
    keys={
        "match": Key(
            shape=_LIMIT_ABOVE,
            what="Share of compared calls without a difference that counts; its lower bound must reach this.",
            default="not asked for",
            danger="Close to 1 it takes many calls: 449 without one mismatch prove 0.99.",
        ),
        "confidence": Key(
            shape=_CONFIDENCE,
            what="Of every bound of this gate, however often it is looked at.",
            default="0.95",
            danger="At 0.5 chance promotes.",
        ),
        "coverage": Key(
            shape=_LIMIT_ABOVE,
            what="Share of eligible calls that were compared, in all and for each kind of call (size, time, outcome) "
            "that is a twentieth of them.",
            default="not asked for",
            danger="Above the policy's `sample` it is never reached.",
        ),
        "calls": Key(
            shape=Number(least=1, most=2**31, whole=True),
            what="Compared calls at shadow, calls that the bus answered from canary on.",
            default="none",
        ),
        "keys": Key(
            shape=Number(least=1, most=1000, whole=True),
            what="Distinct users (else sessions, else runs) whose calls were compared or on the bus; at observe: seen.",
            default="none",
            danger="With few, one noisy user is all the evidence.",
        ),
        "hold": Key(
            shape=_TIME,
            what="Time since the last move or a new build of the handlers, like 90s, 5m, 1h or 7d.",
            default="none",
            danger="Shorter than a business day, the evidence is of one hour's traffic.",
        ),
        "errors": Key(
            shape=_LIMIT_BELOW,
            what="Share of calls that failed on the bus or that it left without an answer; from canary on.",
            default="not asked for",
        ),
        "unknown": Key(
            shape=_LIMIT_BELOW,
            what="Share of calls of which nobody knows whether they ran; from canary on.",
            default="not asked for",
        ),
        "p50": Key(
            shape=_LIMIT_BELOW, what="Median time, like `<= legacy * 1.5` or `<= 80ms`.", default="not asked for"
        ),
        "p99": Key(shape=_LIMIT_BELOW, what="99th percentile of the time.", default="not asked for"),
        "replay": Key(
            shape=_REPLAY,
            what="A replay of the seam must have passed within this time, like `1d`, or with one build of your "
            'application, like `{within: 1d, build: "1.4.2"}`. It is no live evidence.',
            default="not asked for",
            danger="Without `build` a pass of older code counts, too.",
        ),
    }
)

_ABORT: Final = Section(
    keys={
        "match": Key(shape=Text(like='"< 0.9"'), what="Share of compared calls that match.", default="no limit"),
        "errors": Key(
            shape=Text(like='"> legacy + 1%"'),
            what="Share of calls that failed on the bus or that it left without an answer.",
            default="no limit",
        ),
        "unknown": Key(
            shape=Text(like='"> 0.1%"'), what="Share of calls whose outcome nobody knows.", default="no limit"
        ),
        "p50": Key(shape=Text(like='"> legacy * 2"'), what="Median time.", default="no limit"),
        "p99": Key(shape=Text(like='"> legacy * 1.5"'), what="99th percentile of the time.", default="no limit"),
        "confidence": Key(
            shape=_CONFIDENCE,
            what="How sure it must be that a limit is passed.",
            default="0.9",
            danger="Higher, a regression runs for longer; lower, a good seam is taken back by chance.",
        ),
    }
)

_STEP: Final = Section(
    keys={
        "to": Key(shape=Text(like="canary 5%"), what="observe, shadow, canary PERCENT% or bus.", required=True),
        "gate": Key(shape=_GATE, what="What lets a seam go on from here.", default="nothing is asked for"),
        "abort": Key(shape=_ABORT, what="What takes it back from here.", default="the playbook's"),
        "approve": Key(
            shape=Choice(options=("owner", "anyone")),
            what="Who must say yes before a seam goes here: `owner` (one of `owners`) or `anyone`.",
            default="nobody",
        ),
    }
)

SHAPE: Final = Section(
    keys={
        "name": Key(
            shape=Text(like="tools-to-the-bus"), what="Its name on the bus: a-z, 0-9 and -.", default="the file's name"
        ),
        "title": Key(shape=Text(like="Tool calls through the bus"), what="A line for people.", default="none"),
        "about": Key(
            shape=Text(like="Reads first"), what="When to use it, what to watch, how to go back.", default="none"
        ),
        "seams": Key(shape=ListOf(item=Text(like="web.search")), what="Which seams move.", required=True),
        "owners": Key(shape=ListOf(item=Text(like="ann")), what="Who may approve.", default="anyone who may operate"),
        "steps": Key(shape=ListOf(item=_STEP), what="The way, in order.", required=True),
        "abort": Key(shape=_ABORT, what="What takes a seam back, at steps that say nothing else.", default="no limit"),
        "breaker": Key(
            shape=Choice(options=("rollback", "ignore")),
            what="What becomes of a seam at canary or bus when a proxy whose breaker opened asks for a rollback.",
            default="rollback",
            danger="Ignored, the proxy answers by legacy where that is legal and with errors where it is not.",
        ),
    }
)
"""Every setting of a playbook: the reader, the JSON Schema and the check of the reference page use this table."""


def schema() -> dict[str, Any]:
    """The JSON Schema of a playbook, as ``docs/reference/playbook.schema.json`` holds it."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "playbook", **json_schema(SHAPE)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """A place on the way: a stage, at ``canary`` with its share of keys in percent, and what lets a seam leave it."""

    to: Stage
    percent: float = 0.0
    gate: Gate = field(default_factory=Gate)
    abort: Abort = field(default_factory=Abort)
    approve: str = ""

    def __str__(self) -> str:
        """As a playbook writes it."""
        return f"{self.to} {self.percent:g}%" if self.to is Stage.CANARY else str(self.to)


@dataclass(frozen=True, kw_only=True, slots=True)
class Playbook:
    """The way of some seams. ``title`` and ``about`` are for people; ``owners`` may approve steps that ask for one."""

    name: str
    seams: tuple[str, ...]
    steps: tuple[Step, ...]
    title: str = ""
    about: str = ""
    owners: tuple[str, ...] = ()
    breaker: Literal["rollback", "ignore"] = "rollback"


def read_playbook(file: str, *, text: bytes | None = None) -> Playbook:
    """Read a playbook. Raises ``ConfigurationError`` with every mistake at file:line:column."""
    document = read_document(file, SHAPE, text=text)
    values = cast("Mapping[str, Any]", document.values or {})
    building = _Building(document)
    playbook = Playbook(
        name=building.name(values.get("name")),
        seams=building.seams(values.get("seams")),
        steps=building.steps(values.get("steps"), values.get("abort")),
        title=values.get("title") or "",
        about=values.get("about") or "",
        owners=tuple(values.get("owners") or ()),
        breaker=values.get("breaker") or "rollback",
    )
    document.check()
    return playbook


class _Building:
    """Makes a playbook of a document, reporting what looks right and is wrong."""

    def __init__(self, document: Document) -> None:
        self._document = document

    def name(self, given: str | None) -> str:
        if given and not _NAME.match(given):
            self._document.mistake(("name",), f"{given!r} is no name: use a-z, 0-9 and -, 63 at most")
        return given or ""

    def seams(self, given: list[str | None] | None) -> tuple[str, ...]:
        found: list[str] = []
        for at, seam in enumerate(given or ()):
            if seam in found:
                self._document.mistake(("seams", at), f"{seam} is here twice: a seam goes one way")
            try:
                found.append(check_seam(seam or "-"))
            except SeamDefinitionError as error:
                if seam:
                    self._document.mistake(("seams", at), str(error))
        if given == []:
            self._document.mistake(("seams",), "names no seam")
        return tuple(found)

    def steps(self, given: list[Any] | None, abort: Any) -> tuple[Step, ...]:
        found = [step for at, values in enumerate(given or ()) if (step := self._step(at, values or {}, abort))]
        for (at, before), (_, after) in pairwise(enumerate(found)):
            if before.to is Stage.SHADOW and after.to is Stage.BUS:
                self._document.mistake(
                    ("steps", at + 1, "to"), "a canary step must come before: write one, like canary 5%"
                )
            if (ORDER.index(after.to), after.percent) <= (ORDER.index(before.to), before.percent):
                self._document.mistake(("steps", at + 1, "to"), f"{after} does not lead on from {before}")
        if given == []:
            self._document.mistake(("steps",), "names no step")
        return with_every_stage(found)

    def _step(self, at: int, values: Mapping[str, Any], abort: Any) -> Step | None:
        keys: Keys = ("steps", at)
        found = _TARGET.match(values.get("to") or "")
        if not found:
            if values.get("to"):
                self._document.mistake((*keys, "to"), f"{values['to']!r} is no step: {_STEPS}")
            return None
        percent = float(found[2] or 0)
        to = Stage.CANARY if found[2] else Stage(found[1])
        if to is Stage.CANARY and not 0 < percent <= 100:
            self._document.mistake((*keys, "to"), f"{percent:g}% is no share: use above 0, up to 100")
        aborting = (*keys, "abort") if values.get("abort") is not None else ("abort",)
        return Step(
            to=to,
            percent=percent,
            gate=self._gate((*keys, "gate"), values.get("gate") or {}, to),
            abort=self._abort(aborting, (values.get("abort") or abort or {}) if abort or values.get("abort") else {}),
            approve=values.get("approve") or "",
        )

    def _gate(self, keys: Keys, values: Mapping[str, Any], to: Stage) -> Gate:
        for name, why in _UNKNOWABLE[to].items():
            if values.get(name):
                self._document.mistake((*keys, name), f"at {to} {why}")
        shares = {name: self._limit((*keys, name), values.get(name), _ABOVE) for name in ("match", "coverage")}
        bounds = {name: self._limit((*keys, name), values.get(name), _BELOW) for name in (*_FROM_CANARY, *_TIMES)}
        return Gate(
            **shares,
            **bounds,
            calls=int(values.get("calls") or 0),
            keys=int(values.get("keys") or 0),
            confidence=values.get("confidence") or Gate().confidence,
            hold=self._duration((*keys, "hold"), values.get("hold")) or 0.0,
            replay=self._replay((*keys, "replay"), values.get("replay") or {}),
        )

    def _replay(self, keys: Keys, values: Mapping[str, Any]) -> ReplayWanted | None:
        within = self._duration((*keys, "within"), values.get("within"))
        return ReplayWanted(within=within, build=values.get("build") or "") if within else None

    def _abort(self, keys: Keys, values: Mapping[str, Any]) -> Abort:
        bounds = {name: self._limit((*keys, name), values.get(name), _ABOVE[::-1]) for name in (*_FROM_CANARY, *_TIMES)}
        return Abort(
            **bounds,
            match=self._limit((*keys, "match"), values.get("match"), _BELOW[::-1]),
            confidence=values.get("confidence") or Abort().confidence,
        )

    def _limit(self, keys: Keys, text: str | None, signs: tuple[Sign, ...]) -> Limit | None:
        if text is None:
            return None
        try:
            return parse_limit(text, signs=signs, kind="time" if keys[-1] in _TIMES else "share", where="")
        except ConfigurationError as error:
            self._document.mistake(keys, str(error).removeprefix(": "))
            return None

    def _duration(self, keys: Keys, text: str | None) -> float | None:
        if text is None:
            return None
        try:
            return parse_duration(text, where="")
        except ConfigurationError as error:
            self._document.mistake(keys, str(error).removeprefix(": "))
            return None


def with_every_stage(steps: list[Step]) -> tuple[Step, ...]:
    """The steps with the stages in between that they leave out: a seam goes one stage at a time."""
    found: list[Step] = []
    for step in steps:
        reached = ORDER.index(found[-1].to) if found else 0
        found += [Step(to=stage) for stage in ORDER[reached + 1 : ORDER.index(step.to)] if stage is not Stage.CANARY]
        found.append(step)
    return tuple(found)


if __name__ == "__main__":
    import json
    import sys

    json.dump(schema(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
