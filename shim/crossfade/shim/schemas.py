"""What is inside every event: one pydantic model per payload, their JSON Schemas, and the reference page.

Unknown fields are ignored, because a caller of the next version may send some. Every value that may be secret may
be a redaction mark instead (``{"$redacted": ...}``) in observations and facts. ``docs/reference/events.md`` is
written from this file: ``python -m crossfade.shim.schemas > docs/reference/events.md``.

This module loads pydantic, so nothing that a legacy call site imports may import it.
"""

from __future__ import annotations

import sys
from datetime import datetime  # noqa: TC003 - pydantic reads the annotations
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from .errors import MalformedEventError
from .events import EXTENSIONS, TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"

_Milliseconds = Annotated[float, Field(ge=0)]


class Payload(BaseModel):
    """What all payloads share."""

    model_config = ConfigDict(extra="ignore", frozen=True)


# -- calls ---------------------------------------------------------------------------------------------------------


class Redacted(Payload):
    """What stands in the place of a secret: equal secrets have equal marks."""

    mark: str = Field(
        alias="$redacted", description="keyed hash, or `limit:...` when the value was too large to search"
    )


class Invoke(Payload):
    """A call to execute. Every argument is in exactly one of the two members."""

    arguments: dict[str, Any] = Field(
        description="parameter name to JSON value; a default that was not given is absent, in models, too"
    )
    sealed: dict[str, str] = Field(
        default={}, description="secret parameter name to sealed value, opened by the worker"
    )


class ErrorData(Payload):
    """What the handler raised, as data and text: no class is ever looked up by its name."""

    type: str = Field(description="`ValueError`, or `package.module.Class`")
    message: str = Field(default="", description="its text, redacted, 16 KiB at most")
    args: list[Any] = Field(default=[], description="its arguments where they are JSON, to rebuild a registered class")
    attributes: dict[str, Any] = Field(default={}, description="its attributes where they are JSON, for the same")
    unsent: list[str] = Field(default=[], description="`args` or attributes that are not; it is not rebuilt then")
    traceback: str = Field(default="", description="text, redacted, the last 64 KiB")
    notes: list[str] = Field(default=[], description="what `add_note` added")
    retryable: bool = Field(default=False, description="the handler says that trying again may help")


class Timings(Payload):
    """Where the time went."""

    handler_ms: _Milliseconds = Field(description="inside the handler")
    queue_ms: _Milliseconds | None = Field(default=None, description="between publishing and delivery, by broker time")


class OperatorWord(Payload):
    """Who said how an unknown call ended, in the owner's place."""

    actor: str = Field(description="who")
    reason: str = Field(description="how they knew")
    replaces: str = Field(description="position of the `unknown` that this replaces, or of the dead command sent again")
    time: str = Field(description="when, in the broker's time")


class ValueResult(Payload):
    """The handler returned."""

    outcome: Literal["value"]
    value: Any = Field(description="what it returned; may be null, never absent")
    handler: str = Field(default="", description="what ran: `self`, the body, or `module:qualname[@version]`")
    timings: Timings | None = None
    operator: OperatorWord | None = Field(default=None, description="present when an operator wrote this result")


class ErrorResult(Payload):
    """The handler raised."""

    outcome: Literal["error"]
    error: ErrorData
    handler: str = Field(default="", description="what ran: `self`, the body, or `module:qualname[@version]`")
    timings: Timings | None = None
    operator: OperatorWord | None = Field(default=None, description="present when an operator wrote this result")


class NotExecutedResult(Payload):
    """The call provably did not run: running it another way is safe."""

    outcome: Literal["not-executed"]
    reason: str = Field(description="short token: `expired`, `stale-policy`, `cancelled` ...")
    message: str = Field(default="", description="for people")
    operator: OperatorWord | None = Field(default=None, description="present when an operator wrote this result")


class UnknownResult(Payload):
    """Nobody can know whether the call ran; a later result of its owner supersedes this."""

    outcome: Literal["unknown"]
    reason: str = Field(description="short token")
    message: str = Field(default="", description="for people")


Result = Annotated[
    ValueResult | ErrorResult | NotExecutedResult | UnknownResult,
    Field(discriminator="outcome"),
]
Failure = Annotated[ErrorResult | NotExecutedResult | UnknownResult, Field(discriminator="outcome")]
Cancelled = Annotated[NotExecutedResult | UnknownResult, Field(discriminator="outcome")]


