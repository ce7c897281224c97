"""``/_crossfade/tasks/{id}``: monitor, result, cancel and progress of a task, for whoever created it and nobody else.

Another user's task and one that never was give the same answer.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Path, Request, Response
from pydantic import BaseModel, Field
from starlette.routing import Route

from crossfade.shim.claims import Nonces
from crossfade.shim.domains import command_type
from crossfade.shim.errors import CallMissingError, CrossfadeError
from crossfade.shim.http import is_streamed, recorded
from crossfade.shim.projection import ENDED

from .calls import (
    Principal,
    Status,
    Task,
    cancel,
    find_task,
    is_older_than_kept,
    result_of,
)
from .following import Following, Item
from .problems import READS, ProblemError, of_error, problem, problems
from .stream import HEARTBEAT, RefusedError, Streams, read_head, resume_of, send_events

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from crossfade.shim.outcomes import Answer

    from .tokens import StreamToken

POLL: Final = 2
"""Seconds after which a client that polls should look again; one that listens need not."""

PREFIX: Final = "/_crossfade/tasks"

TaskId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{1,64}$", description="as the submitted call's handle gives it")]


class TaskView(BaseModel):
    """A task for its owner."""

    id: str
    seam: str
    status: Status
    reason: str = Field(description="the error's type, or why it did not run")
    created: str
    deadline: str | None
    error: dict[str, Any] | None = Field(default=None, description="a problem (RFC 9457), when it failed")


class Cancelled(BaseModel):
    """What became of a cancel."""

    id: str
    status: Literal["cancelled", "asked"] = Field(
        description="cancelled: it had not started and never will; asked: it runs, and was told"
    )


class Tasks:
    """The tasks of one control process."""

    def __init__(self, streams: Streams, *, instance: str) -> None:
        self._streams = streams
        self._bus = streams.hub.bus
        self._subjects = streams.hub.subjects
        self._instance = instance
        self._nonces = Nonces()

    async def find(self, request: Request, task: TaskId) -> Task:
        """The caller's own task; the dependency of every route here."""
        token = self.authenticate(request.scope)
        return await self.find_for(token, task)

    def authenticate(self, scope: Any) -> StreamToken:
        """Who asks, by the token of their stream."""
        try:
            return self._streams.authenticate(*read_head(scope))
        except RefusedError as error:
            raise ProblemError(401, str(error), headers={"WWW-Authenticate": "Bearer"}) from error

    async def find_for(self, token: StreamToken, callid: str) -> Task:
        """The task, if it is the token's owner's."""
        asks = Principal(user=token.user, tenant=token.tenant)
        try:
            return await find_task(self._bus, self._subjects, callid, asks=asks)
        except CallMissingError as error:
            if is_older_than_kept(callid, now=self._bus.now()):
                raise ProblemError(410, "what is known of a task is kept for 24 hours") from error
            raise

    async def again(self, task: Task) -> Task:
        """The task as it stands now."""
        return await find_task(self._bus, self._subjects, task.id)

    async def cancel(self, task: Task) -> bool:
        """See ``calls.cancel``."""
        return await cancel(self._bus, self._subjects, task, instance=self._instance, nonces=self._nonces)

    # -- routes --------------------------------------------------------------------------------------------------

    def router(self) -> APIRouter:
        """Its routes."""
        router = APIRouter(prefix=PREFIX, tags=["tasks"], responses=problems(401, 404, 410, 422, 500, *READS))
        found = Depends(self.find)

        async def monitor(request: Request, task: Task = found) -> Response:
            """How a task stands. It ends in a redirect to its result, or in a status that says why there is none."""
            return _monitor(request, task)

        async def result(task: Task = found) -> Response:
            """What a completed task returned, as JSON; of a request, what it was answered, status and fields too."""
            return await self._result(task)

        async def give_up(task: Task = found) -> Response:
            """Cancel a task."""
            won = await self.cancel(task)
            body = Cancelled(id=task.id, status="cancelled" if won else "asked")
            return _json(body, 200 if won else 202)

        responses: Mapping[int | str, dict[str, Any]] = {
            200: {"model": TaskView},
            303: {"description": "it completed: the result is at Location"},
            304: {"description": "as it was"},
        }
        router.get("/{task}", responses={**responses}, response_class=Response)(monitor)
        router.get("/{task}/result", responses={200: {"description": "JSON"}}, response_class=Response)(result)
        cancelled: dict[int | str, dict[str, Any]] = {200: {"model": Cancelled}, 202: {"model": Cancelled}}
        router.delete("/{task}", responses=cancelled, response_class=Response)(give_up)
        router.routes.append(Route(f"{PREFIX}/{{task}}/events", _Events(self, self._streams)))
        return router

    async def _result(self, task: Task) -> Response:
        if not task.over:
            raise ProblemError(
                409, "it has not ended yet", headers={"Retry-After": str(POLL)}, status_of_task=task.status
            )
        if task.status != "completed":
            raise ProblemError(
                409, f"it ended as {task.status!r}: {task.reason or 'no reason was given'}", taskid=task.id
            )
        answer = await result_of(self._bus, task)
        if task.command.event.type == command_type("http"):
            return _response(answer)
        value = json.loads(answer.value)["value"]
        return Response(json.dumps(value, ensure_ascii=False), media_type="application/json", headers=_PRIVATE)


