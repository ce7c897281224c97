"""A Django project of three views, which say whose request they answer."""

from __future__ import annotations

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse, StreamingHttpResponse
from django.urls import path

from support.correlations import here


def told_by(protocol: str):
    """The project as an application of ``asgi`` or ``wsgi``."""
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="-", LOGGING_CONFIG=None)
        django.setup()
    return {"asgi": get_asgi_application, "wsgi": get_wsgi_application}[protocol]()


def plain(_request):
    return JsonResponse(here())


async def coroutine(_request):
    return JsonResponse(here())


def stream(_request):
    return StreamingHttpResponse(here()["run"] + "\n" for _ in range(3))


async def astream(_request):
    async def parts():
        for _ in range(3):
            yield here()["run"] + "\n"

    return StreamingHttpResponse(parts())


urlpatterns = [path("plain", plain), path("async", coroutine), path("stream", stream), path("astream", astream)]