class Progress(Payload):
    """A running call reports."""

    fraction: float | None = Field(default=None, ge=0, le=1, description="how much is done, absent when unknown")
    message: str = Field(default="", description="for people")
    data: Any = Field(default=None, description="whatever the handler adds")
    chunk: int | None = Field(default=None, ge=0, description="number of a generator's item, from 0")
    value: Any = Field(default=None, description="a generator's item")


class Finished(Payload):
    """A finished legacy call, redacted."""

    instance: str = Field(description="the process that made the call")
    n: int = Field(ge=1, description="number of the eligible call of this seam in that process, without gaps")
    kind: str = Field(default="", description="size of the arguments, time, outcome: what coverage is counted by")
    redaction: str = Field(default="", description="fingerprint of the key of the marks in it, not the key")
    started: AwareDatetime
    duration_ms: _Milliseconds
    outcome: Literal["value", "error"]
    error: ErrorData | None = Field(default=None, description="what the body raised")


class ObservedStream(Payload):
    """What a generator yielded. Without `items` it cannot be compared, and `cut` says why."""

    count: int = Field(ge=0, description="how many items there were, recorded or not")
    end: Literal["finished", "closed", "error"] = Field(
        description="`closed`: whoever took the items wanted no more; `error`: see `error`"
    )
    items: list[Any] | None = Field(default=None, description="what it yielded, in order, redacted")
    offsets_ms: list[_Milliseconds] = Field(default=[], description="when each item came, after `started`")
    cut: str = Field(
        default="",
        description="`stream-limit`: too long; `stream-driven`: something was sent or thrown into it; `stream-closed`: "
        "before its first item; `unserialisable`",
    )


class Observed(Finished):
    """A finished legacy call: arguments, outcome and timing, redacted."""

    arguments: dict[str, Any] | None = Field(default=None, description="absent when they could not be serialised")
    value: Any = Field(default=None, description="what the body returned; absent when it could not be serialised")
    stream: ObservedStream | None = Field(default=None, description="of a generator, in place of `value`")


# -- HTTP ----------------------------------------------------------------------------------------------------------

_Headers = list[tuple[str, str | Redacted]]
_Body = Annotated[str | Redacted, Field(description="base64; absent is empty")]


class HttpRequest(Payload):
    """A request as it was received, without hop-by-hop headers."""

    method: str
    target: str = Field(description="path and query as received, not decoded")
    authority: str = Field(default="", description="host and port as asked for")
    headers: _Headers = Field(default=[], description="pairs in order of arrival")
    body: _Body = ""
    trailers: _Headers = []


class HttpResponse(Payload):
    """A response as it was received, without hop-by-hop headers."""

    status: int = Field(ge=100, le=599)
    headers: _Headers = Field(default=[], description="pairs in order of arrival")
    body: _Body = ""
    trailers: _Headers = []
    sealed: str = Field(default="", description="its secret headers, sealed: place, name, value")


class HttpInvoke(Payload):
    """A request to execute."""

    arguments: HttpRequest
    sealed: dict[str, str] = Field(default={}, description="secret header name to sealed value, opened by the worker")


class HttpValueResult(ValueResult):
    """The upstream answered, whatever its status."""

    value: HttpResponse


HttpResult = Annotated[
    HttpValueResult | ErrorResult | NotExecutedResult | UnknownResult, Field(discriminator="outcome")
]


class HttpChunk(Payload):
    """A piece of a streamed response."""

    n: int = Field(ge=0, description="0 for the first, without gaps")
    body: _Body = ""
    last: bool = False


class HttpObserved(Finished):
    """A finished request that legacy answered, redacted."""

    arguments: HttpRequest | None = Field(default=None, description="the request")
    value: HttpResponse | None = Field(default=None, description="the response")


# -- triggers ------------------------------------------------------------------------------------------------------


class Attachment(Payload):
    """A file that came with a message."""

    name: str = ""
    type: str = Field(default="application/octet-stream", description="media type")
    size: int = Field(ge=0, description="bytes")
    dataref: str = Field(default="", description="where its bytes are")
    sha256: str = Field(default="", description="hex")


