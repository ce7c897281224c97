"""Publisher: durable when it returns, once per id, and every refusal is named."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contract.helpers import SOON, collect, event, number, until
from crossfade.shim.bindings import to_nats
from crossfade.shim.errors import BusFullError, BusRefusedError, EventTooLargeError, MalformedEventError
from crossfade.shim.events import EXTENSIONS, Event


async def test_published_is_stored(bus, subject):
    """When publish returns, the event can be read at the position it was acknowledged at."""
    sent = event(1)
    ack = await bus.publish(subject, sent)
    found = await bus.last(subject)
    assert (found.event, found.subject, found.position) == (sent, subject, ack.position)
    assert not ack.duplicate


async def test_the_same_id_is_stored_once(bus, subject):
    """A repeated publish is acknowledged as a duplicate, at the place of the first one."""
    sent = event(1)
    first = await bus.publish(subject, sent)
    second = await bus.publish(subject, sent)
    assert second.duplicate
    assert second.position == first.position
    assert len(await collect(bus.read(subject))) == 1


async def test_the_same_id_from_another_client_is_a_duplicate(bus, make_bus, subject):
    """A retry may come from another process."""
    sent = event(1)
    await bus.publish(subject, sent)
    assert (await (await make_bus()).publish(subject, sent)).duplicate
    assert len(await collect(bus.read(subject))) == 1


async def test_the_same_id_on_another_subject_is_a_duplicate(bus, subjects):
    """Identity is the event's id, not the subject it travels on."""
    first, second = (subjects.call("invoke", domain="tool", seam="a", run="r", callid=c) for c in "ab")
    sent = event(1)
    assert not (await bus.publish(first, sent)).duplicate
    assert (await bus.publish(second, sent)).duplicate


async def test_a_duplicate_after_a_broker_restart(backend, bus, subject):
    """A broker that restarts between publish and repeat still knows the id."""
    sent = event(1)
    await bus.publish(subject, sent)
    await backend.stop()
    await backend.start()

    async def connected():
        return bus.connected

    await until(connected)
    assert (await bus.publish(subject, sent)).duplicate


async def test_positions_tell_the_order_of_storage(bus, subject):
    """Reading from the position of one event gives exactly the ones published after it."""
    acks = [await bus.publish(subject, event(n)) for n in range(5)]
    rest = await collect(bus.read(subject, after=acks[2].position))
    assert [number(stored.event) for stored in rest] == [3, 4]


async def test_emitted_arrives(bus, subject):
    """emit does not wait, and with a healthy broker the event is stored."""
    bus.emit(subject, event(7))
    found = await until(lambda: bus.last(subject))
    assert number(found.event) == 7


async def test_emitted_once_per_id(bus, subject):
    """An event that was emitted is a duplicate for publish."""
    sent = event(1)
    bus.emit(subject, sent)
    await until(lambda: bus.last(subject))
    assert (await bus.publish(subject, sent)).duplicate


async def test_events_that_are_alike_arrive_whole(bus, subject):
    """What they have in common and what is each one's own; a value of any letters, and a large one refused."""
    alike = Event(type="tool.observed", source="urn:crossfade:test", subject="a.b", extensions={"seam": "a.b"})
    emit = bus.emitter(alike)
    emit(subject, "id-1", {"userid": "é v\u2028il", "obsseq": "1"}, b'{"n":1}')
    found = (await until(lambda: bus.last(subject))).event
    assert abs((found.time - datetime.now(UTC)).total_seconds()) < SOON
    own = {"seam": "a.b", "userid": "é v\u2028il", "obsseq": "1"}
    assert found == dataclasses.replace(alike, id="id-1", time=found.time, extensions=own, data=b'{"n":1}')
    assert (await bus.publish(subject, found)).duplicate
    with pytest.raises(EventTooLargeError):
        emit(subject, "id-2", {}, b"x" * (await bus.info()).max_event_bytes)
    with pytest.raises(MalformedEventError):
        emit(subject, "id-3", {"userid": "a\r\nNats-Rollup: all"}, b"")


async def test_a_payload_over_the_limit_is_refused(bus, subject):
    """An event larger than the broker accepts is refused by name, with its size, and nothing is stored."""
    limit = (await bus.info()).max_event_bytes
    large = event(data=b'"' + b"x" * limit + b'"')
    for attempt in (lambda: bus.publish(subject, large), lambda: bus.emit(subject, large)):
        with pytest.raises(EventTooLargeError) as caught:
            await attempt()
        assert caught.value.limit <= limit < caught.value.size
    assert await bus.last(subject) is None


async def test_headers_count_against_the_limit(bus, subject):
    """A payload that fits alone is refused when its headers push it over; the connection survives it."""
    limit = (await bus.info()).max_event_bytes
    large = event(data=b'"' + b"x" * (limit - 6000) + b'"', baggage="k=" + "v" * 8000)
    with pytest.raises(EventTooLargeError):
        await bus.publish(subject, large)
    assert not (await bus.publish(subject, event(1))).duplicate


async def test_the_largest_event_arrives(bus, subject):
    """What is just under the limit is stored whole, not refused by a careless margin."""
    limit = (await bus.info()).max_event_bytes
    large = event(data=b'"' + b"x" * (limit - 8192) + b'"')
    await bus.publish(subject, large)
    assert (await bus.last(subject)).event.data == large.data


async def fill(bus, subject, first=0):
    """Publish until the stream refuses; returns how many fitted."""
    for n in range(first, 1000):
        try:
            await bus.publish(subject, event(n, baggage="k=" + "v" * 500))
        except BusFullError:
            return n
    raise AssertionError("the stream never refused")


