"""The next version of `POST /reports`, a handler without the frontend. Its bug: it asks for a field nobody sends."""

from crossfade.shim.http import HttpRequest, HttpResponse, http_handler


@http_handler("http.reports")
async def order(request: HttpRequest) -> HttpResponse:
    """See ``services.frontend``."""
    body = request.read_json()
    return HttpResponse.json({"ordered": body["topic"], "by": body["author"]}, status=201)
