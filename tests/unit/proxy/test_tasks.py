"""Who asks for a task, and what they are told."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from crossfade.proxy.tasks import LONGEST_WAIT, Wish, accepted, wish_of


@dataclass
class Head:
    headers: list[tuple[bytes, bytes]]


def wish(*prefer: str, mode="call"):
    return wish_of(Head([(b"Host", b"a"), *((b"prefer", value.encode()) for value in prefer)]), mode)


@pytest.mark.parametrize(
    ("prefer", "found"),
    [
        (["respond-async"], Wish(asked=True)),
        (["Respond-Async, WAIT=10"], Wish(asked=True, wait=10)),
        (["wait=10", "respond-async"], Wish(asked=True, wait=10)),
        (['return=minimal; foo="a, b", respond-async;x=y ,wait = "7"'], Wish(asked=True, wait=7)),
        (["respond-async, wait=3, wait=9"], Wish(asked=True, wait=3)),
        (["respond-async, wait=99999"], Wish(asked=True, wait=LONGEST_WAIT)),
        (["respond-async, wait=soon"], Wish(asked=True)),
        (["respond-async, wait=-1"], Wish(asked=True)),
        (["wait=10"], None),
        (['x="respond-async"'], None),
        (["respond-asynchronously"], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_preference_is_read_as_the_standard_has_it(prefer, found):
    """In any case, over several lines, with parameters and quotes; the first counts, nonsense is none."""
    assert wish(*prefer) == found


def test_a_task_route_needs_no_preference_and_takes_a_wait():
    """Nobody asked for respond-async, so nothing says that it was applied."""
    assert wish(mode="task") == Wish(asked=False)
    assert wish("wait=2", mode="task") == Wish(asked=False, wait=2)
    fields, body = accepted("c1", Wish(asked=False), status="waiting")
    names = [name for name, _ in fields]
    assert b"Preference-Applied" not in names
    assert dict(fields)[b"Location"] == b"/_crossfade/tasks/c1"
    assert json.loads(body) == {"id": "c1", "status": "waiting", "monitor": "/_crossfade/tasks/c1"}


def test_an_answer_in_time_was_not_made_asynchronous():
    """Only the wait was applied then."""
    both = Wish(asked=True, wait=5)
    assert both.applied(at_once=True) == "respond-async, wait=5"
    assert both.applied(at_once=False) == "wait=5"
