"""Facts that start tasks: typed arguments, one call for each fact, here or on the bus; reasons where it cannot be."""

from __future__ import annotations

import json
import threading

import pytest

from crossfade import shim
from crossfade.adapters import memory
from crossfade.adapters.triggers import Arrival, Intake, Triggers
from crossfade.adapters.triggers.starting import Start, Starter
from crossfade.shim import connection, seam
from crossfade.shim.config import Config
from crossfade.shim.errors import ConfigurationError
from integration.shim.kit import Workers, until


@pytest.fixture
def ran(monkeypatch, counts):
    """Declares seams of the test's own; what their bodies were called with."""
    monkeypatch.setattr(seam.registry, "_seams", {})
    called = []

    @shim.tool("desk.research", effects="idempotent")
    def research(topic: str, pages: int = 3) -> str:
        call = shim.current_call()
        correlation = shim.current_correlation()
        called.append((topic, pages, correlation.user if correlation else None, call.callid if call else None))
        if topic == "bad":
            raise LookupError(topic)
        return topic

    called_by = research
    called.append(called_by)
    return called


class Desk:
    """A connected process whose mails start ``desk.research``."""

    def __init__(self, runtime):
        self.runtime = runtime
        self.bus = runtime.bus
        self.intake = Intake(self.bus, runtime.subjects, "mail")
        self._running = None

    def on(self, coroutine):
        return self.runtime.thread.run(coroutine, timeout=20)

    def mail(self, ident, **data):
        arrival = Arrival(type="email.received", parts=(ident,), data=json.dumps(data).encode(), user="ada")
        return self.on(self.intake.take(arrival))

    def begin(self, **arguments):
        start = Start(seam="desk.research", arguments=arguments or {"topic": "subject"})
        starter = Starter(
            start,
            self.runtime.registry.get("desk.research"),
            self.bus,
            self.runtime.subjects,
            trigger="mail",
            of="email.received",
        )
        ready = threading.Event()
        self._triggers = Triggers([], self.bus, first=[starter])
        self._running = self.runtime.thread.spawn(self._triggers.run(lambda _where: ready.set()))
        assert ready.wait(20)

    def end(self):
        if self._running is not None:
            self.runtime.thread.loop.call_soon_threadsafe(self._triggers.stop)
            self._running.result(20)
            self._running = None

    def dead(self):
        async def found():
            return [(letter.reason, letter.detail) async for letter in self.bus.dead_letters()]

        return self.on(found())


@pytest.fixture
def desk(prefix, ran):
    """Connects to a bus in memory; ``stage`` is the seam's."""
    opened = []

    def open_desk(stage="legacy"):
        config = Config(prefix=prefix, seams={"desk.research": {"stage": stage}})
        made = Desk(connection.connect(f"memory://{prefix}", config=config, required=True).runtime)
        opened.append(made)
        return made

    yield open_desk
    for one in opened:
        one.end()
    if connection._current is not None:
        connection._current.close()
    memory.forget(prefix)


def test_a_mail_starts_a_task_with_its_fields(desk, ran, counts):
    """Typed arguments, the fact's user, and the body here while the seam is at legacy."""
    mails = desk()
    mails.begin(topic="subject", pages="attachments.0.size")
    mails.mail("1", subject="events", attachments=[{"size": 7}])

    until(lambda: counts.get("started", seam="desk.research"))
    assert ran[1][:3] == ("events", 7, "ada")


def test_on_the_bus_a_worker_runs_it(desk, ran, counts, tmp_path):
    """The command is durable when the fact is done with; the call's id follows from the fact's."""
    mails = desk("bus")
    with Workers(tmp_path / "spool") as workers:
        workers.start(connection._current, ran[0])
        mails.begin()
        taken = mails.mail("1", subject="events")
        until(lambda: len(ran) == 2)

    assert ran[1][3] is not None
    from crossfade.shim._routes import keyed_callid

    assert ran[1][3] == keyed_callid("desk.research", None, taken.id)


