"""The control plane as ASGI applications: ``public_app`` holds the two paths the world may reach, ``create_app`` all.

What the proxy forwards from outside is exactly what ``public_app`` answers: it has no other routes, so no header,
encoding or dot segment leads from there to the API.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Request, Response, Security
from fastapi.security import APIKeyCookie, HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from crossfade.shim.buses import hide_credentials
from crossfade.shim.hooks import counters
from crossfade.shim.policies import Policies
from crossfade.shim.redaction import Redactor
from crossfade.shim.standing import standings

from . import calls, metrics, seams
from .auth import COOKIE, CSRF_HEADER, SESSION, Caller, Gatekeeper, needs
from .gate import HEALTH, Entrance, Gate, authorise
from .hub import Hub
from .problems import ALWAYS, BODY, READS, WRITES, document_of, install, problems
from .revocations import Revocations
from .stream import Streams
from .tasks import Tasks, TaskView
from .tokens import LONGEST

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from crossfade.shim.config import Config
    from crossfade.shim.ports import Bus
    from crossfade.shim.subjects import Subjects

    from .auth import Credentials
    from .settings import ControlSettings
    from .tokens import Keyring

STREAM: Final = "/_crossfade/stream"
PUBLIC: Final = "/_crossfade/"

# The gate has asked for them already: these tell the document.
_BEARER: Final = HTTPBearer(
    auto_error=False, scheme_name="credential", description="`crossfade control access` makes one"
)
_SESSION: Final = APIKeyCookie(
    name=COOKIE,
    auto_error=False,
    scheme_name="session",
    description=f"what POST /api/v1/session sets; changes need its CSRF token, too, in {CSRF_HEADER}",
)
_PROMETHEUS: Final[dict[int | str, dict[str, Any]]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}}


class Control:
    """Everything a control process consists of, over a bus that is open. ``running`` starts and stops it."""

    def __init__(
        self,
        *,
        bus: Bus,
        url: str,
        config: Config,
        subjects: Subjects,
        credentials: Credentials,
        keyring: Keyring,
        settings: ControlSettings,
        instance: str,
    ) -> None:
        self.bus = bus
        self.url = url
        self.config = config
        self.subjects = subjects
        self.keyring = keyring
        self.settings = settings
        self.redactor = Redactor.from_environment()
        self.policies = Policies(bus, subjects)
        self.gatekeeper = Gatekeeper(credentials, keyring)
        self.hub = Hub(bus, subjects, self.redactor.value)
        self.revocations = Revocations(bus, lambda token: self.hub.close("revoked", token=token))
        self.streams = Streams(self.hub, keyring, self.revocations, limits=settings.limits, origins=settings.origins)
        self.tasks = Tasks(self.streams, instance=instance)

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Read the bus for streams while the block runs."""
        helpers = [asyncio.create_task(work) for work in (self.hub.run(), self.revocations.run())]
        try:
            yield
        finally:
            self.hub.close("stopping")
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)


def create_app(
    control: Control,
    *,
    routers: Sequence[APIRouter] = (),
    entrance: Entrance | None = None,
    check: seams.Check | None = None,
) -> Any:
    """The whole control plane; ``routers`` of other parts are as protected as ours, ``entrance`` is for everybody.

    ``check`` is asked before a seam is changed.
    """
    api = FastAPI(
        title="crossfade control",
        version=version("crossfade"),
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        dependencies=[Depends(authorise), Security(_BEARER), Security(_SESSION)],
        responses=problems(*ALWAYS),
        lifespan=lambda _app: control.running(),
    )
    install(api)
    for router in (
        _operations(control),
        _documents(api),
        seams.router(control.policies, control.bus, check),
        _tasks(control),
        _tokens(control),
        _sessions(control),
        *routers,
    ):
        api.include_router(router)
    api.routes.append(_health_route())
    gate = Gate(api, gatekeeper=control.gatekeeper, settings=control.settings, entrance=entrance)
    return _Split(gate, public_app(control))


def public_app(control: Control) -> Any:
    """Streams and tasks, for whoever shows a stream's token, and nothing else."""
    tasks = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    install(tasks)
    tasks.include_router(control.tasks.router())
    return _Public(control.streams, tasks)


