"""The stage table: forward one at a time, back at once and no dead ends."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.errors import StageChangeRefusedError, UnknownStageError
from crossfade.shim.stages import ORDER, TABLE, Stage, check_move, parse_stage

any_stage = st.sampled_from(ORDER)


def allowed(current, target, **options):
    try:
        check_move(current, target, **options)
    except StageChangeRefusedError:
        return False
    return True


def test_every_stage_has_a_row_in_order():
    """One table, complete."""
    assert list(TABLE) == list(ORDER) == ["legacy", "observe", "shadow", "canary", "bus", "retired"]


def test_forward_goes_one_stage_at_a_time():
    """Each next stage may be reached; none may be skipped without force."""
    for at, (current, target) in itertools.product(range(len(ORDER)), itertools.product(ORDER, ORDER)):
        if ORDER.index(current) == at and ORDER.index(target) > at:
            assert allowed(current, target) == (ORDER.index(target) == at + 1)


def test_back_goes_to_any_earlier_stage_at_once():
    """Rollback is one move, from everywhere but retired."""
    for current, target in itertools.combinations(reversed(ORDER), 2):
        assert allowed(current, target) == (current is not Stage.RETIRED)


def test_retired_is_left_by_force_only():
    """The legacy code may be gone."""
    assert not allowed(Stage.RETIRED, Stage.LEGACY)
    assert allowed(Stage.RETIRED, Stage.LEGACY, force=True)


def test_no_dead_ends():
    """Every stage is reachable from every other by allowed moves, retired apart."""
    reach = {stage: {stage} for stage in ORDER}
    for _ in ORDER:
        for stage in ORDER:
            for known in list(reach[stage]):
                reach[stage] |= {target for target in ORDER if allowed(known, target)}
    assert all(reach[stage] == set(ORDER) for stage in ORDER if stage is not Stage.RETIRED)


@given(any_stage, any_stage)
def test_a_refusal_says_what_to_do_instead(current, target):
    """The text names a stage that can be taken."""
    try:
        check_move(current, target)
    except StageChangeRefusedError as error:
        assert any(word in str(error) for word in ("--force", "go to"))  # noqa: PT017 - or no error


def test_staying_is_always_allowed():
    """Setting the stage a seam is at changes nothing."""
    assert all(allowed(stage, stage) for stage in ORDER)


def test_rows_do_not_contradict_themselves():
    """Who answers from the bus sends commands; who answers from legacy alone sends none."""
    for row in TABLE.values():
        assert row.commands == (row.answers != "legacy")
    assert not TABLE[Stage.LEGACY].observes


@given(st.text())
def test_an_unknown_stage_is_refused_by_name(text):
    """Never guessed, never a promotion."""
    if text in list(ORDER):
        assert parse_stage(text) == text
    else:
        with pytest.raises(UnknownStageError, match="legacy, observe"):
            parse_stage(text)


def test_the_table_cannot_be_changed():
    """It is read by many."""
    with pytest.raises(TypeError):
        TABLE[Stage.LEGACY] = TABLE[Stage.BUS]
    with pytest.raises(AttributeError):
        TABLE[Stage.LEGACY].commands = True
