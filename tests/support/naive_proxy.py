"""The obvious streaming proxy, as an ASGI application over httpx: ``python naive_proxy.py UPSTREAM PORT BUGS``.

BUGS is any of ``half`` (a client that leaves has finished its upload) and ``both`` (headers are copied as they came).
Under uvicorn's h11 both were measured to be what a straightforward proxy does.
"""

from __future__ import annotations

import sys

import httpx
import uvicorn

upstream, port, bugs = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
client = httpx.AsyncClient(timeout=None, trust_env=False)


class ClientLeftError(Exception):
    """The upload must not be completed."""


async def app(scope, receive, send):
    if scope["type"] != "http":
        return

    async def body():
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                if "half" in bugs:
                    return
                raise ClientLeftError
            yield message["body"]
            if not message.get("more_body"):
                return

    headers = scope["headers"]
    names = {name for name, _ in headers}
    closing = []
    if "both" not in bugs and names >= {b"transfer-encoding", b"content-length"}:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        closing = [(b"connection", b"close")]
    content = body() if names & {b"content-length", b"transfer-encoding"} else None
    url = upstream + scope["raw_path"].decode()
    try:
        async with client.stream(scope["method"], url, headers=headers, content=content) as answer:
            headers = answer.headers.raw + closing
            await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
            async for data in answer.aiter_raw():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
    except ClientLeftError:
        return


uvicorn.run(app, host="127.0.0.1", port=port, http="h11", lifespan="off", log_level="error", access_log=False)