async def test_a_full_stream_refuses(backend, bus, subjects):
    """A stream at its size limit refuses with BusFullError, stores nothing, and loses nothing it has."""
    await backend.limit(subjects.prefix, subjects.prefix + "e", 20_000)
    fact = subjects.fact("seam.skipped")
    n = await fill(bus, fact)
    assert 10 < n < 40
    assert [number(found.event) for found in await collect(bus.read(fact))] == list(range(n))


async def test_a_stream_full_of_commands_takes_results(backend, bus, make_bus, subjects, subject):
    """New commands stop below the limit, so that what is under way can still be claimed and answered."""
    await backend.limit(subjects.prefix, subjects.prefix, 20_000)
    late = await make_bus()  # sees the limit when it connects
    await fill(late, subject)
    result = subjects.call("result", domain="tool", seam="web.search", run="run1", callid="call1")
    assert not (await late.publish(result, event(1, type="tool.result"))).duplicate


async def test_a_full_stream_leaves_the_others_alone(backend, bus, subjects, subject):
    """Observations and facts have a fate of their own: a full command stream refuses none of them."""
    await backend.limit(subjects.prefix, subjects.prefix, 5_000)
    await fill(bus, subject)
    await bus.publish(subjects.observation("web.search"), event(type="tool.observed"))
    await bus.publish(subjects.fact("seam.stage.changed"), event(type="seam.stage.changed"))


async def test_full_observations_forget_the_oldest(backend, bus, subjects):
    """Observations are worth less the older they are: the newest is stored, the oldest goes."""
    observed = subjects.observation("web.search")
    await backend.limit(subjects.prefix, subjects.prefix + "o", 20_000)
    for n in range(60):
        await bus.publish(observed, event(n, baggage="k=" + "v" * 500))

    async def few():
        found = [number(stored.event) for stored in await collect(bus.read(observed))]
        return len(found) < 40 and found  # Kafka discards in the background

    kept = await until(few)
    assert kept == list(range(60 - len(kept), 60))
    assert len(kept) > 10


@pytest.mark.parametrize("address", ["elsewhere.x", "{prefix}r.instance", "{prefix}"])
async def test_a_subject_of_no_stream_is_refused(bus, subjects, address):
    """Nothing would store it, so publish says so instead of losing it."""
    with pytest.raises(BusRefusedError):
        await bus.publish(address.format(prefix=subjects.prefix), event(1))


async def test_every_kind_of_subject_is_stored(bus, subjects):
    """Calls, observations, UI and facts each have a stream."""
    addresses = [
        subjects.call("result", domain="tool", seam="a", run="r", callid="c"),
        subjects.observation("a"),
        subjects.observation("a", shadow=True),
        subjects.ui("tool.progress", run="r"),
        subjects.fact("webhook.received"),
    ]
    for n, address in enumerate(addresses):
        await bus.publish(address, event(n))
        assert number((await bus.last(address)).event) == n


async def test_every_attribute_survives(bus, subject):
    """Every attribute, with text beyond ASCII and characters that mean something to a header, comes back as it was."""
    nasty = 'ü € 😀 "quoted" %41 % a:b; c=d,\\ \u00a0\u2028 ' + "x" * 500
    sent = dataclasses.replace(
        event(1, **dict.fromkeys(EXTENSIONS, nasty)),
        id="id/" + nasty,
        source="urn:" + nasty,
        type="t." + nasty,
        subject=nasty,
        dataschema=nasty,
        datacontenttype="text/plain; charset=utf-8",
        time=datetime(2026, 2, 28, 23, 59, 59, 123456, tzinfo=timezone(timedelta(hours=5, minutes=30))),
        data="ü😀\r\n\0".encode(),
    )
    await bus.publish(subject, sent)
    assert (await bus.last(subject)).event == sent


texts = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cn", "Cs")), min_size=1, max_size=50)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(st.sampled_from(EXTENSIONS), texts), data=st.none() | st.binary(max_size=100))
async def test_any_text_survives(bus, subject, values, data):
    """Whatever text CloudEvents allows, and any bytes, come back as they were; no data and empty data differ."""
    sent = dataclasses.replace(event(1, **values), data=data)
    await bus.publish(subject, sent)
    assert (await bus.last(subject)).event == sent


@pytest.mark.parametrize("character", ["\0", "\r\n", "\n", "\x7f", "\x85", "\ud800", "\ufffe"])
async def test_text_no_event_may_hold_is_refused(bus, subject, character):
    """A character that CloudEvents forbids is refused before anything is sent, never folded into something else."""
    sent = event(1, userid=f"a{character}b")
    with pytest.raises(MalformedEventError):
        to_nats(sent)
    for attempt in (lambda: bus.publish(subject, sent), lambda: bus.emit(subject, sent)):
        with pytest.raises(MalformedEventError):
            await attempt()
    assert await bus.last(subject) is None


async def test_stored_time_is_the_brokers(bus, subject):
    """The time of storage is the broker's clock, whatever time the event claims."""
    sent = dataclasses.replace(event(1), time=datetime(2001, 1, 1, tzinfo=UTC))
    before = bus.now() - bus.clock_error - timedelta(milliseconds=50)
    await bus.publish(subject, sent)
    after = bus.now() + bus.clock_error + timedelta(milliseconds=50)
    assert before <= (await bus.last(subject)).time <= after
    assert after - before < timedelta(seconds=SOON)
