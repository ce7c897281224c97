"""Workflows are refused where they are written, by errors that name what was meant."""

from __future__ import annotations

from datetime import timedelta

import pytest

from crossfade.shim.errors import ConfigurationError, SeamDefinitionError, WorkflowDefinitionError
from crossfade.workflows.definition import Definition, Pattern, Step, fits, pick
from unit.workflows.flows import event, flow


def test_an_unknown_step_names_the_nearest_one():
    """A misspelt parameter is an error at its own line."""
    orders = flow()

    @orders.tool("pay")
    def payment(event):
        return {}

    with pytest.raises(
        WorkflowDefinitionError, match="'ship' needs 'paymnt', which is no step: did you mean 'payment'"
    ):

        @orders.tool("ship")
        def ship(paymnt):
            return {}


def test_a_name_like_no_other_is_answered_with_all():
    """Where nothing is near, the error lists what there is."""
    orders = flow()

    with pytest.raises(WorkflowDefinitionError, match="there are event, instance"):
        orders.tool("ship", needs=["zzz"])(lambda_named("ship"))


def lambda_named(name):
    def step():
        return {}

    step.__name__ = name
    return step


def step(name, *needs, join="all"):
    return Step(name=name, kind="show", make=lambda: None, needs=needs, join=join)


def definition(*steps):
    return Definition(
        name="orders",
        version=1,
        trigger=Pattern(type="order.placed", key="run"),
        steps={found.name: found for found in steps},
    )


def test_steps_that_wait_for_one_another_are_refused():
    """A cycle can never begin, nor what needs it."""
    with pytest.raises(WorkflowDefinitionError, match="a, b, c can never begin"):
        definition(step("a", "b"), step("b", "a"), step("c", "b"))


def test_a_cycle_with_another_way_in_is_fine():
    """``join="any"`` may close a circle: the first way in is enough."""
    assert definition(step("start"), step("a", "start", "b", join="any"), step("b", "a"))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: flow("Bad Name").definition, "is no seam name"),
        (lambda: flow(on="Email Received"), "is no type of event"),
        (lambda: flow(on="workflow.completed"), "would hear itself"),
        (lambda: flow(key="dta.order"), "use 'data'"),
        (lambda: flow(key="data"), "say what of the data"),
        (lambda: flow(version=0).definition, "version: must be 1 or more"),
        (lambda: flow().definition, "has no step"),
        (lambda: flow().tool("x", timeout=0), "more than 0"),
        (lambda: flow().tool("x", timeout=timedelta(days=2)), "at most 80000"),
        (lambda: flow().tool("x", attempts=0), "say 1 to 100"),
        (lambda: flow().tool("x", effects="maybe"), "is not one of"),
        (lambda: flow().tool("Not A Seam")(lambda_named("a")), "is no seam name"),
        (lambda: flow().tool("x", join="some"), "neither 'all' nor 'any'"),
        (lambda: flow().tool("x", needs="pay"), r"say \['pay'\]"),
        (lambda: flow().tool("x")(lambda_named("event")), "cannot name a step"),
        (lambda: flow().tool("x")(lambda a: {}), "cannot name a step"),
        (lambda: flow().emit("workflow.failed")(lambda_named("a")), "a type of our own"),
        (lambda: flow().undo("pay", tool="x"), "'pay', which is no step"),
        (lambda: flow().approval(timeout=-1)(lambda_named("a")), "more than 0"),
    ],
)
def test_what_cannot_run_is_refused_with_a_remedy(make, said):
    """Each mistake is a ConfigurationError that says what is wrong."""
    with pytest.raises((ConfigurationError, SeamDefinitionError), match=said):
        make()


def test_two_of_one_name_and_version_are_refused():
    """A second version must say that it is one."""
    from crossfade.workflows import Workflow

    flow()
    with pytest.raises(WorkflowDefinitionError, match="raise the version"):
        Workflow("orders", on="order.placed")
    assert Workflow("orders", on="order.placed", version=2)


def test_a_star_is_no_step():
    """``*args`` would need steps that nobody names."""
    orders = flow()
    with pytest.raises(WorkflowDefinitionError, match="name a step"):

        @orders.tool("x")
        def ship(*steps):
            return {}


def test_nothing_is_added_once_it_runs():
    """An instance of this version must not meet another topology."""
    orders = flow()
    orders.show()(lambda_named("a"))
    assert orders.definition
    with pytest.raises(WorkflowDefinitionError, match="is in use"):
        orders.show()


def test_a_pattern_matches_paths_and_alternatives():
    """A path reaches into the data; of a list of values one is enough, and a list in the event need only contain it."""
    found = event(data={"order": {"id": 7, "tags": ["a", "b"]}, "to": "desk"})

    assert pick(found, "data.order.id") == 7
    assert pick(found, "data.order.missing.deeper") is None
    assert fits(found, {"data.to": ["desk", "office"], "type": "order.placed", "data.order.tags": "a"})
    assert fits(found, {"data.order.tags": ["a", "b"]})
    assert fits(found, {"data.order.tags": ["x", "b"]})
    assert not fits(found, {"data.order.tags": ["x"]})
    assert not fits(found, {"data.to": "office"})
