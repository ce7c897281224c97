"""``crossfade noise``: what differs by nature, measured, and rules for a person to accept."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from crossfade.migrations.noise import CONFIDENCE, study
from crossfade.migrations.rules_file import add_rules
from crossfade.migrations.statistics import fixed_bounds
from crossfade.migrations.suggestions import suggest
from crossfade.shim.errors import ConfigurationError, UnknownSeamError
from crossfade.shim.policies import Move
from crossfade.shim.standing import standings
from crossfade.shim.subjects import check_seam

from ._session import BusOption, ConfigOption, JsonOption, print_json, say, session
from ._text import actor, plural, print_columns, read_span, safe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.migrations.noise import Place, Study
    from crossfade.migrations.suggestions import Suggestion
    from crossfade.shim.policies import StageChange

_TITLES: Final = ("path", "A/A", "A/B", "A/B beyond A/A", "is", "rule", "covers A/A", "covers A/B")
_NO_PAIRS: Final = (
    "No call was compared twice: say `crossfade stage set SEAM shadow --noise 0.05`, and wait for traffic."
)


def noise(
    seam: Annotated[str, typer.Argument(metavar="SEAM", help="Like web.search.")],
    since: Annotated[
        str | None, typer.Option(help="Only what was compared so long ago or later, like 30m, 2h or 1d.")
    ] = None,
    write: Annotated[
        str | None, typer.Option(metavar="FILE", help="Add the accepted rules to this rules file.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="PATH", help="Accept the rule suggested for this path; repeat it.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Put the accepted rules into the seam's live policy, too.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why; kept with what is applied.")] = "",
    bus: BusOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show where a seam's answers differ by nature, and rules for it; keep those that are accepted."""
    found = asyncio.run(_read(check_seam(seam), since, bus, config))
    suggested = {suggestion.path: suggestion for suggestion in suggest(found)}
    accepted = _accepted(suggested, accept or [], write, apply=apply)
    if as_json:
        print_json(_document(found, suggested))
    else:
        _print(found, suggested)
    if write and accepted:
        add_rules(write, accepted)
        if not as_json:
            say(f"Wrote {plural(len(accepted), 'rule')} to {write}.")
    if apply and accepted:
        why = reason or f"noise: accepted {', '.join(accepted)}"
        done = asyncio.run(_apply(seam, accepted, why, bus, config))
        if not as_json:
            say(f"{seam} compares with {plural(len(accepted), 'rule')} more (revision {done.revision}).")


async def _read(seam: str, since: str | None, bus: str | None, config: str | None) -> Study:
    start = datetime.now(UTC) - read_span(since, where="--since") if since else None
    async with session(bus, config) as opened:
        events = opened.bus.read(opened.subjects.verdicts(seam), since=start)
        return study([json.loads(stored.event.data or b"{}") async for stored in events])


async def _apply(seam: str, rules: dict[str, Any], reason: str, bus: str | None, config: str | None) -> StageChange:
    """Add ``rules`` to those of the live policy, by compare-and-set.

    Raises ``ConfigurationError`` for a path that has one, ``PolicyChangedError`` when somebody was faster.
    Without live rules it begins with the file's of this process, because live ones take the place of all others.
    """
    async with session(bus, config) as opened:
        standing = next((each for each in await standings(opened.policies, opened.bus) if each.seam == seam), None)
        if standing is None:
            raise UnknownSeamError(f"no process has declared seam {seam!r}: see `crossfade stage list`")
        live: Mapping[str, Any] = standing.live.settings if standing.live else {}
        file: Mapping[str, Any] = opened.config.seams.get(seam, {})
        known: Mapping[str, Any] = live.get("compare") or file.get("compare") or {}
        if taken := sorted(known.keys() & rules.keys()):
            raise ConfigurationError(f"{taken[0]} has a rule already: {_said(known[taken[0]])}", where="--accept")
        move = Move(
            target=standing.policy.stage,
            actor=actor(),
            reason=reason,
            settings={"compare": {**known, **rules}},
            expected=standing.policy.revision,
        )
        return await opened.policies.set_stage(seam, move)


