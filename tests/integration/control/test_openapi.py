"""The OpenAPI document is true: whatever a client sends, the control API answers as it says there."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from integration.control.migrating import Migration
from integration.control.test_api import declare

# No check is off. What a check expects is widened only where a schema cannot say what is valid:
OPERATIONS = [
    {
        "include-path": "/api/v1/seams/{seam}",
        "checks": {
            # Which revision is the newest is state (412), and the paths and matchers of `compare` are a grammar (422).
            "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "412", "422"]},
            # RFC 6585 has a status of its own for a change without If-Match; a text that is no tag is one that differs.
            "missing_required_header": {"expected-statuses": ["401", "415", "422", "428"]},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "404", "405", "412", "415", "422", "428"]},
        },
    },
    {
        "include-path-regex": "^/api/v1/migrations/",
        "checks": {
            # Whether a playbook moves the seam, and what may be done to it now, is state.
            "positive_data_acceptance": {"expected-statuses": ["2xx", "404", "409", "412"]},
            "missing_required_header": {"expected-statuses": ["401", "415", "422", "428"]},
            "negative_data_rejection": {"expected-statuses": ["400", "401", "404", "405", "412", "415", "422", "428"]},
        },
    },
    {
        "include-path-regex": "^/api/v1/approvals/",
        # Whether there is such an instance, and what its step waits for now, is state.
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "403", "404", "409"]}},
    },
    {
        "include-path": "/api/v1/tokens",
        # A user's name is printable text (422), which is more than a pattern of JSON Schema can say.
        "checks": {"positive_data_acceptance": {"expected-statuses": ["2xx", "422"]}},
    },
]
# Each of its steps takes a yes, so that one can be said whatever was done before.
PLAYBOOK = "seams: [web.search]\nsteps: [{to: observe, approve: anyone}, {to: shadow, approve: anyone}]"
CHECKS = {
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "positive_data_acceptance",
    "negative_data_rejection",
    "missing_required_header",
    "ignored_auth",
    "unsupported_method",
    "allow_header_conformance",
}


class Asked:
    """What schemathesis asked of a document's operations, and which of its promises were broken."""

    def __init__(self):
        self.broken: list[str] = []
        self.checks = Counter()
        self.answers = defaultdict(Counter)

    def hear(self, event):
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.broken.append(repr(getattr(event, "info", None) or event.exception))
        if not isinstance(event, events.ScenarioFinished):
            return
        for interaction in event.recorder.interactions.values():
            if interaction.response is not None:
                self.answers[event.label][interaction.response.status_code] += 1
        for check in (each for checks in event.recorder.checks.values() for each in checks):
            self.checks[check.name] += 1
            if check.status is Status.FAILURE:
                told = check.failure_info
                self.broken.append(f"{event.label}: {check.name}\n{told.failure}\n{told.code_sample}")


def ask_everything(document, url, secret, *, examples):
    """Every operation by valid and invalid requests: its examples, the borders of its schemas, and at random."""
    config = SchemathesisConfig.from_dict(
        {
            "seed": 1,
            "base-url": url,
            "headers": {"Authorization": f"Bearer {secret}"},
            "generation": {"max-examples": examples or 1, "database": "none", "deterministic": True},
            # Stateful: the document has no links for it to follow.
            "phases": {"stateful": {"enabled": False}, "fuzzing": {"enabled": examples > 0}},
            "operations": OPERATIONS,
        }
    )
    asked = Asked()
    for event in from_schema(schemathesis.openapi.from_dict(document, config=config)).execute():
        asked.hear(event)
    return asked


@pytest.mark.parametrize("examples", [0, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(900)])])
async def test_every_answer_is_one_the_document_promises(plane, note, examples):
    """Each operation was done at least once, refused without a credential, and broke no promise under any check."""
    await declare(plane)
    await Migration(plane).apply(PLAYBOOK)
    document = (await plane.ask("GET", "/openapi.json", plane.view)).json()

    asked = await asyncio.to_thread(ask_everything, document, plane.url, plane.operate, examples=examples)

    note(f"{sum(map(Counter.total, asked.answers.values()))} requests, {asked.checks.total()} checks")
    assert not asked.broken, "\n\n".join(asked.broken)
    assert set(asked.checks) >= CHECKS
    operations = {f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each}
    assert set(asked.answers) == operations
    for operation, answers in asked.answers.items():
        if operation.startswith(("POST /api/v1/migrations/", "GET /api/v1/migrations/", "POST /api/v1/approvals/")):
            continue  # what is allowed is the state of that moment: test_migrations and test_approvals do each
        assert 401 in answers, (operation, answers)
        assert any(status < 300 for status in answers), (operation, answers)


@pytest.fixture
async def plane(serving, nats_server):
    """With everything that the command line puts into it."""
    async with serving(nats_server.url, dashboard=True) as found:
        yield found


async def test_every_operation_documents_its_errors_as_problems(plane):
    """By status, none of them as a mere default; those of the gate are in every operation."""
    document = (await plane.ask("GET", "/openapi.json", plane.view)).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            refusals = {status: each for status, each in operation["responses"].items() if status[0] in "45"}
            assert {"401", "403", "411", "413", "421", "500"} <= set(refusals), (method, path)
            assert "default" not in operation["responses"]
            for status, each in refusals.items():
                if (path, status) != ("/readyz", "503"):  # says what is missing, in the shape of its 200
                    assert list(each["content"]) == ["application/problem+json"], (method, path, status)
            assert {"credential": []} in operation["security"]
