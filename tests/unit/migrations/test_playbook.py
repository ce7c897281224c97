"""A playbook is read whole or refused with every mistake where it stands."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from crossfade.migrations.gates import Abort, Gate
from crossfade.migrations.limits import Limit
from crossfade.migrations.playbook import read_playbook, schema
from crossfade.shim import ConfigurationError
from crossfade.shim.stages import Stage

GOOD = """
seams: [web.search, http.reports]
abort: {errors: "> legacy + 1%"}
steps:
  - to: shadow
    gate: {match: ">= 0.99", confidence: 0.95, coverage: ">= 0.9", keys: 20, hold: 1h}
  - to: canary 5%
    abort: {errors: "> legacy + 2%", p99: "> legacy * 1.5"}
  - {to: canary 50%}
  - {to: bus, approve: owner}
"""


def read(text):
    return read_playbook("playbook.yaml", text=text.encode())


def test_the_design_s_own_playbook():
    """Its steps, with the stage that it leaves out; an abort of the playbook's holds where a step has none."""
    found = read(GOOD)
    assert found.seams == ("web.search", "http.reports")
    assert [str(step) for step in found.steps] == ["observe", "shadow", "canary 5%", "canary 50%", "bus"]
    assert found.steps[0].gate == Gate()
    assert found.steps[1].gate == Gate(
        match=Limit(">=", 0.99), coverage=Limit(">=", 0.9), confidence=0.95, keys=20, hold=3600.0
    )
    assert found.steps[2].abort == Abort(
        errors=Limit(">", 0.02, legacy=True), p99=Limit(">", 0.0, legacy=True, factor=1.5)
    )
    assert found.steps[3].abort == Abort(errors=Limit(">", 0.01, legacy=True))
    assert (found.steps[4].to, found.steps[4].approve) == (Stage.BUS, "owner")


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("- {to: canary}", "4:10", "'canary' is no step: write observe, shadow, canary 5% or bus"),
        ("- {to: retired}", "4:10", "retiring is `crossfade migrate retire`"),
        ("- {to: canary 0%}", "4:10", "0% is no share"),
        ("- {to: shadow, gate: {match: 0.99}}", "4:32", "'0.99' is no limit: write >= or > and a number"),
        ("- {to: shadow, gate: {match: '< 0.9'}}", "4:32", "write >= or >"),
        ("- {to: shadow, gate: {errors: '< 1%'}}", "4:33", "no call goes over the bus yet"),
        ("- {to: observe, gate: {match: '>= 0.9'}}", "4:33", "nothing is compared: ask for it at shadow"),
        ("- {to: observe, gate: {calls: 9}}", "4:33", "nothing is compared"),
        ("- {to: observe, gate: {p99: '<= 1s'}}", "4:31", "no handler runs yet"),
        ("- {to: canary 5%, gate: {coverage: '>= 0.9'}}", "4:38", "at canary nothing is compared"),
        ("- {to: shadow, gate: {hold: soon}}", "4:31", "'soon' is no time: write 90s, 5m, 1h or 7d"),
        ("- {to: shadow, gate: {mach: '>= 0.9'}}", "4:25", "did you mean `match`?"),
        ("- {to: shadow, gate: {confidence: 1}}", "4:37", "a number from 0.5 to 0.9999"),
        ("- {to: shadow}\n  - {to: observe}", "5:10", "observe does not lead on from shadow"),
        ("- {to: shadow}\n  - {to: bus}", "5:10", "a canary step must come before"),
        ("- {gate: {}}", "4:5", "`to` is missing"),
    ],
)
def test_a_mistake_is_told_where_it_stands(line, place, message):
    """File, line, column, and what to write."""
    with pytest.raises(ConfigurationError) as caught:
        read(f"name: x\nseams: [web.search]\nsteps:\n  {line}\n")
    assert f"playbook.yaml:{place}: " in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seams: []\nsteps: [{to: shadow}]", "names no seam"),
        ("seams: [web.search]\nsteps: []", "names no step"),
        ("seams: [a, a]\nsteps: [{to: shadow}]", "a is here twice"),
        ("seams: [Web Search]\nsteps: [{to: shadow}]", "is no seam name"),
        ("steps: [{to: shadow}]", "`seams` is missing"),
        ("name: My Book\nseams: [a]\nsteps: [{to: shadow}]", "is no name"),
        ("", "the file is empty"),
    ],
)
def test_what_names_no_way_is_refused(text, message):
    """Nothing is moved by half a playbook."""
    with pytest.raises(ConfigurationError, match=message):
        read(text)


def test_the_published_schema_accepts_what_the_reader_accepts():
    """And is the table's."""
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(yaml.safe_load(GOOD), schema())
    kept = Path(__file__).parents[3] / "docs/reference/playbook.schema.json"
    assert json.loads(kept.read_text()) == schema(), "write it again: python -m crossfade.migrations.playbook"