def _accepted(suggested: dict[str, Suggestion], paths: list[str], write: str | None, *, apply: bool) -> dict[str, Any]:
    """What is said of each accepted path."""
    if paths and not (write or apply):
        raise ConfigurationError("where to? Say --write rules.yaml or --apply, too", where="--accept")
    if (write or apply) and not paths:
        where = "--write" if write else "--apply"
        raise ConfigurationError("nothing is written unasked: say --accept PATH for each rule", where=where)
    for path in paths:
        if path not in suggested:
            known = f"there is one for {', '.join(suggested)}" if suggested else "there is none yet"
            raise ConfigurationError(f"no rule is suggested for {path}; {known}", where="--accept")
    return {path: suggested[path].said for path in paths}


# -- what is shown -----------------------------------------------------------------------------------------------------


def _print(found: Study, suggested: dict[str, Suggestion]) -> None:
    if not found.n:
        say(_NO_PAIRS)
    else:
        say(f"{plural(found.n, 'call')} compared twice; ran again: {_sides(found)}.")
    for text in _remarks(found):
        say(text)
    if found.places:
        say("")
        print_columns([_TITLES, *(_row(place, suggested) for place in found.places)])
    if suggested:
        say("\nTo take one: --accept PATH with --write FILE or --apply. What a rule does not cover stays a mismatch.")


def _sides(found: Study) -> str:
    names = {"self": "the legacy body"}
    return ", ".join(f"{names.get(by, safe(by))} ({n})" for by, n in found.sides.items())


def _remarks(found: Study) -> list[str]:
    texts = list[str]()
    if found.sides.keys() - {"self"}:
        texts.append("A handler's own noise is not legacy's: what only the handler varies may be its regression.")
    if found.undecided:
        texts.append(f"{plural(found.undecided, 'sample')} left out: one of the two comparisons said nothing.")
    if found.unplaced:
        texts.append(f"{plural(found.unplaced, 'difference')} left out: too deep to be named.")
    if found.repeats:
        texts.append(_variances(found))
    return texts


def _variances(found: Study) -> str:
    counts = found.repeats
    answers = _share(counts["varied"], counts["pairs"], "pairs of runs differ")
    judge = _share(counts["flipped"], counts["asked"], "judgements of texts came out otherwise when asked again")
    return f"Repeats: {answers}; {judge}."


def _share(count: int, of: int, what: str) -> str:
    bounds = fixed_bounds(count, of - count, confidence=CONFIDENCE)
    return f"{count} of {of} {what} ({bounds.low:.0%} to {bounds.high:.0%})"


def _row(place: Place, suggested: dict[str, Suggestion]) -> tuple[str, ...]:
    own = next((suggestion for suggestion in suggested.values() if suggestion.place is place), None)
    seen = (safe(place.path), f"{len(place.noise)}/{place.n}", f"{len(place.raw)}/{place.n}")
    beyond = f"{100 * place.excess.low:.1f} to {100 * place.excess.high:.1f} %"
    if own is None:
        return (*seen, beyond, place.state, "-", "-", "-")
    rule = safe(f"{own.path}: {_said(own.said)}")
    covers = (f"{own.covers_noise}/{len(place.noise)}", f"{own.covers_raw}/{len(place.raw)}")
    return (*seen, beyond, place.state, rule, *covers)


def _said(said: Any) -> str:
    return said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)


def _document(found: Study, suggested: dict[str, Suggestion]) -> dict[str, Any]:
    return {
        "calls": found.n,
        "ran_again": dict(found.sides),
        "undecided": found.undecided,
        "unplaced": found.unplaced,
        "repeats": dict(found.repeats),
        "confidence": CONFIDENCE,
        "places": [
            {
                "path": place.path,
                "state": place.state,
                "noise": len(place.noise),
                "raw": len(place.raw),
                "both": place.both,
                "p": place.p,
                "excess": [place.excess.low, place.excess.high],
            }
            for place in found.places
        ],
        "suggestions": [
            {
                "path": suggestion.path,
                "rule": suggestion.said,
                "for": suggestion.place.path,
                "calls": suggestion.place.n,
                "excess_at_most": suggestion.place.excess.high,
                "covers_noise": suggestion.covers_noise,
                "covers_raw": suggestion.covers_raw,
            }
            for suggestion in suggested.values()
        ],
    }
