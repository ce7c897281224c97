"""State: keyed values with compare-and-set, expiry and a watch that misses nothing."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from contract.helpers import SOON, until
from crossfade.shim.errors import BusError, ConfigurationError, WrongRevisionError
from crossfade.shim.ports import Change, Entry


@pytest.fixture
def state(bus):
    return bus.state("policy")


async def test_created_can_be_read(state):
    """create returns the revision get shows; an absent key is None."""
    assert await state.get("web.search") is None
    revision = await state.create("web.search", b"one")
    assert await state.get("web.search") == Entry(key="web.search", value=b"one", revision=revision)


async def test_create_refuses_what_is_there(state):
    """Creating a key twice raises with the revision it is at, and leaves it alone."""
    revision = await state.create("a", b"one")
    with pytest.raises(WrongRevisionError) as caught:
        await state.create("a", b"two")
    assert (caught.value.key, caught.value.actual) == ("a", revision)
    assert (await state.get("a")).value == b"one"


async def test_update_from_the_revision_it_is_at(state):
    """update with the current revision sets the value and returns a larger revision."""
    first = await state.create("a", b"one")
    second = await state.update("a", b"two", revision=first)
    assert second > first
    assert await state.get("a") == Entry(key="a", value=b"two", revision=second)


async def test_update_from_an_old_revision_is_refused(state):
    """A compare-and-set that lost raises with the actual revision and changes nothing."""
    first = await state.create("a", b"one")
    second = await state.update("a", b"two", revision=first)
    with pytest.raises(WrongRevisionError) as caught:
        await state.update("a", b"three", revision=first)
    assert caught.value.actual == second
    assert (await state.get("a")).value == b"two"


async def test_update_of_an_absent_key_is_refused(state):
    """A key that was never there, or was deleted, is at no revision."""
    with pytest.raises(WrongRevisionError) as caught:
        await state.update("a", b"x", revision=1)
    assert caught.value.actual is None
    revision = await state.create("a", b"one")
    await state.delete("a")
    with pytest.raises(WrongRevisionError) as caught:
        await state.update("a", b"x", revision=revision)
    assert caught.value.actual is None


async def test_put_does_not_ask(state):
    """put sets a key whether it is there or not, with a growing revision."""
    first = await state.put("a", b"one")
    second = await state.put("a", b"two")
    assert second > first
    assert await state.get("a") == Entry(key="a", value=b"two", revision=second)


async def test_deleted_is_absent(state):
    """A deleted key reads as absent, may be created again, and deleting an absent one is fine."""
    await state.delete("a")
    first = await state.create("a", b"one")
    await state.delete("a")
    await state.delete("a")
    assert await state.get("a") is None
    assert await state.entries() == []
    assert await state.create("a", b"two") > first


async def test_entries_are_what_is_there(state):
    """entries lists every key that has a value, each with its last one."""
    assert await state.entries() == []
    await state.put("a", b"one")
    await state.put("b.c", b"two")
    await state.put("gone", b"x")
    await state.put("a", b"three")
    await state.delete("gone")
    entries = {entry.key: entry for entry in await state.entries()}
    assert {key: entry.value for key, entry in entries.items()} == {"a": b"three", "b.c": b"two"}
    assert [await state.get(key) for key in entries] == list(entries.values())


async def test_buckets_are_separate(bus):
    """The same key in two buckets is two keys."""
    await bus.state("one").create("a", b"1")
    assert await bus.state("two").get("a") is None
    await bus.state("two").create("a", b"2")
    assert (await bus.state("one").get("a")).value == b"1"


async def test_clients_share_a_bucket(bus, make_bus):
    """What one client wrote another reads at once."""
    other = (await make_bus()).state("shared")
    mine = bus.state("shared")
    for n in range(20):
        await mine.put("a", str(n).encode())
        assert (await other.get("a")).value == str(n).encode()


@pytest.mark.parametrize("value", [b"", b"\x00\xff\r\n", b"x" * 100_000])
async def test_any_value_survives(state, value):
    """Values are bytes: empty, binary and large ones come back as they were, and an empty one is not absent."""
    await state.create("a", value)
    assert (await state.get("a")).value == value
    assert [entry.value for entry in await state.entries()] == [value]


@pytest.mark.parametrize("key", ["", ".a", "a.", "a b", "a*", "a>", "ü", "a/b", "a\n"])
async def test_what_is_no_key_is_refused(state, key):
    """A key that some bus could not store is refused by name before anything is sent."""
    for attempt in (
        lambda: state.get(key),
        lambda: state.create(key, b""),
        lambda: state.update(key, b"", revision=1),
        lambda: state.put(key, b""),
        lambda: state.delete(key),
    ):
        with pytest.raises(ConfigurationError):
            await attempt()


@pytest.mark.parametrize("key", ["a", "A-Z_09.x-y", "a.b.c", "x" * 200])
async def test_every_key_is_kept(state, key):
    """Whatever the port calls a key can be one."""
    await state.create(key, b"1")
    assert [entry.key for entry in await state.entries()] == [key]


async def test_a_hundred_increments(bus, make_bus):
    """A hundred concurrent read-increment-set loops from two clients give exactly a hundred."""
    clients = [bus.state("counter"), (await make_bus()).state("counter")]
    await clients[0].create("n", b"0")

    async def increment(state):
        while True:
            entry = await state.get("n")
            try:
                return await state.update("n", str(int(entry.value) + 1).encode(), revision=entry.revision)
            except WrongRevisionError:
                continue

    async with asyncio.timeout(30):
        revisions = await asyncio.gather(*(increment(clients[n % 2]) for n in range(100)))
    assert (await clients[0].get("n")).value == b"100"
    assert len(set(revisions)) == 100


async def test_one_of_many_creates(bus, make_bus):
    """Of twenty concurrent creates of one key exactly one wins, and its value is the one kept."""
    clients = [bus.state("lease"), (await make_bus()).state("lease")]

    async def create(n):
        try:
            return await clients[n % 2].create("leader", str(n).encode())
        except WrongRevisionError:
            return None

    results = await asyncio.gather(*(create(n) for n in range(20)))
    (winner,) = [n for n, revision in enumerate(results) if revision is not None]
    assert await clients[0].get("leader") == Entry(key="leader", value=str(winner).encode(), revision=results[winner])


async def test_a_key_with_a_lifetime_expires(state):
    """A key with a ttl goes for get, entries and watch, and may be created again; a write ends the ttl."""
    async with Mirror(state) as mirror:
        await state.create("lease", b"mine", ttl=1.0)
        updated = await state.create("updated", b"1", ttl=1.0)
        await state.create("put", b"1", ttl=1.0)
        assert (await state.get("lease")).value == b"mine"
        await state.update("updated", b"2", revision=updated)
        await state.put("put", b"2")

        async def gone():
            return await state.get("lease") is None

        started = asyncio.get_running_loop().time()
        await until(gone)
        assert 0.5 < asyncio.get_running_loop().time() - started < 3.5
        await asyncio.sleep(0.3)
        assert {entry.key for entry in await state.entries()} == {"updated", "put"}
        await mirror.shows({"updated": b"2", "put": b"2"}, timeout=4)
        assert await state.create("lease", b"yours") > updated


async def test_a_lifetime_below_a_second_is_refused(state):
    """ttl is one second at least, on every bus."""
    with pytest.raises(ConfigurationError):
        await state.create("a", b"1", ttl=0.5)


class Mirror:
    """Follows a watch in the background and keeps the last value of every key."""

    def __init__(self, state):
        self.changes = []
        self._task = asyncio.create_task(self._follow(state))

    async def _follow(self, state):
        async with aclosing(state.watch()) as watching:
            async for change in watching:
                self.changes.append(change)

    @property
    def values(self):
        last = {change.key: change.value for change in self.changes}
        return {key: value for key, value in last.items() if value is not None}

    async def shows(self, values, *, timeout=SOON):
        async def equal():
            return self.values == values

        await until(equal, timeout=timeout)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def test_watching_begins_with_what_is_there(state):
    """First comes every key's value, with its revision; a deleted key is not among them."""
    revisions = {key: await state.put(key, key.encode()) for key in ("a", "b", "c")}
    await state.put("gone", b"x")
    await state.delete("gone")
    async with aclosing(state.watch()) as watching:
        found = [await asyncio.wait_for(anext(watching), SOON) for _ in range(3)]
    assert {change.key: change for change in found} == {
        key: Change(key=key, value=key.encode(), revision=revision) for key, revision in revisions.items()
    }