class EmailReceived(Payload):
    """A message was accepted."""

    message_id: str = ""
    sender: str = Field(description="envelope sender")
    recipients: list[str] = Field(description="envelope recipients")
    author: str = Field(default="", description="the header From, which anybody can write")
    subject: str = ""
    date: datetime | None = Field(default=None, description="as the sender wrote it")
    text: str = ""
    html: str = ""
    headers: _Headers = []
    attachments: list[Attachment] = []
    raw: Attachment | None = Field(default=None, description="the whole message as it came")
    login: str = Field(default="", description="who showed a password")
    tls: bool = Field(default=False, description="it came encrypted")
    defects: list[str] = Field(default=[], description="what could not be read")


class WebhookReceived(Payload):
    """A signed HTTP callback was accepted."""

    endpoint: str = Field(description="which configured endpoint")
    delivery: str = Field(default="", description="the sender's own id of this delivery")
    headers: _Headers = []
    content_type: str = ""
    scheme: str = Field(default="", description="how it was signed")
    data: Any = Field(default=None, description="the body when it is JSON")
    text: str = Field(default="", description="the body when it is other text")
    body: _Body = ""


class ScheduleFired(Payload):
    """A schedule came due."""

    schedule: str = Field(description="its name")
    due: AwareDatetime = Field(description="when it should fire, whenever it did")
    late: float = Field(default=0.0, ge=0, description="seconds")
    data: Any = Field(default=None, description="what the schedule carries")


class FileCreated(Payload):
    """A file is complete: its size stopped changing."""

    path: str = Field(description="in the directory")
    name: str = ""
    directory: str = ""
    size: int = Field(ge=0, description="bytes")
    modified: AwareDatetime | None = None
    sha256: str = Field(default="", description="hex")
    content: Attachment | None = Field(default=None, description="where its bytes are, when they were kept")


class DeviceReported(Payload):
    """A device published."""

    topic: str
    data: Any = Field(default=None, description="the message when it is JSON")
    text: str = Field(default="", description="the message when it is other text")
    body: _Body = ""
    retained: bool = False
    qos: int = Field(default=0, ge=0, le=2)
    properties: dict[str, str] = Field(default={}, description="the sender's user properties")


# -- workflows -----------------------------------------------------------------------------------------------------


class Workflow(Payload):
    """Which instance of which definition."""

    workflow: str = Field(description="the definition's name")
    version: str = Field(description="the definition's version, which travels with the instance")
    instance: str


class WorkflowStarted(Workflow):
    """An instance began."""

    data: Any = Field(default=None, description="what it was started with")


class WorkflowAdvanced(Workflow):
    """An instance took a step."""

    step: str
    state: str = Field(description="what became of the step")
    revision: int = Field(ge=1, description="of the instance's state")
    data: Any = None


class WorkflowCompleted(Workflow):
    """An instance ended well."""

    value: Any = None


class WorkflowFailed(Workflow):
    """An instance ended in an error, after its compensations."""

    step: str = ""
    error: ErrorData
    compensated: list[str] = Field(default=[], description="steps that were undone")


class WorkflowShown(Workflow):
    """What an instance tells its user's page; it lies under the subjects of the UI only."""

    step: str
    data: Any = None


class WorkflowSignalled(Payload):
    """A person's word to an instance."""

    workflow: str = Field(default="", description="the definition's name")
    instance: str
    action: Literal["approve", "reject", "send", "cancel"]
    step: str = Field(default="", description="which step, unless it is a cancel")
    by: str = Field(default="", description="who says so")
    comment: str = ""
    data: Any = None


# -- seams ---------------------------------------------------------------------------------------------------------


class Difference(Payload):
    """One place where two outcomes differ."""

    path: str = Field(description="`$.items[0].title`")
    kind: str = Field(description="`changed`, `missing`, `extra`, `type` or `outcome`: one side raised")
    legacy: str = Field(default="", description="its shortened text, empty where nothing is there")
    bus: str = Field(default="", description="the same of the handler's")


