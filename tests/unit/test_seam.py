"""Declaring seams: what may be one, what happens to two of a name, and what the registry knows."""

from __future__ import annotations

import functools
import threading
from importlib.metadata import version

import pytest

from crossfade.shim import decorators
from crossfade.shim.decorators import comparator, tool
from crossfade.shim.errors import ConfigurationError, SeamDefinitionError, UnknownSeamError
from crossfade.shim.policy import Policy
from crossfade.shim.seam import Handler, Registry, Seam


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """A registry of the test's own."""
    fresh = Registry()
    monkeypatch.setattr(decorators, "registry", fresh)
    return fresh


def declare(name="web.search", body=None, **options):
    def search(q: str) -> str:
        return q

    return tool(name, **options)(body or search)


def test_the_options_are_the_start_of_the_policy(registry):
    """As declared."""
    declare(effects="none", stage="observe", timeout=5, fallback="raise")
    policy = registry.get("web.search").policy
    assert policy == Policy(effects="none", stage="observe", timeout=5, fallback="raise")


@pytest.mark.parametrize("name", ["Web", "web-search", "", ".", "web..search", "web.", "x" * 200, "wéb"])
def test_a_bad_name_is_refused_where_it_stands(name):
    """At decoration, with what a name looks like."""
    with pytest.raises(SeamDefinitionError, match="lower-case words"):
        declare(name)


@pytest.mark.parametrize("options", [{"effects": "no"}, {"timeout": 0}, {"fallback": ""}, {"stage": "warp"}])
def test_an_option_out_of_range_is_refused_where_it_stands(options):
    """At decoration, before any call."""
    with pytest.raises(ConfigurationError):
        declare(**options)


class Callable:
    def __call__(self): ...

    def method(self): ...


@pytest.mark.parametrize(
    "body",
    [
        Callable,
        Callable(),
        Callable().method,
        len,
        functools.partial(print),
        property(len),
        None,
    ],
    ids=["class", "instance", "bound method", "builtin", "partial", "property", "nothing"],
)
def test_what_cannot_be_a_seam_is_refused_by_name(body):
    """Classes, bound methods, builtins, partials, descriptors."""
    with pytest.raises(SeamDefinitionError, match=r"web\.search"):
        tool("web.search")(body)


def test_decorating_twice_is_refused():
    """A seam in a seam would divert twice."""
    with pytest.raises(SeamDefinitionError, match="seam already"):
        tool("web.again")(declare())


def test_two_bodies_of_one_name_are_refused_with_both_places(registry):
    """The second one names the first."""
    declare()

    def other(): ...

    with pytest.raises(SeamDefinitionError) as caught:
        declare(body=other)
    assert str(caught.value).count("test_seam.py:") == 2
    assert registry.get("web.search").function is not other


def test_the_same_function_again_replaces_itself_and_goes_legacy(registry):
    """A reloaded module; what still holds the old function calls its body."""
    first = declare().__crossfade_seam__
    first.route = object()
    second = declare().__crossfade_seam__
    assert registry.all() == [second]
    assert first.route is None


def test_an_unknown_seam_is_refused_with_those_there_are(registry):
    """A typing error is seen at once."""
    with pytest.raises(UnknownSeamError, match="none"):
        registry.get("web.serach")
    declare()
    with pytest.raises(UnknownSeamError, match=r"web\.search"):
        registry.get("web.serach")


def test_the_registry_tells_of_each_new_seam(registry):
    """Whoever connects first hears of those declared later."""
    heard = []
    registry.on_declare = heard.append
    declare()
    assert [seam.name for seam in heard] == ["web.search"]


def test_seams_are_declared_from_many_threads(registry):
    """None is lost."""

    def declare_some(start):
        for n in range(50):
            registry.add(Seam(f"s{start}.n{n}", len, domain="tool", policy=Policy(), secret=frozenset()))

    threads = [threading.Thread(target=declare_some, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(registry.all()) == 400


def test_a_signature_without_json_form_fails_once_and_stays_failed(monkeypatch):
    """The codec is not built again for every call, and its error does not grow."""
    from crossfade.shim import payloads

    built = []

    def codec(*_, **__):
        built.append(1)
        raise SeamDefinitionError("no JSON form")

    monkeypatch.setattr(payloads, "SignatureCodec", codec)
    seam = declare().__crossfade_seam__
    lengths = []
    for _ in range(3):
        with pytest.raises(SeamDefinitionError) as caught:
            _ = seam.codec
        lengths.append(len(caught.traceback))
    assert built == [1]
    assert lengths[1] == lengths[2]


def test_a_seam_says_what_and_where_it_is():
    """For logs and people."""
    seam = declare().__crossfade_seam__
    assert repr(seam).startswith("<Seam web.search (tool) at ")
    assert seam.place.rpartition(":")[0] == __file__
    assert Seam("a.b", len, domain="tool", policy=Policy(), secret=frozenset()).place == "<no source>"


def test_a_handler_says_which_one_it_is():
    """Evidence of two handlers of one seam must not be taken for one's: module, name and, installed, its version."""

    def mine(x: int) -> int:
        return x

    def foreign(x: int) -> int:
        return x

    foreign.__module__ = "pydantic.main"
    made = [
        Handler("identity.seam", function, domain="tool", secret=frozenset()).identity for function in (mine, foreign)
    ]
    assert made[0] == f"{__name__}:{mine.__qualname__}"
    assert made[1] == f"pydantic.main:{foreign.__qualname__}@{version('pydantic')}"


def test_a_second_comparator_of_a_seam_is_refused(registry):
    """Two could contradict each other; the same one, imported again, replaces itself."""

    def one(old, new):
        return True

    def other(old, new):
        return False

    assert comparator("web.judged")(one) is one
    comparator("web.judged")(one)
    with pytest.raises(SeamDefinitionError, match=r"the comparator of 'web\.judged' is declared twice: at .*test_seam"):
        comparator("web.judged")(other)
    with pytest.raises(SeamDefinitionError, match="decorate a function, not 5"):
        comparator("web.other")(5)
    assert registry.comparator("web.judged") is one
    assert registry.comparator("web.other") is None