async def test_watching_goes_on_with_each_change(state):
    """Creation, update and deletion are reported as they happen, with growing revisions."""
    async with aclosing(state.watch()) as watching:
        waiting = asyncio.ensure_future(anext(watching))
        await asyncio.sleep(0.05)
        first = await state.create("a", b"one")
        assert await asyncio.wait_for(waiting, SOON) == Change(key="a", value=b"one", revision=first)
        second = await state.update("a", b"two", revision=first)
        assert await asyncio.wait_for(anext(watching), SOON) == Change(key="a", value=b"two", revision=second)
        await state.delete("a")
        gone = await asyncio.wait_for(anext(watching), SOON)
        assert (gone.key, gone.value) == ("a", None)
        assert gone.revision > second


async def test_a_change_is_seen_within_a_second(bus, make_bus):
    """A watcher on another client sees a change promptly: rollback relies on it."""
    async with Mirror(bus.state("policy")) as mirror:
        writer = (await make_bus()).state("policy")
        await writer.put("a", b"1")
        await mirror.shows({"a": b"1"})
        await writer.put("a", b"2")
        await mirror.shows({"a": b"2"}, timeout=1)


async def test_a_thousand_changes_end_at_the_truth(state):
    """However changes are folded, the last word on every key is right, and revisions of a key only grow."""
    async with Mirror(state) as mirror:
        for start in range(0, 1000, 100):
            await asyncio.gather(*(state.put(f"k{n % 7}", str(n).encode()) for n in range(start, start + 100)))
        await state.delete("k0")
        expected = {entry.key: entry.value for entry in await state.entries()}
        await mirror.shows(expected)
        for key in expected:
            revisions = [change.revision for change in mirror.changes if change.key == key]
            assert revisions == sorted(set(revisions))


async def test_watching_recovers_from_a_broker_restart(backend, bus, make_bus):
    """Within three seconds of a restart a watcher shows what was changed since, and goes on."""
    state = bus.state("policy")
    await state.put("a", b"before")
    async with Mirror(state) as mirror:
        await mirror.shows({"a": b"before"})
        await backend.stop()
        await backend.start()
        answered = asyncio.get_running_loop().time()
        writer = (await make_bus()).state("policy")
        await writer.put("a", b"after")
        await writer.put("b", b"new")
        await mirror.shows({"a": b"after", "b": b"new"}, timeout=3)
        assert asyncio.get_running_loop().time() - answered < 3

        async def written():
            try:
                return await state.put("c", b"late")
            except BusError:
                return None

        await until(written)
        await mirror.shows({"a": b"after", "b": b"new", "c": b"late"}, timeout=3)


async def test_two_watchers(bus, make_bus):
    """Watchers are independent of each other and of who writes."""
    other = await make_bus()
    async with Mirror(bus.state("policy")) as one, Mirror(other.state("policy")) as two:
        await bus.state("policy").put("a", b"1")
        await one.shows({"a": b"1"})
        await two.shows({"a": b"1"})