class Repeated(Payload):
    """What several runs of one recorded call amount to."""

    runs: int = Field(ge=2, description="how often the handler ran")
    matched: int = Field(ge=0, description="runs that match: all of them is pass^k")
    structure: int = Field(ge=0, description="runs in which all but the texts under semantic rules matches")
    pairs: int = Field(ge=0, description="of runs, one after the other, compared with each other, texts exactly")
    varied: int = Field(ge=0, description="pairs that differ: the answers' own variance")
    asked: int = Field(ge=0, description="judgements by a comparator of texts, asked for twice")
    flipped: int = Field(ge=0, description="of which came out otherwise: the comparator's variance")


class SeamCompared(Payload):
    """A handler's outcome was compared with the recorded one, or one side with itself."""

    seam: str
    callid: str
    verdict: Literal["match", "mismatch", "ignored", "skipped", "inconclusive"]
    source: str = Field(
        default="shadow", description="`shadow`, or `noise`: one side against itself, never counted as evidence"
    )
    rule: str = Field(default="", description="paths of the rules that ignored, or `comparator`")
    judged: str = Field(default="", description="paths of semantic rules without which it would be no match")
    reason: str = Field(default="", description="why it was skipped or inconclusive; `both-errors` of a match")
    detail: str = Field(default="", description="for people")
    differences: list[Difference] = Field(default=[], description="bounded; `more` counts the rest")
    more: int = Field(default=0, ge=0, description="differences that were found and not kept")
    answer: dict[str, Any] | None = Field(
        default=None,
        description="of a mismatch, what the handler answered, redacted: `outcome`, `value` or `error`, of a generator "
        "`stream` with its `items`",
    )
    signature: str = Field(default="", description="equal where the same places differ in the same way")
    handler: str = Field(default="", description="what ran: `self`, the body, or `module:qualname[@version]`")
    instance: str = Field(default="", description="the process that was observed")
    n: int | None = Field(default=None, description="the observation's number there")
    kind: str = Field(default="", description="of the observed call: what coverage is counted by")
    repeated: Repeated | None = Field(default=None, description="where it ran more than once")
    legacy_ms: _Milliseconds | None = None
    bus_ms: _Milliseconds | None = None
    ran_ms: list[_Milliseconds] = Field(
        default=[], description="how long each run took, one after the other: the handler's, or for `noise` that side's"
    )
    replay: bool = Field(default=False, description="from history: never counted as live traffic")


class SeamStageChanged(Payload):
    """A seam moved."""

    seam: str
    was: str = Field(alias="from", description="stage")
    now: str = Field(alias="to", description="stage")
    actor: str = Field(default="", description="who decided: a person, or the controller")
    reason: str = ""
    revision: int = Field(ge=1, description="of the live policy")
    evidence: dict[str, Any] = Field(default={}, description="what the decision rested on")


class SeamUnblocked(Payload):
    """A person cleared what kept a seam from canary and bus."""

    seam: str
    blockers: list[str] = Field(description="what was cleared")
    actor: str = Field(default="", description="who decided")
    reason: str = ""


class SeamRollbackRequested(Payload):
    """A process has stopped asking the bus for a seam, and asks whoever decides to roll it back."""

    seam: str
    revision: int = Field(ge=0, description="of the live policy that was in force there; 0: none")
    instance: str = Field(description="the process")
    failing: Literal["calls", "ledger"] = Field(description="answers by the bus, or storing tasks and claims")
    reason: str = Field(description="the last failure: `deadline`, `expired`, `BusUnavailableError` ...")
    counts: dict[str, int] = Field(description="failures since the bus last answered, by reason")


class SeamSkipped(Payload):
    """Calls of a seam could not take the path its stage asks for."""

    seam: str
    reason: str = Field(
        description="`secret`, `unserialisable`, `unsafe`, `stale`, `redacted` ... `legacy-hit`: the alarm at retired"
    )
    instance: str = Field(default="", description="the process")
    build: str = Field(default="", description="its build of the application; empty when nobody named it")
    count: int = Field(default=1, ge=1, description="calls since the last such event")


class CallClaimed(Payload):
    """Who may start an unsafe call: the first one of a call wins, nothing takes it over."""

    callid: str
    seam: str
    nonce: str = Field(description="drawn once per process, call and role until it wins: whose claim this is")
    role: Literal["worker", "caller", "operator"]
    instance: str = Field(default="", description="the claiming process")
    attempt: int = Field(default=1, ge=1, description="delivery it was made in")
    policyrev: int = Field(default=0, ge=0, description="revision of the policy the command was sent under")
    arguments: str = Field(default="", description="sha256 of the command's payload")
    expires: AwareDatetime = Field(description="the call's deadline, the broker's time")


