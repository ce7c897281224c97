"""The page docs/reference/http-conformance.md, made from the tests' own claims and what the peers were seen to do."""

from __future__ import annotations

import ast
import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from support.project import TOP
from support.verdicts import AS_ASSERTED, ELSEWHERE, OPEN, REASONS, RESULTS

if TYPE_CHECKING:
    from pathlib import Path

FOLDER = TOP / "tests" / "conformance"
PAGE = TOP / "docs" / "reference" / "http-conformance.md"
PEERS = {"nginx": "nginx", "haproxy": "HAProxy", "envoy": "Envoy"}

HEAD = """\
# HTTP conformance

What `crossfade proxy` promises on the wire, and where nginx, HAProxy and Envoy do otherwise. Each line is a test of
`tests/conformance`: raw bytes in, exact bytes recorded at an upstream that misbehaves, small limits. Ours must do what
the line says, in every run of the tests. The peers were asked the same questions with like limits:
{versions}. What they answered is kept in `tests/conformance/peers.json`; `pytest -m slow tests/conformance` asks them
again. `yes` says that they did the same; differences stand below, with our reason. A difference is no fault: several
are theirs by configuration, and some are repairs where we refuse.

"""
NOTE = """
Not asked of the proxies alone, because more than a port is needed; {count} cases:

"""


@dataclass
class Claim:
    """One test function of the suite."""

    name: str
    case: int
    text: str
    compared: bool
    outcomes: dict[str, dict[str, str]] = field(default_factory=dict)  # peer -> variant -> what it did


def claims() -> list[Claim]:
    """Every numbered test, by case."""
    found = [claim for path in sorted(FOLDER.glob("test_*.py")) for claim in _claims_of(path)]
    recorded = json.loads(RESULTS.read_text())
    for claim in found:
        for key, outcomes in recorded.items():
            name, _, variant = key.removesuffix("]").partition("[")
            if name == claim.name:
                for peer, outcome in outcomes.items():
                    claim.outcomes.setdefault(peer, {})[variant] = outcome
    return sorted(found, key=lambda claim: claim.case)


def _claims_of(path: Path) -> list[Claim]:
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    return [
        Claim(
            name=node.name,
            case=int(match[1]),
            text=re.sub(r"\s+", " ", ast.get_docstring(node) or ""),
            compared="proxy" in [argument.arg for argument in node.args.args],
        )
        for node in functions
        if (match := re.match(r"test_(\d\d)_", node.name))
    ]


def render() -> str:
    """The page."""
    found = claims()
    versions = json.loads(RESULTS.read_text())["versions"]
    lines = [HEAD.format(versions=", ".join(f"{PEERS[peer]} {versions[peer]}" for peer in PEERS))]
    lines += ["| case | claim | ours | nginx | HAProxy | Envoy |\n", "|---|---|---|---|---|---|\n"]
    lines += [_row(claim) for claim in found]
    lines += ["\n## Where they differ\n"]
    for case in sorted({claim.case for claim in found}):
        if differences := [line for claim in found if claim.case == case for line in _differences(claim)]:
            lines += [f"\n**{case}.** {REASONS[case]}\n\n", *differences]
    lines += ["\n## What needs more than a port\n", NOTE.format(count=len(ELSEWHERE))]
    lines += [f"- {case}: {what}\n" for case, what in ELSEWHERE.items()]
    return "".join(lines)


def _row(claim: Claim) -> str:
    cells = [_cell(claim.outcomes.get(peer)) if claim.compared else "" for peer in PEERS]
    ours = "not yet" if any(key.partition("[")[0] == claim.name for key in OPEN) else "yes"
    return f"| {claim.case} | {_escaped(claim.text)} | {ours} | {' | '.join(cells)} |\n"


def _cell(outcomes: dict[str, str] | None) -> str:
    if not outcomes:
        return "not asked"
    differing = sum(outcome != AS_ASSERTED for outcome in outcomes.values())
    if not differing:
        return "yes"
    return "differs" if differing == len(outcomes) else f"{differing} of {len(outcomes)} differ"


def _differences(claim: Claim) -> list[str]:
    lines = []
    for peer, name in PEERS.items():
        by_outcome: dict[str, list[str]] = {}
        for variant, outcome in sorted(claim.outcomes.get(peer, {}).items()):
            if outcome != AS_ASSERTED:
                by_outcome.setdefault(outcome, []).append(variant)
        for outcome, variants in by_outcome.items():
            asked = ", ".join(f"`{variant}`" for variant in variants if variant)
            lines.append(f"- {name}{f', {asked}' if asked else ''}: {_escaped(outcome)}\n")
    return lines


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;")
