"""One server per store, whoever asks, whatever died before."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import nats
import pytest

from crossfade.adapters import embedded
from crossfade.adapters._embedded import processes
from crossfade.adapters._embedded import store as stores
from crossfade.adapters.embedded import ensure_server, status
from crossfade.shim.errors import BusRefusedError, BusUnavailableError, ConfigurationError
from integration.embedded.observed import paused, processes_naming, servers_on, until, wrapper
from support.nats_server import NatsServer

APP = """
import sys
from crossfade.adapters.embedded import ensure_server
print(ensure_server(sys.argv[1]).url, flush=True)
"""


def app(store: Path, code: str = APP, **options) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", code, str(store)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def record(store: Path) -> stores.Record:
    found = stores.read_record(store)
    assert found is not None
    return found


@pytest.mark.alone
async def test_a_cold_start_takes_less_than_a_second_and_serves_jetstream_synced(store, note):
    """An empty directory becomes a working JetStream that syncs before it acknowledges, in under a second."""
    began = time.perf_counter()
    address = ensure_server(store)
    took = time.perf_counter() - began
    began = time.perf_counter()
    assert ensure_server(store) == address
    note(
        f"embedded server: cold start {took * 1000:.0f} ms, found running {(time.perf_counter() - began) * 1000:.1f} ms"
    )
    assert took < 1.0
    client = await nats.connect(address.url)
    await client.jetstream().add_stream(name="S", subjects=["s"], max_bytes=10**12)  # more than any test disk has
    assert (await client.jetstream().publish("s", b"1")).seq == 1
    assert client.max_payload == 1024 * 1024
    await client.close()
    assert "sync_interval: always" in (store / "server.conf").read_text()


def test_twenty_processes_at_once_start_one_server(store):
    """However many processes find the store empty at the same moment, one server comes of it and all use it."""
    most = [0]
    done = threading.Event()

    def watch() -> None:
        while not done.is_set():
            most[0] = max(most[0], len(servers_on(store)))

    watcher = threading.Thread(target=watch)
    watcher.start()
    apps = [app(store) for _ in range(20)]
    answers = [process.communicate(timeout=60) for process in apps]
    done.set()
    watcher.join()
    assert {said for said, _ in answers} == {ensure_server(store).url + "\n"}, answers
    assert len(servers_on(store)) == 1
    assert most == [1]


def test_the_server_of_a_killed_app_is_adopted(store):
    """SIGKILL of the app that started the server, and of its whole process group, leaves it up; others use it."""
    first = app(store, APP + "sys.stdin.read()", process_group=0, stdin=subprocess.PIPE)
    url = first.stdout.readline().strip()
    pid = processes.server_pid(store)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    assert ensure_server(store).url == url
    assert servers_on(store) == [pid]


def test_a_killed_server_comes_back_where_it_was(store):
    """After SIGKILL of the server the next one listens on the same port with the same secret and the same data."""
    address = ensure_server(store)
    first = processes.server_pid(store)
    asyncio.run(_publish(address.url))
    os.kill(first, signal.SIGKILL)
    assert ensure_server(store) == address
    assert processes.server_pid(store) != first
    assert asyncio.run(_count(address.url)) == 1


async def _publish(url: str) -> None:
    client = await nats.connect(url)
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.jetstream().publish("s", b"1")
    await client.close()


async def _count(url: str) -> int:
    client = await nats.connect(url)
    found = await client.jetstream().stream_info("S")
    await client.close()
    return found.state.messages


def test_a_stranger_on_the_port_is_neither_used_nor_told_a_secret(store):
    """When something else took the port, the server moves, with new secrets, and the stranger saw none."""
    address = ensure_server(store)
    embedded.stop(store)
    heard: list[bytes] = []
    with socket.create_server((address.host, address.port)) as stranger:
        threading.Thread(target=_listen, args=(stranger, heard), daemon=True).start()
        moved = ensure_server(store)
    assert moved.port != address.port
    assert moved.token != address.token
    assert heard
    assert address.token.encode() not in b"".join(heard)


def _listen(stranger: socket.socket, heard: list[bytes]) -> None:
    greeting = json.dumps({"server_name": "somebody else", "max_payload": 1})
    while True:
        try:
            caller, _ = stranger.accept()
        except OSError:
            return
        with caller:
            caller.sendall(f"INFO {greeting}\r\n".encode())
            heard.append(b"called")
            caller.settimeout(1)
            while chunk := caller.recv(1000):
                heard.append(chunk)


def test_a_real_server_of_somebody_else_on_the_port_is_not_used(store):
    """A nats-server without any authentication would let us in; its name gives it away."""
    address = ensure_server(store)
    embedded.stop(store)
    other = NatsServer()
    other.port = address.port
    with other:
        assert ensure_server(store).port != address.port


def test_a_paused_server_is_waited_for_and_never_replaced(store):
    """SIGSTOP keeps the data locked: callers get an error that names the process, and no second server appears."""
    address = ensure_server(store)
    pid = processes.server_pid(store)
    with paused(pid):
        with pytest.raises(BusUnavailableError, match=rf"pid {pid}\).* does not answer and is not being replaced"):
            ensure_server(store, timeout=1.5)
        assert servers_on(store) == [pid]
        assert status(store).running
        assert not status(store).answering
    assert ensure_server(store) == address


def test_a_server_whose_lock_file_was_deleted_is_not_doubled(store):
    """Deleting the lock below a running server frees the lock but not the data: a second start is refused."""
    ensure_server(store)
    pid = processes.server_pid(store)
    (store / "lock").unlink()
    with paused(pid), pytest.raises(ConfigurationError, match=rf"lock was deleted while the server \(pid {pid}\)"):
        ensure_server(store, timeout=3)
    assert servers_on(store) == [pid]


def test_only_the_owner_can_read_the_secrets(store):
    """The directory, the record and the configuration are closed to others."""
    ensure_server(store)
    assert stat.S_IMODE(store.stat().st_mode) == 0o700
    for name in ("server.json", "server.conf"):
        assert stat.S_IMODE((store / name).stat().st_mode) == 0o600


def test_two_names_of_one_directory_are_one_store(store, monkeypatch):
    """A relative path and a symbolic link find the same server; the relative one counts from the working directory."""
    address = ensure_server(store)
    monkeypatch.chdir(store.parent)
    assert ensure_server("bus") == address
    Path("link").symlink_to(store)
    assert ensure_server("link") == address


@pytest.mark.parametrize("name", ["with space", "ünïcode", 'quote"quote', "brace{}$x", "back\\slash"])
def test_any_printable_path_works(tmp_path, name):
    """No character of the path changes the meaning of the server's configuration."""
    store = tmp_path / name
    try:
        ensure_server(store)
        assert (store / "jetstream").is_dir()
    finally:
        embedded.stop(store)


