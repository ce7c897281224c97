"""What waits for somebody else's claim takes no place that runnable work needs."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

from crossfade.shim import reaping, worker
from crossfade.shim.claims import CallPlace, ClaimRecord, Nonces, Won, take
from crossfade.shim.events import new_id
from integration.ledger.world import SOON, until


def claimed_by_the_dead(world, side, n, *, seconds, role="worker"):
    """Commands whose claims belong to a process that will never answer; returns their places."""
    places = []
    for number in range(n):
        command = side.seam.route.command(side.seam, side.seam.function, (f"w{number}",), {})
        if role == "worker":
            side.run(side.runtime.calls.send(command))
        place = side.runtime.calls.place(command)
        sent = side.run(side.bus.last(place.invoke))
        record = ClaimRecord(
            callid=command.callid, seam=world.seam, role=role, instance=f"dead_{new_id()}", attempt=1,
            policyrev=0, arguments="", expires=side.bus.now() + timedelta(seconds=seconds),
        )  # fmt: skip
        claim = side.run(take(side.bus, place, record, at=sent and sent.position, nonces=Nonces()))
        assert isinstance(claim, Won)
        places.append(place)
    return places


def test_commands_of_a_silent_owner(world, monkeypatch, counts):
    """More of them than the group may hold in hand: the next command runs at once, and they still end."""
    monkeypatch.setattr(worker, "IN_FLIGHT", 4)
    caller = world.side(timeout=10)
    places = claimed_by_the_dead(world, caller, 6, seconds=5)
    world.side().serve()
    began = time.monotonic()
    assert caller.call("a") == "a done"
    assert time.monotonic() - began < 3
    assert counts.get("left-to-owner", seam=world.seam, reason="worker") == 6
    until(lambda: len([answer for answer in world.terminals(caller) if answer.kind == "unknown"]) == len(places))
    assert world.journal.lines == ["a"]
    assert world.dead_letters(caller) == []


def test_claims_of_calls_that_ended_leave_the_reapers_hands(world, monkeypatch):
    """As many claims as it may hold, of calls with an hour to go: they end, and the next silent owner is noticed."""
    monkeypatch.setattr(reaping, "_OPTIONS", replace(reaping._OPTIONS, max_in_flight=4))
    monkeypatch.setattr(reaping, "_GROUP", f"reaper-{new_id()[-8:]}")
    caller = world.side(timeout=3600)
    world.side().serve()
    for number in range(8):
        assert caller.call(f"q{number}") == f"q{number} done"
    (silent,) = claimed_by_the_dead(world, caller, 1, seconds=0.5, role="caller")
    until(lambda: "unknown" in [answer.kind for answer in world.terminals(caller)], timeout=SOON)
    assert CallPlace.of(world.log(caller)[-1].subject) == silent