class CallStarted(Payload):
    """For the UI: a task or an agent's call has begun to run."""

    attempt: int = Field(default=1, ge=1, description="2 or more: it was started before, and begins again")


class CallEnded(Payload):
    """For the UI: how a task or an agent's call ended. The value itself never travels here."""

    outcome: Literal["value", "error", "cancelled", "not-executed", "unknown"]
    reason: str = Field(default="", description="the error's type, or a short token")


class CallDeadlettered(Payload):
    """A command could not be processed and waits for a person."""

    group: str = Field(description="the consumer that gave up")
    reason: str = Field(description="short token")
    detail: str = Field(default="", description="for people, redacted")
    attempts: int = Field(default=0, ge=0)
    origin: str = Field(default="", description="where the event was stored")


MODELS: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "tool.invoke": Invoke,
        "tool.result": Result,
        "tool.progress": Progress,
        "tool.observed": Observed,
        "agent.task.started": Invoke,
        "agent.task.completed": ValueResult,
        "agent.task.failed": Failure,
        "agent.task.cancelled": Cancelled,
        "agent.task.progress": Progress,
        "agent.task.observed": Observed,
        "http.request": HttpInvoke,
        "http.response": HttpResult,
        "http.chunk": HttpChunk,
        "http.observed": HttpObserved,
        "email.received": EmailReceived,
        "webhook.received": WebhookReceived,
        "schedule.fired": ScheduleFired,
        "file.created": FileCreated,
        "device.reported": DeviceReported,
        "workflow.started": WorkflowStarted,
        "workflow.advanced": WorkflowAdvanced,
        "workflow.completed": WorkflowCompleted,
        "workflow.failed": WorkflowFailed,
        "workflow.shown": WorkflowShown,
        "workflow.signalled": WorkflowSignalled,
        "seam.compared": SeamCompared,
        "seam.stage.changed": SeamStageChanged,
        "seam.unblocked": SeamUnblocked,
        "seam.rollback.requested": SeamRollbackRequested,
        "seam.skipped": SeamSkipped,
        "call.claimed": CallClaimed,
        "call.started": CallStarted,
        "call.ended": CallEnded,
        "call.deadlettered": CallDeadlettered,
    }
)


@cache
def _adapter(event_type: str) -> TypeAdapter[Any]:
    return TypeAdapter(MODELS[event_type])


def models(event_type: str) -> tuple[type[BaseModel], ...]:
    """The models a payload is one of. ``MalformedEventError`` (reason ``type``) for an unknown type."""
    shape = MODELS[_known(event_type)]
    return getattr(getattr(shape, "__origin__", shape), "__args__", (shape,))


def json_schema(event_type: str) -> dict[str, Any]:
    """The payload's JSON Schema (draft 2020-12). ``MalformedEventError`` (reason ``type``) for an unknown type."""
    return {"$schema": DIALECT, "$id": f"urn:crossfade:{_known(event_type)}:1", **_adapter(event_type).json_schema()}


def validate_payload(event_type: str, data: bytes) -> Any:
    """The payload in ``data`` as its model.

    Raises ``MalformedEventError``: reason ``type`` for an unknown type, ``payload`` when the data does not fit; the
    text names the first field that does not and never shows a value.
    """
    try:
        return _adapter(_known(event_type)).validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the payload"
        raise MalformedEventError(f"{event_type}: {place}: {first['msg']}", reason="payload") from None


def _known(event_type: str) -> str:
    if event_type not in MODELS:
        raise MalformedEventError(f"there is no event type {event_type[:60]!r}", reason="type")
    return event_type


# -- the reference page --------------------------------------------------------------------------------------------