def test_an_application_keeps_no_child_no_descriptor_and_no_warning(store):
    """Nobody has to reap anything: after the start the app has no child, no open file more, and no warning."""
    code = """
import gc, os, sys
from crossfade.adapters.embedded import ensure_server
before = len(os.listdir("/dev/fd"))
ensure_server(sys.argv[1])
gc.collect()
assert len(os.listdir("/dev/fd")) == before
try:
    os.waitpid(-1, os.WNOHANG)
except ChildProcessError:
    print("no child")
"""
    said, complained = app(store, code).communicate(timeout=30)  # also: nobody else keeps these pipes open
    assert (said, complained) == ("no child\n", "")
    assert len(servers_on(store)) == 1


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_server_carries_no_secret_of_the_application(store, monkeypatch):
    """The server outlives the app, so it gets neither its environment nor its working directory."""
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    monkeypatch.setenv("GOMAXPROCS", "1")
    ensure_server(store)
    for pid in (processes.server_pid(store), processes.keeper_pid(store)):
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"very-secret" not in environment
        assert b"GOMAXPROCS=1" in environment
        assert Path(f"/proc/{pid}/cwd").readlink() == Path("/")


@pytest.mark.parametrize("moment", ["write_record", "detached"])
def test_a_starter_killed_before_the_spawn_leaves_a_startable_store(store, moment):
    """SIGKILL between taking the lock and spawning frees the lock."""
    stores.create(store)
    _run_broken_starter(store, f"starter.{moment} = die")
    assert not servers_on(store)
    ensure_server(store)
    assert len(servers_on(store)) == 1


