from __future__ import annotations

import base64
import itertools
import os
import sys
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.shim.errors import ConfigurationError, MalformedEventError, MissingExtraError
from crossfade.shim.sealed import Sealer

OLD, NEW = os.urandom(32), os.urandom(32)
sealer = Sealer({"2026": NEW, "2025": OLD})


def text_of(key):
    return base64.b64encode(key).decode()


def reason_of(opener, sealed, context=b"web.search\x1fc1\x1fpassword"):
    with pytest.raises(MalformedEventError) as caught:
        opener.open(sealed, context=context)
    return caught.value.reason


@pytest.fixture
def environment(monkeypatch):
    monkeypatch.delenv("CROSSFADE_SEAL_KEY", raising=False)
    monkeypatch.delenv("CROSSFADE_SEAL_KEY_FILE", raising=False)
    return monkeypatch


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_a_sealed_value_opens_for_its_own_context(value, context):
    """What was sealed comes back, byte for byte, as one header-safe line."""
    sealed = sealer.seal(value, context=context)
    assert sealer.open(sealed, context=context) == value
    assert sealed.isascii()
    assert not set(sealed) & set(' "%\r\n')


@given(st.binary(max_size=60), st.binary(max_size=60))
def test_a_sealed_value_cannot_be_moved(one, other):
    """Sealed for one seam, call and parameter, it opens for no other."""
    if one != other:
        assert reason_of(sealer, sealer.seal(b'"x"', context=one), other) == "seal"


@given(st.binary(min_size=1, max_size=60), st.data())
def test_a_changed_value_does_not_open(value, data):
    """Any flipped character and any cut is noticed."""
    context = b"c"
    sealed = sealer.seal(value, context=context)
    start = len("v1.2026.")
    at = data.draw(st.integers(start, len(sealed) - 1))
    other = data.draw(st.sampled_from("ABCDabcd0123-_=").filter(lambda char: char != sealed[at]))
    assert reason_of(sealer, sealed[:at] + other + sealed[at + 1 :], context) == "seal"
    assert reason_of(sealer, sealed[:at], context) == "seal"


@given(st.text(max_size=80) | st.from_regex(r"v1\.2026\.[A-Za-z0-9_-]*=*", fullmatch=True))
def test_hostile_text_is_refused_by_name(text):
    """Whatever a stranger puts in its place, opening it raises one named error."""
    assert reason_of(sealer, text) == "seal"


def test_equal_values_look_different():
    """A fresh nonce each time: who reads the bus cannot see that two calls used one password."""
    assert len({sealer.seal(b'"x"', context=b"c") for _ in range(100)}) == 100


def test_no_part_of_a_value_is_visible():
    """The value is encrypted, not encoded."""
    sealed = sealer.seal(b'"correct horse"', context=b"c")
    body = base64.urlsafe_b64decode(sealed.split(".")[2])
    assert b"horse" not in body
    assert b"horse" not in sealed.encode()


def test_keys_are_rotated_without_a_gap():
    """Added behind, moved to the front, removed: at each step every process opens what the others sealed."""
    steps = [{"a": OLD}, {"a": OLD, "b": NEW}, {"b": NEW, "a": OLD}, {"b": NEW}]
    for before, after in itertools.pairwise(steps):
        earlier, later = Sealer(before), Sealer(after)
        assert earlier.open(later.seal(b"1", context=b"c"), context=b"c") == b"1"
        assert later.open(earlier.seal(b"1", context=b"c"), context=b"c") == b"1"


def test_a_missing_key_is_told_from_a_forgery():
    """An operator can mend the first (a rotation that ran ahead), nobody the second."""
    sealed = Sealer({"next": OLD}).seal(b"1", context=b"c")
    assert reason_of(sealer, sealed, b"c") == "seal-key"
    renamed = sealed.replace("v1.next.", "v1.2025.")
    assert reason_of(sealer, renamed, b"c") == "seal"


def test_the_key_id_is_sealed_too():
    """Two ids with one key do not stand for each other."""
    twins = Sealer({"a": OLD, "b": OLD})
    assert reason_of(twins, twins.seal(b"1", context=b"c").replace("v1.a.", "v1.b."), b"c") == "seal"


