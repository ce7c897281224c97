"""How a seam goes its way: against a world in which anything may crash, and people move seams by hand."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from crossfade.migrations.gates import Finding, Ruling
from crossfade.migrations.playbook import read_playbook
from crossfade.migrations.progress import (
    CONTROLLER,
    Back,
    Forward,
    Live,
    SeamProgress,
    decide,
    moved,
    reconcile,
    stage_before,
)
from crossfade.shim.stages import ORDER, Stage

PLAYBOOK = read_playbook(
    "p.yaml", text=b"seams: [a]\nsteps: [{to: shadow}, {to: canary 5%}, {to: canary 50%}, {to: bus, approve: owner}]"
)
ALLOW, HOLD = Ruling("allow", ()), Ruling("hold", ())
BROKEN = Ruling("rollback", (Finding(metric="errors", state="violated", wanted="<", text="errors 9 %"),))
LEGACY = Live(stage=Stage.LEGACY, percent=0, revision=0)


def at(step, status="holding", revision=4, **more):
    return SeamProgress(seam="a", step=step, status=status, revision=revision, **more)


def live(step, revision=4, actor=CONTROLLER):
    target = PLAYBOOK.steps[step]
    return Live(stage=target.to, percent=target.percent, revision=revision, actor=actor)


def test_a_gate_holds_and_lets_go():
    """One step at a time, with what keeps it."""
    held = Ruling("hold", (Finding(metric="keys", state="missing", wanted=">= 2", text="keys 1, wanted 2"),))
    progress, action = decide(PLAYBOOK, at(1), live(1), held)
    assert (progress.status, progress.reason, action) == ("holding", "keys 1, wanted 2", None)
    progress, action = decide(PLAYBOOK, at(1), live(1), ALLOW)
    assert action == Forward(step=2, expected=4)


def test_an_owner_is_waited_for():
    """The gate alone does not open the last step."""
    progress, action = decide(PLAYBOOK, at(3), live(3), ALLOW)
    assert (progress.status, action) == ("awaiting-approval", None)
    assert decide(PLAYBOOK, at(3, approved={4: "ann"}), live(3), ALLOW)[1] == Forward(step=4, expected=4)


@pytest.mark.parametrize(("step", "back"), [(0, "legacy"), (1, "observe"), (2, "shadow"), (3, "shadow"), (4, "shadow")])
def test_an_abort_goes_to_where_legacy_answers(step, back):
    """Whatever the gate says, approved or not, done or not; and there it stays."""
    _, action = decide(PLAYBOOK, at(step, status="done" if step == 4 else "holding"), live(step), BROKEN)
    assert action == Back(stage=Stage(back), expected=4, reason="errors 9 %")
    after = moved(PLAYBOOK, at(step, approved={4: "ann"}), action, revision=5)
    assert (after.status, after.reason, after.revision, dict(after.approved)) == ("rolled-back", "errors 9 %", 5, {})
    assert decide(PLAYBOOK, after, Live(stage=action.stage, percent=0, revision=5), ALLOW) == (after, None)


def test_what_was_broken_is_said_once():
    """The abort rule's finding, not the gate's of the same number as well."""
    twice = Ruling("rollback", (*BROKEN.findings, replace(BROKEN.findings[0], text="errors 9 %, the gate's limit")))
    assert decide(PLAYBOOK, at(2), live(2), twice)[1].reason == "errors 9 %"


def test_the_last_step_is_done_and_watched():
    """Nothing further to do, until a rule is broken."""
    progress, action = decide(PLAYBOOK, at(4), live(4), ALLOW)
    assert (progress.status, action) == ("done", None)


def test_a_move_that_was_not_written_down_is_found():
    """The controller died after it: the next one takes the seam to be where it is."""
    assert reconcile(PLAYBOOK, at(1), live(2, revision=5)) == at(2, revision=5)
    back = Live(stage=Stage.SHADOW, percent=0, revision=5, actor=CONTROLLER)
    assert reconcile(PLAYBOOK, at(3), back).status == "rolled-back"


def test_a_person_s_move_pauses():
    """Forward or back; a setting changed without a move does not."""
    assert reconcile(PLAYBOOK, at(2), live(3, revision=5, actor="ann")).status == "paused"
    found = reconcile(PLAYBOOK, at(2), live(0, revision=5, actor="ann"))
    assert (found.status, found.step, found.reason) == ("paused", 0, "ann moved it to observe")
    assert reconcile(PLAYBOOK, at(2), live(2, revision=5, actor="ann")) == at(2, revision=5)


def test_a_person_s_way_back_from_a_move_that_was_not_written_down_pauses():
    """The controller moved it on and died, a person took it back to where it was remembered: their word holds."""
    assert reconcile(PLAYBOOK, at(1, revision=4), live(1, revision=6, actor="ann")).status == "paused"


@pytest.mark.parametrize("stopped", ["paused", "rolled-back"])
def test_a_person_s_word_outlives_a_move_that_was_under_way(stopped):
    """They said stop while the controller moved it, or after it died: it stays stopped, where it is."""
    found = reconcile(PLAYBOOK, at(1, status=stopped, reason="ann: no"), live(2, revision=5))
    assert (found.step, found.status, found.reason) == (2, stopped, "ann: no")


def test_what_was_approved_is_approved_once():
    """Whoever took it back, and whether that was written down: the next way there is asked for again."""
    known = at(4, status="done", approved={2: "bob", 4: "ann"})
    for actor in (CONTROLLER, "cid"):
        back = Live(stage=Stage.SHADOW, percent=0, revision=5, actor=actor)
        assert reconcile(PLAYBOOK, known, back).approved == {}
        assert reconcile(PLAYBOOK, known, live(2, revision=5, actor=actor)).approved == {2: "bob"}


def test_a_policy_that_began_anew_is_seen():
    """Its revisions count from one again, and may come by the one that is remembered."""
    assert reconcile(PLAYBOOK, at(3), live(1, actor="ann")).status == "paused"


def test_retired_is_the_end_unless_somebody_goes_back():
    """Whoever retired it; and who leads it out of there by force, pauses it."""
    retired = reconcile(PLAYBOOK, at(4, status="done"), Live(stage=Stage.RETIRED, percent=0, revision=5, actor="ann"))
    assert (retired.status, retired.step) == ("retired", 4)
    assert decide(PLAYBOOK, retired, Live(stage=Stage.RETIRED, percent=0, revision=5), BROKEN) == (retired, None)
    assert reconcile(PLAYBOOK, retired, live(4, revision=6, actor="ann")).status == "paused"


def test_a_seam_that_is_on_its_way_already_is_taken_up_there():
    """A playbook applied to a seam at shadow begins at shadow."""
    begun = reconcile(PLAYBOOK, SeamProgress(seam="a"), live(1, revision=9, actor="ann"))
    assert (begun.step, begun.status, begun.revision) == (1, "waiting", 9)


def test_progress_is_kept_as_it_is():
    """Through JSON."""
    progress = at(3, status="awaiting-approval", reason="x", approved={4: "ann"})
    assert SeamProgress.from_json(json.loads(json.dumps(progress.to_json()))) == progress
    with pytest.raises(ValueError, match="no status"):
        SeamProgress.from_json({**progress.to_json(), "status": "lost"})


@pytest.mark.parametrize("stage", ORDER)
def test_back_is_never_forward(stage):
    """And ends where legacy answers everybody."""
    assert stage is Stage.LEGACY or ORDER.index(stage_before(stage)) < ORDER.index(stage)


class World(RuleBasedStateMachine):
    """Two controllers that share what is stored, one live policy, a person, and crashes between any two writes."""

    def __init__(self):
        super().__init__()
        self.live = LEGACY
        self.stored = SeamProgress(seam="a")
        self.seen = [self.stored, self.stored]  # what each controller last read
        self.history = [("begin", self.live)]
        self.proven = True

    def _ruling(self, kind):
        return {"allow": ALLOW, "hold": HOLD, "rollback": BROKEN}[kind]

    @rule(
        who=st.integers(0, 1),
        kind=st.sampled_from(["allow", "hold", "rollback"]),
        crash=st.integers(0, 2),
        stale=st.booleans(),
    )
    def tick(self, who, kind, crash, stale):
        """Read, reconcile, decide, act, write down; ``crash`` after so many writes; ``stale``: on an old read."""
        if not stale:
            self.seen[who] = self.stored
            self.looked = self.live
        looked = getattr(self, "looked", LEGACY)
        known = self.seen[who]
        progress, action = decide(PLAYBOOK, reconcile(PLAYBOOK, known, looked), looked, self._ruling(kind))
        if crash == 0:
            return
        if action is not None:
            if action.expected != self.live.revision:
                return  # compare-and-set: somebody was faster
            self.live = self._after(action)
            self.history.append((kind, self.live))
            progress = moved(PLAYBOOK, progress, action, revision=self.live.revision)
        if crash == 1:
            return
        if known == self.stored:  # compare-and-set
            self.stored = progress

    def _after(self, action):
        revision = self.live.revision + 1
        if isinstance(action, Back):
            return Live(stage=action.stage, percent=0, revision=revision, actor=CONTROLLER)
        step = PLAYBOOK.steps[action.step]
        return Live(stage=step.to, percent=step.percent, revision=revision, actor=CONTROLLER)

    @rule(stage=st.sampled_from([Stage.LEGACY, Stage.OBSERVE, Stage.SHADOW]))
    def person(self, stage):
        """Somebody takes it back by hand."""
        self.live = Live(stage=stage, percent=0, revision=self.live.revision + 1, actor="ann")
        self.history.append(("person", self.live))

    @precondition(lambda self: self.stored.status == "awaiting-approval")
    @rule()
    def approve(self):
        """The owner says yes."""
        approved = {**self.stored.approved, self.stored.step + 1: "ann"}
        self.stored = SeamProgress.from_json(
            {**self.stored.to_json(), "approved": {str(k): v for k, v in approved.items()}}
        )

    @invariant()
    def one_step_at_a_time(self):
        """Forward by the playbook's next step only and on a gate that allowed it; after a person, not by itself."""
        for (_, before), (why, after) in zip(self.history, self.history[1:], strict=False):
            if why == "person":
                continue
            places = [(Stage.LEGACY, 0.0), *((step.to, step.percent) for step in PLAYBOOK.steps)]
            was, now = ((each.stage, each.percent) for each in (before, after))
            assert after.actor == CONTROLLER
            if why == "rollback" and before.stage is not Stage.LEGACY:
                assert ORDER.index(after.stage) < ORDER.index(before.stage)
            else:
                assert places.index(now) == places.index(was) + 1
                assert why == "allow" or before.stage is Stage.LEGACY

    @invariant()
    def the_owner_was_asked(self):
        """Nobody comes to the last step without it."""
        if self.live.stage is Stage.BUS:
            assert 4 in self.stored.approved or 4 in self.seen[0].approved or 4 in self.seen[1].approved


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
