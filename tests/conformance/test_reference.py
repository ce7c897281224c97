"""The table of the docs is what the tests claim and what the peers were seen to do."""

from __future__ import annotations

from support import mutants
from support.conformance_page import PAGE, PEERS, claims, render
from support.verdicts import AS_ASSERTED, CAUGHT, ELSEWHERE, FAULTS, REASONS


def test_the_page_is_the_claims_and_the_outcomes(pytestconfig):
    """Made again, the page is the one in the docs; `--observe` writes it."""
    if pytestconfig.option.observe:
        PAGE.write_text(render())

    assert PAGE.read_text() == render(), "pytest tests/conformance/test_reference.py --observe writes it anew"


def test_every_case_is_asked_here_or_named_as_missing():
    """Each of the 70 cases has a test, or stands on the page among those that need more."""
    assert {claim.case for claim in claims()} | set(ELSEWHERE) == set(range(1, 71))


def test_every_claim_is_asked_of_every_peer():
    """No test of a port alone lacks a peer's outcome, and none that is gone has one."""
    missing = [
        f"{claim.name}: {peer}" for claim in claims() if claim.compared for peer in PEERS if peer not in claim.outcomes
    ]
    assert missing == []


def test_every_difference_has_a_reason():
    """Each case in which a peer differs says why ours is as it is, and no other does."""
    differing = {
        claim.case
        for claim in claims()
        for outcomes in claim.outcomes.values()
        for outcome in outcomes.values()
        if outcome != AS_ASSERTED
    }
    assert differing == set(REASONS)


def test_the_mutants_tests_exist():
    """The tests that must fail on a mutant are tests of this suite."""
    names = {claim.name for claim in claims()}
    assert {case.partition("[")[0] for caught in [*CAUGHT.values(), *FAULTS.values()] for case in caught} <= names


def test_every_fault_is_to_be_caught():
    """Each fault that can be put into ours names the tests that find it; `-m slow` runs them."""
    assert set(mutants.FAULTS) == set(FAULTS)
