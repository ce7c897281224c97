from __future__ import annotations

import concurrent.futures
import copy
import inspect
import multiprocessing
from datetime import UTC, datetime

import pytest

from crossfade.shim import errors
from crossfade.shim.bindings import from_structured
from crossfade.shim.errors import (
    BusError,
    CallError,
    ConfigurationError,
    CrossfadeError,
    EventTooLargeError,
    MalformedEventError,
    MissingExtraError,
    NotExecutedError,
    OutcomeUnknownError,
    RemoteError,
    UnserialisableError,
    WrongRevisionError,
)

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)]
BUILT = [
    ConfigurationError("set it", where="CROSSFADE_BUS"),
    MissingExtraError("sealed", needed_for="sealing"),
    EventTooLargeError(size=2, limit=1),
    WrongRevisionError("seams", actual=None),
    MalformedEventError("no", reason="json"),
    UnserialisableError("no", what="query"),
    NotExecutedError("no", callid="1", reason="expired"),
    OutcomeUnknownError("no", callid="1", deadline=datetime(2026, 1, 1, tzinfo=UTC)),
    RemoteError("boom", type_name="shop.Broken", remote_traceback="Traceback"),
]


@pytest.mark.parametrize("cls", CLASSES)
def test_one_except_clause_catches_everything_of_ours(cls):
    """Every error is a CrossfadeError and none is a BaseException that slips past ``except Exception``."""
    assert issubclass(cls, CrossfadeError)
    assert issubclass(cls, Exception)


@pytest.mark.parametrize("cls", CLASSES)
def test_every_class_says_what_it_means(cls):
    """A bare instance carries its docstring, so each class needs its own."""
    assert cls.__dict__["__doc__"]
    if "message" in inspect.signature(cls).parameters and len(inspect.signature(cls).parameters) == 1:
        assert str(cls()) == cls.__doc__.strip()


def test_families_say_who_must_act():
    """What the broker did is never mistaken for what a caller's call did."""
    assert not issubclass(BusError, CallError | ConfigurationError)
    assert not issubclass(CallError, BusError | ConfigurationError)
    assert not issubclass(RemoteError, BusError | ConfigurationError)


@pytest.mark.parametrize("error", BUILT, ids=lambda error: type(error).__name__)
def test_an_error_survives_being_copied(error):
    """A copy has the same class, text and attributes (pytest, loggers and retry libraries copy errors)."""
    for again in (copy.copy(error), copy.deepcopy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_an_error_crosses_an_apps_own_process_pool():
    """An error with keyword arguments must not break the pool of an app that calls seams in it."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        error = pool.submit(from_structured, b"no event").exception(timeout=30)
    assert isinstance(error, MalformedEventError)
    assert error.reason == "json"
    assert str(error) == "the event is no JSON object"


def test_a_configuration_error_begins_with_its_place():
    """``where`` leads, because it is what a person edits."""
    assert str(ConfigurationError("set it", where="crossfade.toml:3")) == "crossfade.toml:3: set it"
    assert str(ConfigurationError("set it")) == "set it"


def test_a_missing_extra_names_the_command_that_installs_it():
    """The text can be pasted into a shell."""
    error = MissingExtraError("sealed", needed_for="sealing parameters")
    assert 'pip install "crossfade[sealed]"' in str(error)
    assert error.extra == "sealed"
    assert error.where == ""


def test_numbers_travel_as_attributes():
    """What a program decides on is data, not text."""
    large = EventTooLargeError(size=1_100_000, limit=1_048_576)
    assert (large.size, large.limit) == (1_100_000, 1_048_576)
    assert "1100000" in str(large)
    assert WrongRevisionError("seams", actual=7).actual == 7


def test_an_unserialisable_value_is_named():
    """``what`` is the parameter, or ``return``."""
    assert str(UnserialisableError("a lock", what="guard")) == "guard: a lock"
    assert str(UnserialisableError("a lock")) == "a lock"


def test_a_remote_error_shows_the_type_name_as_text():
    """The class is unknown here, its name is not resolved."""
    assert str(RemoteError("boom", type_name="os.system")) == "os.system: boom"


INTERNAL = {
    # Met by adapters and by code on the port of the bus.
    "BusFullError", "EventTooLargeError", "MalformedEventError", "ObjectMissingError", "StreamMisconfiguredError",
    "WrongPositionError", "WrongRevisionError",
    # Raised by what the command line calls, which tells a person.
    "CallMissingError", "PolicyChangedError", "ResolutionRefusedError", "StageChangeRefusedError", "UnknownSeamError",
    "UnknownStageError",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted({cls.__name__ for cls in CLASSES} - INTERNAL))
def test_what_users_catch_is_importable_from_the_shim(name):
    """Every error that a call, a task, connect or a decorator raises is public, and on the page of errors."""
    from crossfade import shim
    from support.project import TOP

    assert getattr(shim, name) is getattr(errors, name)
    assert name in shim.__all__
    assert f"| `{name}` |" in (TOP / "docs" / "reference" / "errors.md").read_text()


def test_the_page_of_errors_names_no_other():
    """Nothing is promised there that cannot be imported."""
    import re

    from crossfade import shim
    from support.project import TOP

    page = (TOP / "docs" / "reference" / "errors.md").read_text()
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) <= set(shim.__all__)
