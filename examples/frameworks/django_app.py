"""A Django application whose requests say whose the calls of seams are, and of which run; by WSGI.

python django_app.py

By ASGI it is the same with ``crossfade.adapters.asgi`` around ``get_asgi_application()``.
"""

import httpx
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.urls import path
from served import served

from crossfade import shim
from crossfade.adapters.wsgi import CorrelationMiddleware


@shim.tool("library.greet", effects="none", stage="bus")
def greet(word: str) -> str:
    """Run at the worker, which knows whose call it is."""
    here = shim.current_correlation()
    return f"{word} to {here.user} in {here.run}" if here else word


def greet_by_http(_request: HttpRequest, word: str) -> HttpResponse:
    """A view that says nothing of users or runs."""
    return HttpResponse(greet(word))


urlpatterns = [path("greet/<str:word>", greet_by_http)]

settings.configure(ALLOWED_HOSTS=["app.example"], ROOT_URLCONF=__name__)
application = CorrelationMiddleware(get_wsgi_application(), user="header:X-User", trusted=["127.0.0.1"])


def main() -> None:
    """Ask the application as a proxy on this machine would."""
    headers = {"X-User": "alice", "X-Correlation-Id": "run-1"}
    with httpx.Client(transport=httpx.WSGITransport(application), base_url="http://app.example") as client:
        answer = client.get("/greet/hello", headers=headers)
        print(answer.text, answer.headers["X-Correlation-Id"])


if __name__ == "__main__":
    with served("django_app"):
        main()