class _Events:
    """``GET /_crossfade/tasks/{id}/events``: progress from the start, or from ``Last-Event-ID``, to the end."""

    def __init__(self, tasks: Tasks, streams: Streams) -> None:
        self._tasks = tasks
        self._streams = streams

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers, query = read_head(scope)
        try:
            token = self._tasks.authenticate(scope)
            task = await self._tasks.find_for(token, scope["path_params"]["task"])
            with self._streams.waiting(token) as waiter:
                following = Following(self._streams.hub, waiter, only=task.id)
                resume = resume_of(headers, query)
                if resume is not None and task.over and await self._nothing_left(following, resume):
                    await Response(status_code=204)(scope, receive, send)  # an EventSource stops at this
                    return
                first = following.begin(resume) if resume else following.from_start(self._run_of(task))
                batches = self._until_over(self._streams.pump(following, waiter, token, first=first), task, following)
                await send_events(
                    receive,
                    send,
                    waiter=waiter,
                    batches=batches,
                    headers=self._streams.head(headers),
                    limits=self._streams.limits,
                )
        except RefusedError as error:
            await self._streams.refuse(error, headers)(scope, receive, send)
        except ProblemError as error:
            await problem(error.status_code, error.detail, headers=error.headers)(scope, receive, send)
        except CrossfadeError as error:
            await of_error(error)(scope, receive, send)

    def _run_of(self, task: Task) -> str:
        subjects = self._streams.hub.subjects
        return subjects.ui_run(task.run, tenant=task.owner.tenant, user=task.owner.user)

    @staticmethod
    async def _nothing_left(following: Following, resume: str) -> bool:
        """Whether a browser that comes back to a task that is over has seen its end."""
        words = following.begin(resume)
        left = [*words, *await following.next()]
        return all(item.kind == "crossfade.ready" for item in left)

    async def _until_over(
        self, batches: AsyncGenerator[list[Item]], task: Task, following: Following
    ) -> AsyncGenerator[list[Item]]:
        """Up to the task's end. The event of it may be lost, the ledger is not: it is asked at each sign of life."""
        over = task.over
        async for items in batches:
            end = next((at for at, item in enumerate(items) if item.kind == ENDED), None)
            if end is not None:
                yield items[: end + 1]
                return
            yield items
            if items and items[-1].kind == HEARTBEAT:
                task = await self._tasks.again(task)
                over = task.over
            if over and not following.behind:
                yield [await self._end(task, following)]
                return

    async def _end(self, task: Task, following: Following) -> Item:
        said = {"specversion": "1.0", "type": ENDED, "callid": task.id, "seam": task.seam}
        data = {**said, "data": {"outcome": _OUTCOMES[task.status], "reason": task.reason}}
        return Item(id=following.id, kind=ENDED, data=json.dumps(data).encode(), callid=task.id)


def _monitor(request: Request, task: Task) -> Response:
    view = TaskView(
        id=task.id,
        seam=task.seam,
        status=task.status,
        reason=task.reason,
        created=task.created.isoformat(),
        deadline=task.deadline.isoformat() if task.deadline else None,
        error=_problem_of(task) if task.status == "failed" else None,
    )
    text = view.model_dump_json()
    headers = {**_PRIVATE, "ETag": f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'}
    if task.status == "completed":
        headers["Location"] = f"{PREFIX}/{task.id}/result"
        return Response(text, 303, headers, "application/json")
    if not task.over:
        headers["Retry-After"] = str(POLL)
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    return Response(text, 200, headers, "application/json")


def _problem_of(task: Task) -> dict[str, Any]:
    """What failed, by the error's type: its text may hold what the handler worked on."""
    return {"type": "about:blank", "title": "The task failed", "status": 500, "detail": task.reason, "taskid": task.id}


def _response(answer: Answer) -> Response:
    """What a request was answered, as recorded. What it says to an origin is not said by ours: see ``_NOT_OURS``."""
    if is_streamed(answer):
        raise ProblemError(409, "its answer was a stream: its pieces were told while it ran, and are not kept")
    found = recorded(answer)
    response = Response(found.content if found.status not in _BODYLESS else None, found.status)
    kept = [(name, value) for name, value in found.headers if name.lower() not in _NOT_OURS]
    given = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in kept]
    lengths = [pair for pair in response.raw_headers if pair[0] == b"content-length"]
    response.raw_headers = [*given, *lengths, *_CONFINED]
    return response


def _json(body: BaseModel, status: int) -> Response:
    return Response(body.model_dump_json(), status, _PRIVATE, "application/json")


_PRIVATE: Final = {"Cache-Control": "no-store"}
_BODYLESS: Final = frozenset({204, 304})
# Fields of one hop, and those by which a service speaks for its whole origin, which here may be the control plane's.
_NOT_OURS: Final = frozenset(
    {"connection", "content-length", "keep-alive", "trailer", "transfer-encoding", "upgrade", "via", "date", "server"}
    | {"cache-control", "expires", "content-security-policy", "x-content-type-options", "set-cookie"}
    | {"clear-site-data", "service-worker-allowed", "strict-transport-security"}
)
# A service's page must not act as one of ours: it may be shown, and runs nothing.
_CONFINED: Final = [
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"sandbox"),
    (b"x-content-type-options", b"nosniff"),
]
_OUTCOMES: Final[dict[Status, str]] = {
    "completed": "value",
    "failed": "error",
    "cancelled": "cancelled",
    "not-executed": "not-executed",
    "unknown": "unknown",
}