def test_a_fact_delivered_again_is_the_same_call(desk, ran, tmp_path, monkeypatch):
    """Killed between the command and the acknowledgement: the fact comes again, and nobody runs it twice."""
    mails = desk("bus")
    acks = []
    consume = Starter._take

    async def forgetful(self, delivery):
        class Lost:
            stored = delivery.stored
            attempt = delivery.attempt
            extend = delivery.extend
            reject = delivery.reject

            async def ack(self):
                acks.append(delivery.attempt)
                if delivery.attempt == 1:
                    await delivery.retry(0.05, reason="lost")
                else:
                    await delivery.ack()

        await consume(self, Lost())

    monkeypatch.setattr(Starter, "_take", forgetful)
    with Workers(tmp_path / "spool") as workers:
        workers.start(connection._current, ran[0])
        mails.begin()
        mails.mail("1", subject="events")
        until(lambda: acks == [1, 2])

    assert len(ran) == 2


def test_a_fact_that_came_while_nobody_was_there_starts_its_task_later(desk, ran, counts):
    """The group outlives the process."""
    mails = desk()
    mails.begin()
    mails.end()
    mails.mail("1", subject="events")
    assert len(ran) == 1
    mails.begin()

    until(lambda: len(ran) == 2)


def test_facts_of_another_trigger_start_nothing(desk, ran, counts):
    """The same type, another source."""
    mails = desk()
    mails.begin()
    mails.intake = Intake(mails.bus, mails.runtime.subjects, "other")
    mails.mail("1", subject="no")
    mails.intake = Intake(mails.bus, mails.runtime.subjects, "mail")
    mails.mail("2", subject="yes")

    until(lambda: len(ran) == 2)
    assert ran[1][0] == "yes"


@pytest.mark.parametrize(
    ("arguments", "data", "words"),
    [
        ({"topic": "subject"}, {}, "no 'subject'"),
        ({"topic": "subject.x.0"}, {"subject": "text"}, "no 'subject.x.0'"),
        ({"topic": "list.9"}, {"list": [1]}, "no 'list.9'"),
        ({"topic": "subject"}, {"subject": 7}, "topic"),
        ({"topic": "subject", "pages": "=many"}, {"subject": "x"}, "pages"),
    ],
)
def test_a_fact_that_does_not_fit_is_a_dead_letter_with_the_reason(desk, ran, arguments, data, words):
    """And the next one is started."""
    mails = desk()
    mails.begin(**arguments)
    mails.mail("1", **data)

    until(mails.dead)
    ((reason, detail),) = mails.dead()
    assert reason == "arguments"
    assert words in detail
    assert len(ran) == 1


def test_what_the_body_raises_is_its_own_outcome(desk, ran, counts):
    """Counted, not tried again, and the next fact is started."""
    mails = desk()
    mails.begin()
    mails.mail("1", subject="bad")
    until(lambda: counts.get("start-failed", seam="desk.research", reason="body"))
    mails.mail("2", subject="good")
    until(lambda: counts.get("started", seam="desk.research") == 2)

    assert [one[0] for one in ran[1:]] == ["bad", "good"]


def test_texts_attributes_and_json_of_ones_own(desk, ran, counts):
    """``=`` is the text itself, or JSON; ``$`` an attribute of the event."""
    mails = desk()
    mails.begin(topic="$user", pages="=5")
    mails.mail("1")

    until(lambda: len(ran) == 2)
    assert ran[1][:2] == ("ada", 5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "needs 'topic'"),
        ({"topic": "subject", "colour": "subject"}, "takes no 'colour'; its parameters: topic, pages"),
        ({"topic": "$secret"}, "is none of $id"),
    ],
)
def test_a_mapping_that_cannot_fit_is_said_at_the_start(ran, arguments, words):
    """Before anything comes in."""
    with pytest.raises(ConfigurationError) as refused:
        Start(seam="desk.research", arguments=arguments).check(seam.registry.get("desk.research"))
    assert words in str(refused.value)
