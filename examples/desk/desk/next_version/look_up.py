"""The next version of `GET /search`, a handler without the frontend. Its bug: it shows one passage too few."""

import asyncio
from urllib.parse import parse_qs

from crossfade.shim.http import HttpRequest, HttpResponse, http_handler
from desk import tools
from desk.services import page


@http_handler("http.search")
async def look_up(request: HttpRequest) -> HttpResponse:
    """See ``services.frontend``."""
    query = parse_qs(request.query)["q"][0]
    found = await asyncio.to_thread(tools.hits, query, 20)
    return HttpResponse(headers=[("Content-Type", "text/html; charset=utf-8")], text=page.hits(query, found[:-1]))