def test_a_starter_killed_after_the_spawn_leaves_a_server_to_adopt(store):
    """SIGKILL between spawning and the server's readiness: the next caller finds the lock held and adopts it."""
    stores.create(store)
    _run_broken_starter(store, "real = starter.detached; starter.detached = lambda *a, **k: (real(*a, **k), die())")
    ensure_server(store)
    assert len(servers_on(store)) == 1


def _run_broken_starter(store: Path, sabotage: str) -> None:
    code = f"""
import os, signal
from crossfade.adapters._embedded import starter
die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
{sabotage}
starter.main()
"""
    found = embedded.find_binary(store)
    ended = subprocess.run([sys.executable, "-c", code, store, found.path, found.version], check=False)
    assert ended.returncode == -signal.SIGKILL


def test_an_application_killed_while_the_server_starts_leaves_it_to_the_next(store, tmp_path, monkeypatch):
    """SIGKILL of the app between spawn and readiness: its server, slow to start, is waited for and not doubled."""
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", str(wrapper(tmp_path, "sleep 1", 'exec "$SERVER" "$@"')))
    first = app(store)
    until(lambda: processes_naming(store, "server.conf"))
    first.kill()
    first.communicate()
    ensure_server(store)
    assert len(servers_on(store)) == 1


def test_a_server_that_ends_at_once_is_an_error_with_its_last_words(store, tmp_path, monkeypatch):
    """A server that cannot run is tried a few times, then the caller is told what it said."""
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", str(wrapper(tmp_path, "echo no such luck >&2", "exit 1")))
    with pytest.raises(BusUnavailableError, match=r"this is why: no such luck"):
        ensure_server(store)


def test_a_path_that_cannot_be_used_is_named(tmp_path):
    """A file in the way and a file system that refuses directories are configuration errors with the path."""
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/bus/below")):
        with pytest.raises(ConfigurationError, match=str(path)):
            ensure_server(path)


def test_a_full_disk_is_told_apart_from_a_wrong_setting(store, monkeypatch):
    """No room for the record: nothing was started, and the error says what to do."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BusRefusedError, match=r"is full .*: make room"):
        ensure_server(store)
    assert not servers_on(store)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is damaged"),
        ('{"format": 1}', "is damaged"),
        ('{"format": 2}', "use the newer crossfade"),
        ('{"format": 0}', "too old"),
    ],
)
def test_a_record_of_another_time_is_named(store, text, said):
    """A store of a newer or older crossfade, or a damaged one, is refused and left as it is."""
    stores.create(store)
    (store / "server.json").write_text(text)
    with pytest.raises(ConfigurationError, match=said):
        ensure_server(store)
    assert (store / "server.json").read_text() == text


def test_data_of_a_newer_server_is_not_opened_by_an_older_one(store):
    """JetStream promises no way back to an older server: the store remembers the newest that wrote it."""
    ensure_server(store)
    embedded.stop(store)
    stores.write_record(store, record(store)._replace(server_version="2.99.0"))
    with pytest.raises(ConfigurationError, match=r"written by nats-server 2\.99\.0"):
        ensure_server(store)


def test_windows_is_told_what_to_do_instead(store, monkeypatch):
    """Where there is no flock to inherit, the error names the two ways that work."""
    monkeypatch.setattr(sys, "platform", "win32")
    with pytest.raises(ConfigurationError, match=r"run nats-server yourself .* or use WSL"):
        ensure_server(store)
