"""The call a handler serves, and only there."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from datetime import UTC, datetime

import pytest

from crossfade.shim.calls import CurrentCall, current_call, serving

CALL = CurrentCall(callid="c", seam="web.search", attempt=1, deadline=datetime(2026, 1, 1, tzinfo=UTC))


def inside(function):
    """Run ``function`` as a worker would."""
    context = contextvars.copy_context()
    context.run(serving.set, CALL)
    return context.run(function)


def test_outside_a_handler_there_is_no_call():
    """Legacy code that asks gets nothing, not an error."""
    assert current_call() is None


def test_inside_it_is_the_call_served_and_tasks_inherit_it():
    """Also in tasks and in threads that copy the context; a plain thread starts without."""

    async def in_task():
        return await asyncio.create_task(ask())

    async def ask():
        return current_call()

    def in_thread():
        seen = []
        thread = threading.Thread(target=lambda: seen.append(current_call()))
        thread.start()
        thread.join()
        return seen

    assert inside(current_call) is CALL
    assert inside(lambda: asyncio.run(in_task())) is CALL
    assert inside(lambda: asyncio.run(asyncio.to_thread(current_call))) is CALL
    assert inside(in_thread) == [None]
    assert current_call() is None


def test_a_call_cannot_be_changed():
    """Its id is handed to others as a key."""
    with pytest.raises(AttributeError):
        CALL.callid = "other"