# -- keys --------------------------------------------------------------------------------------------------------


def test_no_key_means_no_sealer(environment):
    """A process without keys seals nothing; whoever needs it says so."""
    assert Sealer.from_environment() is None


def test_keys_come_from_the_environment_or_a_file(environment, tmp_path):
    """Both spellings of base64, with and without padding; a file may hold one key a line."""
    text = f"a:{base64.urlsafe_b64encode(OLD).decode().rstrip('=')},b:{text_of(NEW)}"
    environment.setenv("CROSSFADE_SEAL_KEY", text)
    from_variable = Sealer.from_environment()
    file = tmp_path / "keys"
    file.write_text(text.replace(",", "\n") + "\n")
    environment.delenv("CROSSFADE_SEAL_KEY")
    environment.setenv("CROSSFADE_SEAL_KEY_FILE", str(file))
    from_file = Sealer.from_environment()
    assert from_file.open(from_variable.seal(b"1", context=b"c"), context=b"c") == b"1"
    assert Sealer({"a": OLD}).open(from_file.seal(b"1", context=b"c"), context=b"c") == b"1"


@given(st.binary(min_size=32, max_size=32))
def test_every_key_has_a_spelling(key):
    """Whatever 32 bytes openssl draws, they are read as those."""
    for encoded in (base64.b64encode(key), base64.urlsafe_b64encode(key)):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("CROSSFADE_SEAL_KEY", f"k:{encoded.decode()}")
            opened = Sealer.from_environment()
        assert Sealer({"k": key}).open(opened.seal(b"1", context=b"c"), context=b"c") == b"1"


@pytest.mark.parametrize(
    "text",
    [
        "{key}",
        "a:{key}x",
        "a:{short}",
        "a b:{key}",
        ":{key}",
        "a:{key},",
        "a:{key},b",
        "a:{key},a:{key}",
        "a={key}",
        ",",
        "a:" + "!" * 43,
        "ключ:{key}",
    ],
)
def test_a_malformed_key_is_refused_and_not_shown(environment, text):
    """The error names the variable and the position; neither it nor its traceback holds the key."""
    key = text_of(OLD)
    environment.setenv("CROSSFADE_SEAL_KEY", text.format(key=key, short=text_of(OLD[:31])))
    with pytest.raises(ConfigurationError, match="CROSSFADE_SEAL_KEY") as caught:
        Sealer.from_environment()
    assert key[:12] not in "".join(traceback.format_exception(caught.value))


def test_two_sources_of_keys_are_refused(environment, tmp_path):
    """Which one would win must not be guessed."""
    environment.setenv("CROSSFADE_SEAL_KEY", f"a:{text_of(OLD)}")
    environment.setenv("CROSSFADE_SEAL_KEY_FILE", str(tmp_path / "keys"))
    with pytest.raises(ConfigurationError, match="keep one"):
        Sealer.from_environment()


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_key_file_is_named(environment, tmp_path, content):
    """A missing mount stops the process with its path."""
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    environment.setenv("CROSSFADE_SEAL_KEY_FILE", str(file))
    with pytest.raises(ConfigurationError, match="keys cannot be read"):
        Sealer.from_environment()


def test_no_keys_and_short_keys_are_refused():
    """AES-256 takes 32 bytes; a shorter key would silently be AES-128."""
    with pytest.raises(ConfigurationError, match="no key"):
        Sealer({})
    with pytest.raises(ConfigurationError, match="'a' has 16 bytes"):
        Sealer({"a": OLD[:16]})


def test_a_sealer_never_shows_its_keys():
    """repr, str and attributes of the object hold ids only."""
    shown = f"{sealer!r} {sealer} {sealer._ciphers}"
    assert "2026" in shown
    for spelling in (OLD.hex(), text_of(OLD), repr(OLD)):
        assert spelling not in shown


def test_a_missing_extra_names_its_remedy(monkeypatch):
    """Without ``cryptography`` the error is the command that installs it."""
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers.aead", None)
    with pytest.raises(MissingExtraError, match=r'pip install "crossfade\[sealed\]"'):
        Sealer({"a": OLD})
