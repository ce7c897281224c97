"""Requests of httpx clients, sync and async, as calls of a seam: a handler answers where the service would.

python httpx_client.py
"""

import asyncio

import httpx
from served import served

from crossfade.adapters.httpx import AsyncSeamTransport, SeamTransport, route
from crossfade.shim.http import HttpRequest, HttpResponse, http_handler

ROUTES = [route("weather.by_city", "GET weather.example/v1/{city}", stage="bus")]


@http_handler("weather.by_city")
async def weather(request: HttpRequest) -> HttpResponse:
    """Tell the weather of the city in the path."""
    city = request.path.rpartition("/")[2]
    if city == "atlantis":
        return HttpResponse.json({"detail": "no such city"}, status=404)
    return HttpResponse.json({"city": city, "sky": "clear"})


def ask(city: str) -> httpx.Response:
    """As generated clients and SDKs do, which take a client or a transport."""
    with httpx.Client(transport=SeamTransport(ROUTES), base_url="http://weather.example/v1") as client:
        return client.get(city)


async def aask(city: str) -> httpx.Response:
    """The same by the async client."""
    async with httpx.AsyncClient(transport=AsyncSeamTransport(ROUTES), base_url="http://weather.example/v1") as client:
        return await client.get(city)


def main() -> None:
    """Two cities, and one that is not there."""
    for answer in (ask("oslo"), asyncio.run(aask("rome")), ask("atlantis")):
        print(answer.status_code, answer.json())


if __name__ == "__main__":
    with served("httpx_client"):
        main()
