"""``/dashboard``: pages, and the news that keep them live. Reading only; what people do goes through the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self

from fastapi import APIRouter, Path, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from crossfade.migrations.retirements import Retirements
from crossfade.migrations.traces.index import Selection
from crossfade.proxy.control.seams import SeamName  # noqa: TC001 - FastAPI reads the annotation
from crossfade.proxy.control.stream import RefusedError, read_head, send_events
from crossfade.shim.errors import BusError, UnknownSeamError

from . import pages
from .history import History
from .runs import Runs
from .sides import Recorded
from .watching import Watch

if TYPE_CHECKING:
    from crossfade.proxy.control.app import Control
    from crossfade.proxy.control.auth import Caller

AnyText = Annotated[str, Query(min_length=1, max_length=1024)]
RunId = Annotated[str, Path(min_length=1, max_length=1024)]
Hours = Annotated[int, Query(ge=0, le=24 * 366)]
Part = Annotated[str, Query(max_length=256)]


def router(control: Control) -> APIRouter:
    """The pages over this control plane's bus; they are for browsers, so the API's document says nothing of them."""
    made = APIRouter(prefix=pages.ROOT, include_in_schema=False)
    watch = Watch(control.bus, control.subjects, control.policies)
    retirements = Retirements(control.bus, control.subjects, control.policies)
    recorded = Recorded(control.bus, control.subjects, control.redactor.value)
    history = History(control.bus, control.subjects, control.redactor.value)

    @made.get("")
    async def show_overview(request: Request) -> Response:
        async with _page(request) as page:
            page.text = pages.overview_page(await watch.look(fresh=True), page.caller)
        return page.response()

    @made.get("/seams/{seam}")
    async def show_seam(seam: SeamName, request: Request) -> Response:
        async with _page(request) as page:
            look = await watch.look(fresh=True)
            view = next((view for view in look.overview.seams if view.progress.seam == seam), None)
            if view is None:
                page.missing(f"No playbook moves {seam}", "Put one in force with: crossfade migrate apply FILE")
            else:
                kinds, moves = await history.mismatches(seam), await history.moves(seam)
                page.text = pages.seam_page(look, page.caller, view, kinds=kinds, moves=moves)
        return page.response()

    @made.get("/seams/{seam}/mismatch")
    async def show_mismatch(seam: SeamName, call: AnyText, request: Request) -> Response:
        async with _page(request) as page:
            found = [
                (kind, sample)
                for kind in await history.mismatches(seam)
                for sample in kind.samples
                if sample.get("callid") == call
            ]
            if found:
                kind, sample = found[0]
                at, differing = datetime.fromisoformat(sample["at"]), sample["differences"]
                sides = await recorded.find(seam, call, at=at, differing=differing)
                page.text = pages.mismatch_page(await watch.look(), page.caller, seam, kind, sample, sides=sides)
            else:
                page.missing(
                    "This mismatch is kept no more", "The five newest of each kind are, for an hour or longer."
                )
        return page.response()

    @made.get("/seams/{seam}/retire")
    async def show_retire(seam: SeamName, request: Request, hours: Hours = 168) -> Response:
        async with _page(request) as page:
            try:
                seen = await retirements.look(seam, timedelta(hours=hours))
                page.text = pages.retire_page(await watch.look(), page.caller, seen, period=hours)
            except UnknownSeamError as error:
                page.missing(f"No process has declared {seam}", str(error))
        return page.response()

    @made.get("/news")
    async def hear_news() -> Response:
        return _News(control, watch)

    _add_runs(made, watch, Runs(control.bus, control.subjects))
    return made


def _add_runs(made: APIRouter, watch: Watch, runs: Runs) -> None:
    @made.get("/runs")
    async def show_runs(request: Request, run: Part = "", user: Part = "", seam: Part = "") -> Response:
        wanted = Selection(run=run.strip() or None, user=user.strip() or None, seam=seam.strip() or None)
        async with _page(request) as page:
            page.text = pages.runs_page(await watch.look(), page.caller, await runs.newest(wanted), wanted)
        return page.response()

    @made.get("/runs/{run:path}")
    async def show_run(run: RunId, request: Request) -> Response:
        async with _page(request) as page:
            found = await runs.find(run)
            if found is None:
                page.missing("No call of this run is known", f"For older ones: crossfade traces show {run}")
            else:
                page.text = pages.run_page(await watch.look(), page.caller, found)
        return page.response()


def front() -> APIRouter:
    """``/``, where people begin."""
    made = APIRouter(include_in_schema=False)

    @made.get("/")
    async def begin() -> Response:
        return RedirectResponse(pages.ROOT, 303)

    return made


@dataclass(slots=True)
class _Page:
    """A page in the making; a bus that is away makes it one that says so."""

    caller: Caller
    text: str = ""
    status: int = 200

    def missing(self, title: str, text: str) -> None:
        self.text, self.status = pages.message_page(self.caller, title=title, text=text), 404

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, BusError):
            return False
        text = f"{error} This page tries again by itself."
        self.text, self.status = pages.message_page(self.caller, title="The bus cannot be reached", text=text), 503
        return True

    def response(self) -> Response:
        return HTMLResponse(self.text, self.status)


def _page(request: Request) -> _Page:
    return _Page(request.scope["crossfade.caller"])


class _News(Response):
    """Server-Sent Events until the browser leaves, the process stops, or it is time to come back."""

    def __init__(self, control: Control, watch: Watch) -> None:
        super().__init__()
        self._control = control
        self._watch = watch

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        streams, (headers, _) = self._control.streams, read_head(scope)
        caller: Caller = scope["crossfade.caller"]
        try:
            # No user of a stream has an empty tenant token: these places are apart from theirs.
            with streams.place(("", caller.name), token=caller.csrf) as waiter:
                await send_events(
                    receive,
                    send,
                    waiter=waiter,
                    batches=self._watch.news(waiter),
                    headers=streams.head(headers),
                    limits=streams.limits,
                )
        except RefusedError as error:
            await streams.refuse(error, headers)(scope, receive, send)
