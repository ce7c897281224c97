"""Waiting for work on the background loop: as long as it takes, with its own outcome, and never for ever."""

from __future__ import annotations

from concurrent.futures import Future
from threading import Timer

import pytest

from crossfade.shim import _loop


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(_loop, "_LOOK", 0.01)


def test_work_that_takes_long_is_waited_for():
    """Many looks later the result is there."""
    future: Future[int] = Future()
    Timer(0.1, future.set_result, [7]).start()

    assert _loop.wait_for(future) == 7


def test_a_wake_up_that_never_comes_is_not_missed():
    """A future that is done without a word to whoever waits: seen at the next look."""
    future: Future[int] = Future()

    def end_silently() -> None:
        future._result, future._state = 7, "FINISHED"

    Timer(0.05, end_silently).start()

    assert _loop.wait_for(future) == 7


def test_a_time_out_of_the_work_is_its_own():
    """What the work raises is not taken for the end of a look."""
    future: Future[int] = Future()
    Timer(0.05, future.set_exception, [TimeoutError("its own")]).start()

    with pytest.raises(TimeoutError, match="its own"):
        _loop.wait_for(future)


def test_a_limit_is_kept_and_the_work_given_up():
    """Who waits no longer cancels it."""
    future: Future[int] = Future()

    with pytest.raises(TimeoutError):
        _loop.wait_for(future, 0.02)
    assert future.cancelled()
