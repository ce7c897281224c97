from __future__ import annotations

from types import SimpleNamespace

import pytest

from crossfade.proxy.framing import Refusal
from crossfade.proxy.requests import Requests


def over(status=200, outcome="whole", path="legacy", seam="http.read"):
    return SimpleNamespace(seam=seam, path=path, status=status, outcome=outcome, started=10.0)


@pytest.mark.parametrize(
    ("exchange", "counted"),
    [
        (over(), "http.read legacy 2xx"),
        (over(503, path="bus"), "http.read bus 5xx"),
        (over(outcome="left"), "http.read legacy 4xx"),
        (over(0, outcome="cut"), "http.read legacy none"),
        (over(999), "http.read legacy none"),
    ],
)
def test_every_end_has_a_class(exchange, counted):
    """A client that left is 499 as in the access log; what has no status, or one that is none, is told apart."""
    requests = Requests()
    requests.exchange(exchange, 10.5)

    assert requests.counts() == {counted: 1}


def test_each_is_in_one_bucket_and_a_tunnel_in_none():
    """A bound is inclusive, as Prometheus' ``le``; what is beyond all is +Inf; a path without requests is not there."""
    requests = Requests()
    for seconds in (0.5, 0.501, 3600):
        requests.exchange(over(), 10.0 + seconds)
    requests.exchange(over(101), 1e6)

    (found,) = requests.seconds().values()
    assert {bound: n for bound, n in found.items() if n} == {
        "0.5": 1,
        "1.0": 1,
        "+Inf": 1,
        "sum": pytest.approx(3601.001),
    }
    assert requests.counts() == {"http.read legacy 2xx": 3, "http.read legacy 1xx": 1}


def test_what_never_became_an_exchange_is_counted():
    """A refusal has no route, and no time to tell."""
    requests = Requests()
    requests.refusal(None, Refusal("header-timeout", 408, "late"))

    assert (requests.counts(), requests.seconds()) == ({"- local 4xx": 1}, {})
