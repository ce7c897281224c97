"""A FastAPI application whose requests say whose the calls of seams are, and of which run. Starlette is the same.

python fastapi_app.py

To serve it: ``uvicorn fastapi_app:app``, after ``shim.connect()`` in its lifespan.
"""

import asyncio

import httpx
from fastapi import FastAPI
from served import served

from crossfade import shim
from crossfade.adapters.asgi import CorrelationMiddleware


@shim.tool("library.greet", effects="none", stage="bus")
def greet(word: str) -> str:
    """Run at the worker, which knows whose call it is."""
    here = shim.current_correlation()
    return f"{word} to {here.user} in {here.run}" if here else word


app = FastAPI()
app.add_middleware(CorrelationMiddleware, user="header:X-User", trusted=["127.0.0.1"])


@app.get("/greet/{word}")
def greet_by_http(word: str) -> str:
    """A view that says nothing of users or runs."""
    return greet(word)


async def run() -> None:
    """Ask the application as a proxy on this machine would."""
    headers = {"X-User": "alice", "X-Correlation-Id": "run-1"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app.example") as client:
        answer = await client.get("/greet/hello", headers=headers)
        print(answer.json(), answer.headers["X-Correlation-Id"])


def main() -> None:
    """See ``run``."""
    asyncio.run(run())


if __name__ == "__main__":
    with served("fastapi_app"):
        main()
