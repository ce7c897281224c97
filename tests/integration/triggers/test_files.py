"""Real files in a real folder: facts for what is whole, once each, whatever happens to the process or the folder."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from datetime import UTC, datetime

import pytest

from crossfade.adapters.triggers.files import Folder, FolderWatcher
from crossfade.shim.claimcheck import parse_dataref
from crossfade.shim.errors import ConfigurationError
from plugins.nats import until


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "inbox"
    made.mkdir()
    return made


def watcher(world, folder, **settings):
    return FolderWatcher(Folder(directory=folder, **{"settle": 0.2, **settings}), world.intake("inbox"))


def put(path, content=b"x", *, age=60.0):
    """A file that was written some time ago, which is whole."""
    path.write_bytes(content)
    then = time.time() - age
    os.utime(path, (then, then))
    return path


async def paths(world):
    return [(await world.data(fact))["path"] for fact in await world.facts("file.created")]


async def arrived(world, *wanted):
    """Waits until these files, and no others, are facts."""

    async def all_there():
        return sorted(await paths(world)) == sorted(wanted)

    await until(all_there, 20)


async def test_a_file_is_a_fact_with_its_content_in_the_object_store(world, folder):
    """Path, size, time and sha256 in the fact; the bytes by claim check."""
    async with world.running(watcher(world, folder, tenant="acme")) as where:
        assert where["inbox"] == str(folder)
        (folder / "a.csv").write_bytes(b"1,2\n")
        await arrived(world, "a.csv")

    (fact,) = await world.facts("file.created", tenant="acme")
    data = await world.data(fact)
    assert (fact.subject, data["name"], data["size"]) == ("a.csv", "a.csv", 4)
    ref = parse_dataref(data["content"]["dataref"])
    assert ref.sha256 == data["sha256"]
    assert await world.bus.get_object(ref) == b"1,2\n"
    assert abs(datetime.fromisoformat(data["modified"]) - datetime.now(UTC)).total_seconds() < 60


async def test_content_can_stay_where_it_is(world, folder):
    """Without ``content``, and beyond ``max_bytes``, the fact has path and sha256 alone."""
    put(folder / "large", b"x" * 11)
    put(folder / "small", b"x" * 10)
    await watcher(world, folder, max_bytes=10).look()
    put(folder / "other")
    await watcher(world, folder, content=False).look()

    facts = [await world.data(fact) for fact in await world.facts("file.created")]
    contents = {fact["path"]: fact["content"] for fact in facts}
    assert (contents["large"], contents["other"]) == (None, None)
    assert contents["small"]["size"] == 10


async def test_a_file_that_is_written_is_waited_for(world, folder):
    """While it grows it is no fact; when it has been still for a while it is one, whole."""
    async with world.running(watcher(world, folder, settle=0.5)):
        with (folder / "slow").open("wb", buffering=0) as file:
            for _ in range(8):
                file.write(b"x" * 1000)
                await asyncio.sleep(0.1)
                assert await paths(world) == []
        await arrived(world, "slow")

    (fact,) = await world.facts("file.created")
    assert (await world.data(fact))["size"] == 8000


async def test_a_file_renamed_into_place_is_taken_at_once(world, folder):
    """However long ``settle`` is; under the name it was written it is not looked at."""
    async with world.running(watcher(world, folder, settle=600)):
        (folder / "a.csv.tmp").write_bytes(b"whole")
        await asyncio.sleep(0.05)  # longer than the clock of the file system is coarse
        (folder / "a.csv.tmp").rename(folder / "a.csv")
        await arrived(world, "a.csv")


async def test_nothing_comes_between_the_first_look_and_being_told(world, folder):
    """What is put there the moment after watching began is told of, not found by the next look seconds later."""
    watching = watcher(world, folder)
    watched = await watching._watch(None)
    put(folder / "a")

    await asyncio.wait_for(watching._changed.wait(), 5)
    await watching._unwatch(watched)


async def test_a_restart_neither_repeats_nor_misses(world, folder, counts):
    """What was there stays taken; what came while nobody watched is taken at the start."""
    put(folder / "one")
    async with world.running(watcher(world, folder)):
        await arrived(world, "one")
    put(folder / "two")
    async with world.running(watcher(world, folder)):
        await arrived(world, "one", "two")
    assert counts.get("trigger-duplicate") == 0  # noted, not left to what the bus remembers for ten minutes


async def test_a_process_that_dies_after_the_fact_repeats_nothing(world, folder, monkeypatch):
    """Killed between the fact and the note of it: the next process publishes the same event."""
    put(folder / "one")
    dying = watcher(world, folder)

    async def die(*_args):
        raise RuntimeError("killed")

    monkeypatch.setattr(dying._state, "put", die)
    with pytest.raises(RuntimeError):
        await dying.look()
    await watcher(world, folder).look()

    assert await paths(world) == ["one"]


async def test_two_processes_take_each_file_once(world, folder):
    """The same file is the same event for both."""
    for n in range(5):
        put(folder / f"{n}")
    await asyncio.gather(watcher(world, folder).look(), watcher(world, folder).look())

    assert sorted(await paths(world)) == ["0", "1", "2", "3", "4"]


async def test_new_content_is_news_and_the_same_content_is_not(world, folder):
    """A file written anew with other bytes is a fact; touched, or written with the same, it is none."""
    watching = watcher(world, folder)
    put(folder / "a", b"1")
    await watching.look()
    put(folder / "a", b"1", age=30)
    await watching.look()
    put(folder / "a", b"2", age=20)
    await watching.look()

    assert await paths(world) == ["a", "a"]


async def test_a_file_that_comes_again_is_news(world, folder):
    """Taken away and put there again, as drop folders are used."""
    watching = watcher(world, folder)
    for age in (40, 30):
        put(folder / "a", b"same", age=age)
        await watching.look()
        (folder / "a").unlink()
        await watching.look()

    assert await paths(world) == ["a", "a"]


async def test_a_folder_that_vanishes_is_told_and_watched_again(world, folder, counts, caplog):
    """Counted and logged once; when it is back what is in it is taken, though it is another folder."""
    async with world.running(watcher(world, folder)) as where:
        put(folder / "one")
        await arrived(world, "one")
        shutil.rmtree(folder)
        await until(lambda: counts.get("folder-gone", seam="inbox"))
        folder.mkdir()
        put(folder / "two")
        await arrived(world, "one", "two")
        (folder / "three").write_bytes(b"told of, not looked for")
        await arrived(world, "one", "two", "three")
        assert (await where["triggers"].health()).status == "serving"

    assert counts.get("folder-gone", seam="inbox") == 1
    assert "the folder is gone" in caplog.text


async def test_files_of_a_share_that_is_not_mounted_are_not_forgotten(world, folder, monkeypatch):
    """An empty folder on another device says nothing about the files that were there."""
    watching = watcher(world, folder)
    put(folder / "a")
    await watching.look()
    with monkeypatch.context() as patch:
        patch.setattr(watching, "_scan", lambda: ({}, -1))
        await watching.look()
    await watching.look()

    assert await paths(world) == ["a"]


async def test_only_wanted_names_of_real_files_are_taken(world, folder, tmp_path):
    """No temporary or hidden names, links, folders or pipes; below the folder only when asked."""
    for name in (".hidden", "a.tmp", "b.txt~", "c.part", "d.md"):
        put(folder / name)
    put(tmp_path / "secret.txt")
    (folder / "link.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "dirlink").symlink_to(tmp_path)
    os.mkfifo(folder / "pipe.txt")
    for inside in ("deep", ".git"):
        (folder / inside).mkdir()
        put(folder / inside / "e.txt")
    put(folder / "f.txt")

    await watcher(world, folder, patterns=("*.txt",)).look()
    flat = await paths(world)
    await watcher(world, folder, patterns=("*.txt",), recursive=True).look()

    assert flat == ["f.txt"]
    assert await paths(world) == ["f.txt", "deep/e.txt"]


async def test_a_hostile_name_is_taken_and_harms_nothing(world, folder):
    """Bytes that are no UTF-8, line ends, and what a terminal would obey."""
    names = [b"\xff\xfe", b"a\nb", b"\x1b[2J", b"x" * 250, "ü".encode()]
    for name in names:
        put(folder / os.fsdecode(name))
    await watcher(world, folder).look()
    await watcher(world, folder).look()

    assert sorted(await paths(world)) == sorted(name.decode("utf-8", "replace") for name in names)


async def test_a_file_that_cannot_be_read_keeps_none_of_the_others(world, folder, counts, monkeypatch):
    """It is counted, and looked at again."""
    put(folder / "a")
    put(folder / "b")
    watching = watcher(world, folder)
    read = watching._read

    def refuse(path, look):
        if path == "a":
            raise PermissionError(13, "no")
        return read(path, look)

    monkeypatch.setattr(watching, "_read", refuse)
    await watching.look()
    assert await paths(world) == ["b"]
    assert counts.get("file-unreadable", seam="inbox", reason="PermissionError") == 1

    monkeypatch.setattr(watching, "_read", read)
    await watching.look()
    assert await paths(world) == ["b", "a"]


async def test_a_file_that_changes_while_it_is_read_is_read_again(world, folder, monkeypatch):
    """Half of the old and half of the new never is a fact."""
    path = put(folder / "a", b"old" * 10)
    watching = watcher(world, folder)
    checked, check = [], watching._check

    def changing(handle, look):
        checked.append(look)
        if len(checked) == 2:  # after the bytes were read
            put(path, b"new" * 10, age=10)
        check(handle, look)

    monkeypatch.setattr(watching, "_check", changing)
    await watching.look()
    assert await paths(world) == []
    await watching.look()

    (fact,) = await world.facts("file.created")
    ref = parse_dataref((await world.data(fact))["content"]["dataref"])
    assert await world.bus.get_object(ref) == b"new" * 10


async def test_a_broker_that_is_away_delays_and_loses_nothing(worlds, broker, folder, counts):
    """Files that came meanwhile are facts after its return, each once."""
    world = await worlds(broker.url)
    async with world.running(watcher(world, folder)):
        put(folder / "one")
        await arrived(world, "one")
        broker.stop()
        put(folder / "two")
        await until(lambda: counts.get("files-delayed", seam="inbox"))
        broker.start()
        await until(lambda: world.bus.connected)
        await arrived(world, "one", "two")


def test_a_folder_that_never_was_is_a_mistake(tmp_path):
    """At the start; later it may come back."""
    with pytest.raises(ConfigurationError, match="make it first"):
        Folder(directory=tmp_path / "none")
