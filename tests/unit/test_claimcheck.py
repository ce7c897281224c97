"""A claim check as text, and what it leads to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.adapters.memory import MemoryBus
from crossfade.shim.claimcheck import format_dataref, load_data, parse_dataref
from crossfade.shim.errors import MalformedEventError, ObjectMissingError
from crossfade.shim.events import Event
from crossfade.shim.hooks import Counters
from crossfade.shim.ports import BusSettings, ObjectRef

refs = st.builds(
    ObjectRef,
    uri=st.from_regex(r"[a-z]+://[A-Za-z0-9/_.-]{1,40}", fullmatch=True),
    sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    size=st.integers(0, 2**50),
)


@pytest.fixture
async def bus():
    bus = MemoryBus(BusSettings(prefix="cf"), Counters())
    await bus.open()
    yield bus
    await bus.close()


def event(**extensions):
    return Event(type="tool.invoke", source="urn:test", extensions=extensions)


@given(refs)
def test_parsing_is_the_inverse_of_formatting(ref):
    """Nothing is lost on the way."""
    assert parse_dataref(format_dataref(ref)) == ref


@given(st.text())
def test_any_text_is_read_or_refused(text):
    """A stranger's attribute is no other exception."""
    try:
        parse_dataref(text)
    except MalformedEventError as error:
        assert error.reason == "dataref"  # noqa: PT017 - or no error


async def test_data_is_inline_or_fetched(bus):
    """Whichever the event says; none is empty."""
    ref = await bus.put_object(b"large")
    inline = Event(type="tool.invoke", source="urn:test", data=b"small")
    assert await load_data(bus, inline) == b"small"
    assert await load_data(bus, inline.with_extensions(dataref=format_dataref(ref))) == b"small"
    assert await load_data(bus, event(dataref=format_dataref(ref))) == b"large"
    assert await load_data(bus, event()) == b""


async def test_data_that_is_gone_or_changed_is_named(bus):
    """What comes back is what was checked in, or an error."""
    ref = await bus.put_object(b"large")
    bus.broker.objects[ref.uri] = b"other"
    with pytest.raises(ObjectMissingError, match="sha256"):
        await load_data(bus, event(dataref=format_dataref(ref)))
    del bus.broker.objects[ref.uri]
    with pytest.raises(ObjectMissingError, match="gone"):
        await load_data(bus, event(dataref=format_dataref(ref)))
