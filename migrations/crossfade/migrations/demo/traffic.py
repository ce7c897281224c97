"""Real traffic: people asking the desk over HTTP, each waiting for an answer before asking again."""

from __future__ import annotations

import http.client
import itertools
import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final
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
_PEOPLE: Final = 4
_PAUSE: Final = 0.02  # seconds a person takes to read; keeps two cores from saturating
_PATIENCE: Final = 40.0  # seconds a person waits; a call on the bus may take 30


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One question and what came of it. ``answer`` is ``None`` when none came; ``seconds`` as the person waited."""

    request: str
    question: str
    phase: str
    seconds: float
    answer: dict[str, Any] | None
    failure: str


@dataclass
class Traffic:
    """People who ask until ``stop``; ``phase`` names what they are asked under now."""

    page: str
    phase: str = "legacy"
    asked: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._numbers = itertools.count(1)
        self._stopping = threading.Event()
        self._people = [threading.Thread(target=self._ask_on, name=f"person-{n}") for n in range(_PEOPLE)]

    def start(self) -> None:
        """Let everybody begin to ask."""
        for person in self._people:
            person.start()

    def stop(self) -> None:
        """Let everybody get the answer they wait for, and leave."""
        self._stopping.set()
        for person in self._people:
            person.join()

    def wait_for(self, count: int, *, seconds: float) -> bool:
        """Wait until ``count`` more answers of this phase have come; ``False`` when that takes longer."""
        goal = self.answered(self.phase) + count
        end = time.monotonic() + seconds
        while self.answered(self.phase) < goal:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def answered(self, phase: str) -> int:
        """How many answers came under ``phase``."""
        return sum(asked.phase == phase and asked.answer is not None for asked in self.asked)

    def _ask_on(self) -> None:
        address = urlsplit(self.page).netloc
        connection = http.client.HTTPConnection(address, timeout=_PATIENCE)
        while not self._stopping.is_set():
            number = next(self._numbers)
            self.asked.append(self._ask(connection, f"q{number}", QUESTIONS[number % len(QUESTIONS)]))
            self._stopping.wait(_PAUSE)
        connection.close()

    def _ask(self, connection: http.client.HTTPConnection, request: str, question: str) -> Asked:
        phase, began = self.phase, time.perf_counter()
        answer: dict[str, Any] | None = None
        failure = ""
        try:
            body = json.dumps({"question": question, "request_id": request})
            connection.request("POST", "/ask", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read().decode()
            if response.status == 200:
                answer = json.loads(text)
            else:
                failure = f"{response.status} {text[:200]}"
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            failure = repr(error)
        return Asked(
            request=request,
            question=question,
            phase=phase,
            seconds=time.perf_counter() - began,
            answer=answer,
            failure=failure,
        )
