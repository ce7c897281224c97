"""What a decorated function looks like: every question that code asks a function gets the plain one's answer."""

from __future__ import annotations

import asyncio
import inspect
import typing

import pytest

from transparency import bench, kinds

PREDICATES = [
    inspect.isfunction,
    inspect.ismethod,
    inspect.isroutine,
    inspect.isgeneratorfunction,
    inspect.iscoroutinefunction,
    inspect.isasyncgenfunction,
    inspect.isawaitable,
    inspect.isclass,
    inspect.isbuiltin,
    inspect.ismethoddescriptor,
    inspect.isdatadescriptor,
    asyncio.iscoroutinefunction,
    callable,
]


@pytest.fixture(params=bench.KINDS)
def twins(request):
    """The decorated call site, and the same one plain."""
    return bench.twins(request.param)


def test_the_signature_is_the_functions(stage, twins):
    """inspect.signature: names, kinds, defaults, annotations; ``self`` and ``cls`` gone where they are bound."""
    ours, plain = map(inspect.signature, twins)
    assert ours == plain
    assert str(ours) == str(plain)


def test_the_hints_are_the_functions(stage, twins):
    """typing.get_type_hints resolves in the function's own module; a partial has none, decorated or not."""

    def hints(function):
        try:
            return typing.get_type_hints(function, include_extras=True)
        except TypeError as error:
            return str(error).partition("functools")[0]

    ours, plain = map(hints, twins)
    assert ours == plain


def test_names_and_documentation_are_the_functions(stage, twins):
    """What logs, tracebacks and tool descriptions print; only the twin's module has another name."""
    for attribute in ("__name__", "__qualname__", "__doc__", "__defaults__", "__kwdefaults__", "__annotations__"):
        ours, plain = (getattr(function, attribute, None) for function in twins)
        assert ours == plain, attribute
    ours, plain = (getattr(function, "__module__", None) for function in twins)
    assert plain in (None, "functools") or (ours, plain) == (kinds.__name__, f"{kinds.__name__}_plain")


def test_predicates_answer_alike(stage, twins):
    """Every predicate of inspect, and asyncio's own."""
    ours, plain = twins
    assert {ask.__name__: ask(ours) for ask in PREDICATES} == {ask.__name__: ask(plain) for ask in PREDICATES}


def test_the_source_is_found(stage, twins):
    """inspect.getsource and getfile show the user's code, decorator line included."""
    ours, plain = (inspect.unwrap(getattr(function, "func", function)) for function in twins)
    assert inspect.getsource(ours) == inspect.getsource(plain)
    assert inspect.getsourcefile(ours) == kinds.__file__


def test_calls_give_what_the_plain_function_gives(stage, request, twins):
    """Values by position and by keyword; on the bus a method runs on what ``bind`` makes."""
    ours, plain = twins
    if stage == "bus" and "method" in request.node.name and hasattr(plain, "__self__"):
        plain = plain.__func__.__get__(type(plain.__self__)()) if not isinstance(plain.__self__, type) else plain
    if stage == "bus" and "method of a class" in request.node.name:
        plain = kinds.PLAIN.Service().method
    assert bench.outcome(ours, 3) == bench.outcome(plain, 3)
    assert bench.outcome(ours, x=3, times=1) == bench.outcome(plain, x=3, times=1)


def test_wrong_calls_raise_pythons_own_error(stage, twins):
    """The same TypeError, text included, at every stage."""
    ours, plain = twins
    for args, kwargs in [((), {}), ((1, 2, 3), {}), ((1,), {"z": 1})]:
        with pytest.raises(TypeError) as expected:
            bench.outcome(plain, *args, **kwargs)
        with pytest.raises(TypeError) as caught:
            bench.outcome(ours, *args, **kwargs)
        assert str(caught.value) == str(expected.value)


def test_properties_stack(stage):
    """``@property`` over a seam is an attribute with the function's documentation."""
    size = inspect.getattr_static(kinds.Service, "size")
    assert isinstance(size, property)
    assert size.__doc__ == "The base, as an attribute."
    assert kinds.Service(3).size == (10 if stage == "bus" else 3)


def test_abstract_methods_stay_abstract(stage):
    """A class that does not override a decorated abstract method cannot be instantiated."""
    assert kinds.Abstract.__abstractmethods__ == {"method"}
    with pytest.raises(TypeError, match="abstract"):
        kinds.Abstract()


def test_a_bound_method_is_bound(stage):
    """Equal and of one hash for one instance, as plain bound methods; ``__self__`` and ``__func__`` are there."""
    one, other = kinds.Service(), kinds.Service()
    assert one.method == one.method
    assert hash(one.method) == hash(one.method)
    assert one.method != other.method
    assert one.method.__self__ is one
    assert one.method.__func__ is kinds.Service.__dict__["method"].__wrapped__


def test_an_attribute_set_on_it_is_read_from_it(stage):
    """Frameworks mark functions; the mark is seen on the decorated one and on the function below."""
    kinds.plain.mark = 1
    try:
        assert (kinds.plain.mark, kinds.plain.__wrapped__.mark) == (1, 1)
    finally:
        del kinds.plain.mark
