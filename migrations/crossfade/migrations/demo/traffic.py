"""Real traffic: people using the desk over HTTP, each waiting for an answer before asking again."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, Self
from urllib.parse import urlencode, urlsplit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from crossfade.proxy.control.tokens import Keyring

QUESTIONS: Final = (
    "How do I copy a list?",
    "What does the with statement do?",
    "What is the difference between is and ==?",
    "How do I read a CSV file?",
    "How do I parse JSON?",
    "What is a generator?",
    "How do I sort a dictionary by value?",
    "What does yield from do?",
    "How do I format a date?",
    "What is a context manager?",
    "How do I start a thread?",
    "How do I run a subprocess?",
)
TOPICS: Final = ("context managers", "generators", "regular expressions", "sorting")
Kind = Literal["ask", "look", "report"]
"""What a person does: ask the agent (`POST /ask`), look something up (`GET /search`), have a report written."""

_PEOPLE: Final[Sequence[Kind]] = ("ask", "ask", "look")  # at once
_WRITERS: Final = 3  # beside them: each has one report after the other written
_USERS: Final = 20  # whose names they bear in turn: a canary takes some of them
# Seconds a person takes to read; keeps two cores from saturating.
_PAUSE: Final[Mapping[Kind, float]] = {"ask": 0.06, "look": 0.04}
_PATIENCE: Final = 40.0  # seconds a person waits; a call on the bus may take 30
_ASIDE: Final = 4.0  # seconds after which a writer orders the next report and looks at this one later
_TOKEN_LIFE: Final = timedelta(minutes=10)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request and what came of it. ``answer`` is ``None`` when none came; ``seconds`` as the person waited.

    ``began`` is by ``time.monotonic``; ``task``: it was answered with 202 first.
    """

    request: str
    question: str
    phase: str
    seconds: float
    answer: dict[str, Any] | None
    failure: str
    kind: Kind = "ask"
    began: float = 0.0
    task: bool = False

    def was_under_way(self, moment: float) -> bool:
        """Whether its person waited at this moment of ``time.monotonic``."""
        return self.began <= moment <= self.began + self.seconds


@dataclass
class Traffic:
    """People who ask until ``stop``; ``phase`` names what they are asked under now, ``keys`` sign their tokens."""

    page: str
    keys: Keyring
    phase: str = "legacy"
    asked: list[Asked] = field(default_factory=list[Asked])

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._people = [threading.Thread(target=self._go_on, args=(kind,), name=kind) for kind in _PEOPLE]
        self._people += [threading.Thread(target=self._report_on, name="writer") for _ in range(_WRITERS)]

    def start(self) -> None:
        """Let everybody begin to ask."""
        for person in self._people:
            person.start()

    def stop(self) -> None:
        """Let everybody get the answer they wait for, and leave."""
        self._stopping.set()
        for person in self._people:
            person.join()

    def wait_for(self, goals: Mapping[Kind, int], *, seconds: float) -> bool:
        """Wait until so many more answers of this phase have come; ``False`` when that takes longer."""
        wanted: dict[Kind, int] = {kind: self.answered(self.phase, kind) + more for kind, more in goals.items()}
        end = time.monotonic() + seconds
        while any(self.answered(self.phase, kind) < count for kind, count in wanted.items()):
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def answered(self, phase: str, kind: Kind) -> int:
        """How many answers of this kind came under ``phase``."""
        return sum(item.phase == phase and item.answer is not None and item.kind == kind for item in self.asked)

    def _go_on(self, kind: Kind) -> None:
        with _Browser(self.page) as browser:
            while not self._stopping.is_set():
                self._note(_Order(self, kind, next(self._numbers)), browser)
                self._stopping.wait(_PAUSE[kind])

    def _report_on(self) -> None:
        orders: list[threading.Thread] = []
        while not self._stopping.is_set():
            order = threading.Thread(target=self._report, args=(next(self._numbers),), name="report")
            order.start()
            order.join(_ASIDE)
            orders.append(order)
        for order in orders:
            order.join()

    def _report(self, number: int) -> None:
        with _Browser(self.page) as browser:
            self._note(_Order(self, "report", number), browser)

    def _note(self, order: _Order, browser: _Browser) -> None:
        phase, began = self.phase, time.monotonic()
        answer = order.place(browser)
        self.asked.append(
            Asked(
                request=order.request,
                question=order.question,
                phase=phase if phase == self.phase else "moving",
                seconds=time.monotonic() - began,
                answer=answer.content,
                failure=answer.failure,
                kind=order.kind,
                began=began,
                task=answer.task,
            )
        )


class _Order:
    """One thing that a person wants of the desk."""

    def __init__(self, traffic: Traffic, kind: Kind, number: int) -> None:
        self._keys = traffic.keys
        self._user = f"user{number % _USERS}"
        self.kind: Kind = kind
        self.request = f"{kind[0]}{number}"
        choices = TOPICS if kind == "report" else QUESTIONS
        self.question = choices[number % len(choices)]

    def place(self, browser: _Browser) -> _Answer:
        """What came of it."""
        headers = {"X-User": self._user}
        if self.kind == "look":
            asked = urlencode({"q": self.question, "request_id": self.request})
            return browser.ask("GET", f"/search?{asked}", headers=headers)
        if self.kind == "ask":
            body = {"question": self.question, "request_id": self.request}
            return browser.ask("POST", "/ask", body, headers=headers)
        body = {"topic": self.question, "request_id": self.request}
        answer = browser.ask("POST", "/reports", body, headers=headers | {"Idempotency-Key": self.request})
        if not answer.location:
            return answer
        token = self._keys.mint(user=self._user, ttl=_TOKEN_LIFE)
        return browser.follow(answer.location, {"Authorization": f"Bearer {token}"})


@dataclass(frozen=True, kw_only=True, slots=True)
class _Answer:
    """``content`` is the answer, else ``failure`` says why there is none. ``location``: where to look further."""

    content: dict[str, Any] | None = None
    failure: str = ""
    location: str = ""
    task: bool = False


class _Browser:
    """One kept connection."""

    def __init__(self, page: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(page).netloc, timeout=_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def ask(self, method: str, path: str, body: object = None, *, headers: Mapping[str, str]) -> _Answer:
        """What the desk answers; of a redirect or a 202 only where to look."""
        try:
            response = self._send(method, path, body, headers)
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return _Answer(failure=repr(error))
        if response.status in {202, 303}:
            return _Answer(location=response.headers["Location"])
        if response.status >= 300:
            return _Answer(failure=f"{response.status} {text[:300]}")
        is_json = response.headers.get_content_subtype() == "json"
        return _Answer(content=json.loads(text) if is_json else {"page": text})

    def follow(self, monitor: str, headers: Mapping[str, str]) -> _Answer:
        """The result of a task: its events are read to the end, then its monitor says where the result is."""
        try:
            self._send("GET", f"{monitor}/events", None, headers).read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return _Answer(failure=f"{monitor}/events: {error!r}", task=True)
        said = self.ask("GET", monitor, headers=headers)
        if said.location:
            said = self.ask("GET", said.location, headers=headers)
            return _Answer(content=said.content, failure=said.failure, task=True)
        status = (said.content or {}).get("status")
        failure = "outcome_unknown, says the task's monitor" if status == "unknown" else f"{status}: {said.failure}"
        return _Answer(failure=failure, task=True)

    def _send(self, method: str, path: str, body: object, headers: Mapping[str, str]) -> http.client.HTTPResponse:
        sent = None if body is None else json.dumps(body)
        self._connection.request(method, path, sent, {"Content-Type": "application/json", **headers})
        return self._connection.getresponse()