ATTRIBUTES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "correlationid": "the run: everything that one user action triggers",
        "causationid": "id of the event that caused this one",
        "partitionkey": "what must stay in order: the run",
        "dataref": "where the data is when it was too large to travel, with its sha256",
        "expirytime": "after this moment of the broker's time nobody starts the call",
        "recordedtime": "when a replayed copy was recorded",
        "traceparent": "W3C Trace Context",
        "tracestate": "W3C Trace Context",
        "baggage": "W3C Baggage",
        "tenantid": "the tenant in clear; subjects hold a token of it",
        "userid": "the user in clear; subjects hold a token of it",
        "sessionid": "the session, the sticky key of calls without a user",
        "seam": "the seam's name",
        "callid": "the call, and its idempotency key on both paths",
        "attempt": "number of the delivery that produced this",
        "path": "who ran it: `legacy` or `bus`",
        "policyrev": "revision of the live policy the call was routed by",
        "replyto": "where the waiting caller listens",
        "guarded": "`1`: the ledger decides who starts the call",
        "task": "`1`: somebody follows the call, so the UI is told when it starts and ends",
        "pins": "paths the run took before, `seam=path` joined by commas",
        "depth": "how many handlers wait for this call, one within the other; left out where none does",
        "obsseq": "number of an observation in its process",
        "replayof": "id of the recorded event that this replays",
        "sealed": "`1`: the payload holds sealed values",
        "build": "of the application whose handler ran (`CROSSFADE_BUILD`); left out where nobody named one",
    }
)


def reference_page() -> str:
    """``docs/reference/events.md``: every type, attribute and field, from the tables and models of this package."""
    found = {model.__name__: model for event_type in TYPES for model in models(event_type)}
    schemas = [TypeAdapter(model).json_schema(by_alias=True) for model in found.values()]
    sections = dict.fromkeys(found, "")
    for schema in schemas:
        for definition in (schema, *schema.get("$defs", {}).values()):
            sections[definition["title"]] = _section(definition)
    return _HEAD.format(
        types="\n".join(f"| `{name}` | {kind} | {_links(name)} |" for name, kind in TYPES.items()),
        attributes="\n".join(f"| `{name}` | {ATTRIBUTES[name]} |" for name in EXTENSIONS),
        payloads="\n".join(sections.values()),
    )


_HEAD: Final = """\
# Events

<!-- Written by `python -m crossfade.shim.schemas`; a test fails when this page differs. -->

Every event is a [CloudEvents 1.0](https://cloudevents.io) event: attributes in headers (`ce-*`), the payload as JSON.
Only commands are executed; everything else is a fact that anyone may subscribe to. Readers ignore fields and
attributes they do not know. Words are explained in the [glossary](../glossary.md).

## Types

| type | kind | payload |
|---|---|---|
{types}

## Attributes

Beside CloudEvents' own `id`, `source`, `type`, `subject`, `time` and `datacontenttype`; all are text.

| attribute | meaning |
|---|---|
{attributes}

## Payloads

A field with a default may be absent.

{payloads}"""


def _links(event_type: str) -> str:
    return " or ".join(f"[{model.__name__}](#{model.__name__.lower()})" for model in models(event_type))


def _section(schema: Mapping[str, Any]) -> str:
    rows = [
        f"| `{name}` | {_type(field)} | {_default(field, name in schema.get('required', ()))} "
        f"| {field.get('description', '')} |"
        for name, field in schema["properties"].items()
    ]
    head = (
        f"### {schema['title']}\n\n{schema['description']}\n\n| field | type | default | meaning |\n|---|---|---|---|\n"
    )
    return head + "\n".join(rows) + "\n"


def _default(field: Mapping[str, Any], required: bool) -> str:  # noqa: FBT001 - one private caller
    if required:
        return "required"
    default = field.get("default")
    return "" if default is None else f"`{default!r}`".replace("'", '"').replace("False", "false")


def _type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        name = field["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "prefixItems" in field:
        return f"pair of name and {_type(field['prefixItems'][1])}"
    if "items" in field or field.get("type") == "array":
        return f"list of {_type(field.get('items', {}))}"
    options = [f"`{value}`" for value in field.get("enum", [field["const"]] if "const" in field else ())]
    options += [_type(option) for option in field.get("anyOf", ()) if option.get("type") != "null"]
    plain = "time (RFC 3339)" if field.get("format") == "date-time" else str(field.get("type", "any JSON"))
    return " or ".join(options) or plain


if __name__ == "__main__":
    sys.stdout.write(reference_page())