@dataclass(frozen=True, slots=True)
class _Split:
    """Public paths to one application, everything else to the other, by the raw path as it came."""

    api: Any
    public: Any

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        is_public = scope["type"] != "lifespan" and scope["path"].startswith(PUBLIC)
        await (self.public if is_public else self.api)(scope, receive, send)


@dataclass(frozen=True, slots=True)
class _Public:
    streams: Streams
    tasks: Any

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "lifespan" and scope["path"] == STREAM:
            await self.streams(scope, receive, send)
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            await self.tasks(scope, receive, send)


# -- health, metrics, configuration ------------------------------------------------------------------------------


class Ready(BaseModel):
    """Whether it can serve."""

    ready: bool
    bus: bool = Field(description="the bus can be reached")
    streams: bool = Field(description="streams can be opened")


class ConfigView(BaseModel):
    """What this process runs with; secrets are hidden."""

    version: str
    bus: str
    prefix: str
    listen: str
    tls: bool
    client_certificates: bool
    plain_because: str
    hosts: list[str]
    origins: list[str]
    limits: dict[str, float]
    seams: dict[str, Any]


def _health_route() -> Any:
    """``/healthz``: it answers, and says nothing else; the only thing that needs no credential."""
    router = APIRouter()

    async def health() -> Response:
        return Response(b'{"status":"ok"}', media_type="application/json")

    router.add_api_route(HEALTH, health, methods=["GET"], include_in_schema=False)
    return router.routes[0]


def _operations(control: Control) -> APIRouter:
    router = APIRouter(tags=["operations"])

    @router.get("/readyz", responses={503: {"model": Ready}})
    async def ready(response: Response) -> Ready:
        """Whether the bus can be reached and streams can be opened: 200, else 503."""
        bus, streams = control.bus.connected, control.hub.ready.is_set()
        response.status_code = 200 if bus and streams else 503
        return Ready(ready=bus and streams, bus=bus, streams=streams)

    @router.get("/metrics", response_class=Response, responses=_PROMETHEUS | problems(*READS))
    async def show_metrics() -> Response:
        """Prometheus' text format."""
        found = await standings(control.policies, control.bus) if control.bus.connected else []
        text = metrics.page(counters.snapshot(), found, control.hub, connected=control.bus.connected)
        return Response(text, media_type=metrics.MEDIA_TYPE)

    @router.get("/api/v1/config")
    async def show_config() -> ConfigView:
        """The configuration in force, secrets hidden."""
        return _config(control)

    return router


def _config(control: Control) -> ConfigView:
    settings = control.settings
    return ConfigView(
        version=version("crossfade"),
        bus=hide_credentials(control.url),
        prefix=control.subjects.prefix,
        listen=settings.url(settings.port),
        tls=settings.tls,
        client_certificates=settings.client_ca is not None,
        plain_because=settings.plain_because,
        hosts=sorted(settings.hosts),
        origins=sorted(settings.origins),
        limits={
            "heartbeat": settings.limits.heartbeat,
            "send_timeout": settings.limits.send_timeout,
            "streams": settings.limits.streams,
            "per_user": settings.limits.per_user,
        },
        seams=control.redactor.value({name: dict(each) for name, each in control.config.seams.items()}),
    )


# -- documents ---------------------------------------------------------------------------------------------------


def _documents(api: FastAPI) -> APIRouter:
    router = APIRouter(include_in_schema=False)

    @router.get("/openapi.json")
    async def openapi() -> dict[str, Any]:
        return document_of(api)

    @router.get("/docs", response_class=Response)
    async def docs() -> Response:
        return Response(_page(document_of(api)), media_type="text/html; charset=utf-8")

    return router


def _page(document: dict[str, Any]) -> str:
    """The operations as a plain page: no script, nothing from elsewhere."""
    rows = [
        f"<tr><td><code>{escape(method.upper())}</code></td><td><code>{escape(path)}</code></td>"
        f"<td>{escape(operation.get('description') or operation.get('summary', ''))}</td></tr>"
        for path, operations in sorted(document["paths"].items())
        for method, operation in operations.items()
    ]
    title = escape(document["info"]["title"])
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><h1>{title}</h1>'
        '<p>The machine-readable description is <a href="/openapi.json">/openapi.json</a> (OpenAPI 3.1).</p>'
        f"<table><tr><th>method</th><th>path</th><th>what it does</th></tr>{''.join(rows)}</table></html>"
    )


