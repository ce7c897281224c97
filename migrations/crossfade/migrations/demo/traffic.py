"""Real traffic: people asking the desk over HTTP, each waiting for an answer before asking again."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final, Self
from urllib.parse import urlsplit

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
_PEOPLE: Final = 3  # who ask; one more has reports written
_PAUSE: Final = 0.02  # seconds a person takes to read; keeps two cores from saturating
_PATIENCE: Final = 40.0  # seconds a person waits; a call on the bus may take 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One request and what came of it. ``answer`` is ``None`` when none came; ``seconds`` as the person waited."""

    request: str
    question: str
    phase: str
    seconds: float
    answer: dict[str, Any] | None
    failure: str
    report: bool = False


@dataclass
class Traffic:
    """People who ask until ``stop``; ``phase`` names what they are asked under now."""

    page: str
    phase: str = "legacy"
    asked: list[Asked] = field(default_factory=list[Asked])

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._people = [threading.Thread(target=self._ask_on, name=f"person-{n}") for n in range(_PEOPLE)]
        self._people.append(threading.Thread(target=self._report_on, name="writer"))

    def start(self) -> None:
        """Let everybody begin to ask."""
        for person in self._people:
            person.start()

    def stop(self) -> None:
        """Let everybody get the answer they wait for, and leave."""
        self._stopping.set()
        for person in self._people:
            person.join()

    def wait_for(self, count: int, *, reports: int, seconds: float) -> bool:
        """Wait until so many more answers and reports of this phase have come; ``False`` when that takes longer."""
        goals = self.answered(self.phase) + count, self.answered(self.phase, report=True) + reports
        end = time.monotonic() + seconds
        while self.answered(self.phase) < goals[0] or self.answered(self.phase, report=True) < goals[1]:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def answered(self, phase: str, *, report: bool = False) -> int:
        """How many answers (or reports) came under ``phase``."""
        return sum(item.phase == phase and item.answer is not None and item.report == report for item in self.asked)

    def _ask_on(self) -> None:
        with _Browser(self.page) as browser:
            while not self._stopping.is_set():
                number = next(self._numbers)
                question = QUESTIONS[number % len(QUESTIONS)]
                self.asked.append(self._send(browser, "/ask", f"q{number}", "question", question))
                self._stopping.wait(_PAUSE)

    def _report_on(self) -> None:
        with _Browser(self.page) as browser:
            while not self._stopping.is_set():
                number = next(self._numbers)
                topic = TOPICS[number % len(TOPICS)]
                self.asked.append(self._send(browser, "/reports", f"r{number}", "topic", topic))

    def _send(self, browser: _Browser, path: str, request: str, name: str, text: str) -> Asked:
        phase, began = self.phase, time.perf_counter()
        answer, failure = browser.post(path, {name: text, "request_id": request})
        return Asked(
            request=request,
            question=text,
            phase=phase if phase == self.phase else "moving",
            seconds=time.perf_counter() - began,
            answer=answer,
            failure=failure,
            report=path == "/reports",
        )


class _Browser:
    """One kept connection."""

    def __init__(self, page: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(page).netloc, timeout=_PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def post(self, path: str, body: dict[str, str]) -> tuple[dict[str, Any] | None, str]:
        """The answer, or ``None`` and why."""
        try:
            self._connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = self._connection.getresponse()
            text = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            return None, repr(error)
        if response.status < 300:
            return json.loads(text), ""
        return None, f"{response.status} {text[:300]}"
