"""Copies of a decorated function: what pickles, copies or spawns does so as the plain one would."""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import multiprocessing
import pickle  # noqa: TID251 - what an app's process pools do
import weakref

import pytest

from transparency import bench, kinds


@pytest.fixture(params=bench.KINDS)
def twins(request):
    """The decorated call site, and the same one plain."""
    return bench.twins(request.param)


def same_call(left, right):
    """Whether both call the same function on an equal instance."""
    if isinstance(left, functools.partial):
        return type(right) is functools.partial and same_call(left.func, right.func) and left.keywords == right.keywords
    return (left.__module__, left.__qualname__) == (right.__module__, right.__qualname__)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_by_name(stage, twins, protocol):
    """What comes back is the same call site, which still is a seam; the plain one's answer is the measure."""
    ours, plain = twins
    assert same_call(pickle.loads(pickle.dumps(plain, protocol)), plain)
    again = pickle.loads(pickle.dumps(ours, protocol))
    assert same_call(again, ours)
    assert type(again) is type(ours)


def test_copied_as_the_plain_one_is(stage, twins):
    """copy and deepcopy give the same object exactly where they do so for the plain one."""
    ours, plain = twins
    for make in (copy.copy, copy.deepcopy):
        assert (make(ours) is ours) == (make(plain) is plain) or hasattr(plain, "__self__")
        assert same_call(make(ours), ours)
    assert same_call(copy.deepcopy({"tools": [ours]})["tools"][0], ours)


def test_a_deep_copy_of_a_bound_method_is_bound_to_a_copy(stage):
    """As with plain methods: the copied agent's tools work on the copied agent."""
    for module in (kinds, kinds.PLAIN):
        service = module.Service(1)
        twin = copy.deepcopy(service.method)
        assert twin.__self__ is not service
        assert twin.__self__.base == 1
        assert copy.copy(service.method).__self__ is service


def test_hashable_comparable_and_weakly_referable(stage, twins):
    """Registries key by function, caches hold it weakly."""
    for function in twins:
        assert {function: 1}[function] == 1
        assert function == function  # noqa: PLR0124 - wrapt compares what is wrapped
        assert weakref.ref(function)() is function


def test_a_spawned_pool_runs_it(stage):
    """The child imports the module and calls the function there: it was never connected, so the body answers."""
    functions = [kinds.plain, kinds.Service(1).method, kinds.Service.class_inside, functools.partial(kinds.plain, 5)]
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        given = [pool.submit(function, *args) for function, args in zip(functions, [(3,), (3,), (1,), ()], strict=True)]
        assert [one.result(30) for one in given] == [6, 7, "ServiceService", 10]