# -- tasks -------------------------------------------------------------------------------------------------------


class ListedTask(TaskView):
    """A task for operators."""

    user: str
    tenant: str
    run: str


class TaskList(BaseModel):
    """Newest first."""

    tasks: list[ListedTask]
    more: bool = Field(description="there are more than are shown, or than were looked at")


def _tasks(control: Control) -> APIRouter:
    router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"])

    @router.get("", responses=problems(422, *READS))
    async def list_tasks(
        limit: Annotated[int, Query(ge=1, le=500)] = 50,
        within: Annotated[float, Query(ge=1, le=86_400, description="seconds back")] = 3600,
    ) -> TaskList:
        """Submitted calls of everybody, newest first."""
        since = control.bus.now() - timedelta(seconds=within)
        tasks, more = await calls.list_tasks(control.bus, control.subjects, since=since, limit=limit)
        return TaskList(tasks=[_listed(task) for task in tasks], more=more)

    return router


def _listed(task: calls.Task) -> ListedTask:
    return ListedTask(
        id=task.id,
        seam=task.seam,
        status=task.status,
        reason=task.reason,
        created=task.created.isoformat(),
        deadline=task.deadline.isoformat() if task.deadline else None,
        user=task.owner.user,
        tenant=task.owner.tenant,
        run=task.run,
    )


# -- tokens and sessions -----------------------------------------------------------------------------------------


class TokenWish(BaseModel):
    """Whose stream, and for how long."""

    model_config = ConfigDict(extra="forbid")

    user: str = Field(min_length=1, max_length=1024)
    tenant: str = Field(default="", max_length=1024)
    ttl: float = Field(default=3600, ge=1, le=LONGEST.total_seconds(), description="seconds")


class MintedToken(BaseModel):
    """Shown once. ``id`` is what revoking it takes."""

    token: str
    id: str
    expires: str


def _tokens(control: Control) -> APIRouter:
    router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"])

    @router.post("", status_code=201, responses=problems(*BODY))
    async def mint(wish: TokenWish) -> MintedToken:
        """A token for one user's stream and tasks."""
        text = control.keyring.mint(user=wish.user, tenant=wish.tenant, ttl=timedelta(seconds=wish.ttl))
        read = control.keyring.read(text)
        return MintedToken(token=text, id=read.id, expires=read.expires.isoformat())

    @router.delete("/{token}", status_code=204, responses=problems(422, *WRITES))
    async def revoke(token: Annotated[str, Path(pattern=r"^[0-9a-f]{16}$")]) -> None:
        """Take a token back: streams opened with it end within moments, in every control process."""
        await control.revocations.revoke(token)

    return router


class Session(BaseModel):
    """Who is logged in. ``csrf`` goes into the header x-crossfade-csrf of every change made by cookie."""

    name: str
    role: str
    csrf: str


def _sessions(control: Control) -> APIRouter:
    router = APIRouter(prefix="/api/v1/session", tags=["session"])

    @router.post("", status_code=201)
    @needs("view")
    async def log_in(request: Request, response: Response) -> Session:
        """Trade a credential for a browser's session."""
        caller: Caller = request.scope["crossfade.caller"]
        cookie, csrf = control.gatekeeper.open_session(caller)
        response.set_cookie(
            COOKIE,
            cookie,
            max_age=int(SESSION.total_seconds()),
            httponly=True,
            samesite="strict",
            secure=control.settings.tls,
        )
        return Session(name=caller.name, role=caller.role, csrf=csrf)

    @router.get("")
    async def who(request: Request) -> Session:
        """Who asks, and a session's CSRF token."""
        caller: Caller = request.scope["crossfade.caller"]
        return Session(name=caller.name, role=caller.role, csrf=caller.csrf)

    @router.delete("", status_code=204)
    @needs("view")
    async def log_out(request: Request, response: Response) -> None:
        """Forget the session in this browser, and end the streams that it has open here."""
        caller: Caller = request.scope["crossfade.caller"]
        if caller.csrf:
            control.hub.close("logged-out", token=caller.csrf)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=control.settings.tls)

    return router
