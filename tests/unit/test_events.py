from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from collections import Counter
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.shim import events
from crossfade.shim.errors import MalformedEventError
from crossfade.shim.events import EXTENSIONS, TYPES, Event, derived_id, new_id

hostile = st.text() | st.text(st.sampled_from("ab_\x1d\x1e\x1f"), max_size=4)
moments = st.integers(0, (1 << 48) - 1)  # milliseconds


def id_at(millisecond):
    with mock.patch.object(events._time, "time_ns", return_value=millisecond * 1_000_000 + 999_999):
        return new_id()


@given(moments, moments)
def test_ids_sort_as_time_does(one, other):
    """The earlier of two ids in different milliseconds is the smaller text."""
    if one != other:
        assert (id_at(one) < id_at(other)) == (one < other)


@given(moments)
def test_an_id_is_a_uuid_of_version_7_that_tells_its_time(millisecond):
    """RFC 9562 5.7: 48 bits of time, version, variant; any library can read it."""
    parsed = uuid.UUID(id_at(millisecond))
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == millisecond


def test_ids_of_one_millisecond_differ():
    """74 random bits: no duplicate in 2,000 ids of one moment, and every free bit is used."""
    ids = [id_at(1) for _ in range(2_000)]
    assert len(set(ids)) == len(ids)
    union = 0
    for one in ids:
        union |= int(one, 16)
    assert union == (1 << 80) | (0x7FFF << 64) | (0xBFFF << 48) | (1 << 48) - 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_makes_other_ids():
    """Nothing is drawn ahead, so a prefork server cannot hand out one id twice."""
    code = """
import os
from unittest import mock
from crossfade.shim import events
with mock.patch.object(events._time, "time_ns", return_value=1):
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, events.new_id().encode()); os._exit(0)
    os.wait()
    print(os.read(read, 32).decode() != events.new_id())
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


def test_derived_ids_are_stable_between_versions_and_processes():
    """A retry by another build must be a duplicate, so these values never change."""
    assert derived_id("acme", "web.search", "k1") == "6c3c0a014f1a50589b3f8a196246fc50"
    namespace = uuid.UUID("6f0e3c52-3f5b-5d6e-9c1d-0d9f5a6b7c81")
    assert derived_id("ü") == uuid.uuid5(namespace, "ü").hex


@given(st.lists(hostile, min_size=1, max_size=3), st.lists(hostile, min_size=1, max_size=3))
@example(["a\x1fb"], ["a", "b"])
@example(["a\x1e", "b"], ["a\x1e_b"])
@example(["\ud800"], ["\\ud800"])
def test_derived_ids_differ_when_their_parts_do(one, other):
    """Outside keys are arbitrary: no choice of separators or broken text makes two calls one."""
    assert (derived_id(*one) == derived_id(*other)) == (one == other)
    assert uuid.UUID(derived_id(*one)).version == 5


def test_only_commands_are_executed():
    """Each domain has one command; workers look at nothing else."""
    assert [name for name, kind in TYPES.items() if kind == "command"] == [
        "tool.invoke",
        "agent.task.started",
        "http.request",
    ]
    kinds = Counter(kind for name, kind in TYPES.items() if name.split(".")[0] in ("tool", "agent", "http"))
    assert kinds == {"command": 3, "answer": 5, "progress": 3, "observation": 3}


def test_attribute_names_are_cloudevents_names():
    """Lower-case letters and digits, 20 at most, none of the core's."""
    assert len(set(EXTENSIONS)) == len(EXTENSIONS)
    for name in EXTENSIONS:
        assert re.fullmatch(r"[a-z0-9]{1,20}", name)
        Event(type="t", source="s", extensions={name: "x"})


@pytest.mark.parametrize("name", ["", "userId", "user_id", "user-id", "x" * 21, "id", "data", "time", "ü", "a\n"])
def test_an_attribute_name_that_no_binding_can_carry_is_refused(name):
    """A wrong name is found where it is written, not at the broker."""
    with pytest.raises(MalformedEventError) as caught:
        Event(type="t", source="s", extensions={name: "x"})
    assert caught.value.reason == "attributes"


@pytest.mark.parametrize("name", ["type", "source", "id"])
def test_an_event_without_identity_is_refused(name):
    """CloudEvents requires them, and deduplication lives by them."""
    with pytest.raises(MalformedEventError, match=name):
        Event(**{"type": "t", "source": "s", name: ""})


def test_a_time_without_zone_is_refused():
    """Nobody can compare it with the broker's."""
    with pytest.raises(MalformedEventError, match="zone"):
        Event(type="t", source="s", time=datetime(2026, 1, 1))  # noqa: DTZ001


def test_an_event_is_complete_when_built():
    """Id and time are set at once, so that a retry publishes the same event."""
    before = datetime.now(UTC)
    event = Event(type="t", source="s")
    assert len(event.id) == 32
    assert before <= event.time <= datetime.now(UTC)
    assert event.data is None
    assert event.get("userid") is None


def test_a_changed_copy_leaves_the_event_alone():
    """Events are values."""
    event = Event(type="t", source="s", extensions={"seam": "a", "path": "bus"})
    changed = event.with_extensions(path="legacy", attempt="2")
    assert changed.extensions == {"seam": "a", "path": "legacy", "attempt": "2"}
    assert event.extensions == {"seam": "a", "path": "bus"}
    assert (changed.id, changed.time) == (event.id, event.time)
    with pytest.raises(FrozenInstanceError):
        event.id = "2"
