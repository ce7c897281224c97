"""The proxy that one writes in a quarter of an hour: FastAPI in front, one httpx client behind, bodies streamed."""

from __future__ import annotations

import importlib
import os
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

fastapi: Any = importlib.import_module("fastapi")
httpx: Any = importlib.import_module("httpx")
background: Any = importlib.import_module("starlette.background")
responses: Any = importlib.import_module("starlette.responses")
proxying: Any = importlib.import_module("proxying")
SETTING = "uvicorn with uvloop and httptools, 1 process"

_HOP = frozenset({"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"})


def opened(_runner: object, asked: dict[str, Any]) -> Any:
    """In front of 127.0.0.1:upstream."""
    os.environ["BENCH_UPSTREAM"] = f"http://127.0.0.1:{asked['upstream']}"
    where = ["--host", "127.0.0.1", "--port", str(asked["port"]), "--no-use-colors", "--no-server-header"]
    folder = Path(__file__).parent
    return proxying.running(["uvicorn", "with_fastapi:app", *where], asked, folder=folder)


@asynccontextmanager
async def _with_client(app: Any) -> AsyncGenerator[None]:
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=os.environ["BENCH_UPSTREAM"], limits=limits, timeout=60) as client:
        app.state.client = client
        yield


app: Any = fastapi.FastAPI(lifespan=_with_client)


async def _forward(request: Any) -> Any:
    headers = [(name, value) for name, value in request.headers.raw if name.decode() not in _HOP]
    headers += [
        (b"x-forwarded-for", request.client.host.encode()),
        (b"x-forwarded-proto", request.url.scheme.encode()),
        (b"x-forwarded-host", request.headers["host"].encode()),
        (b"via", b"1.1 bench"),
    ]
    client = request.app.state.client
    url = httpx.URL(path=request.url.path, query=request.url.query.encode())
    content = request.stream() if {"content-length", "transfer-encoding"} & set(request.headers) else None
    asked = client.build_request(request.method, url, headers=headers, content=content)
    answer = await client.send(asked, stream=True)
    response = responses.StreamingResponse(
        answer.aiter_raw(), status_code=answer.status_code, background=background.BackgroundTask(answer.aclose)
    )
    response.raw_headers = [(n.lower(), v) for n, v in answer.headers.raw if n.lower().decode() not in _HOP]
    response.raw_headers.append((b"via", b"1.1 bench"))
    return response


app.add_route("/{path:path}", _forward, methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
