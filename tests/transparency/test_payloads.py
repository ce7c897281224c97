"""Arguments and results: what crosses arrives equal and of the same type; what cannot is named and changes nothing."""

from __future__ import annotations

import contextvars
import enum
import io
import math
import threading
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, Optional
from uuid import UUID

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict  # pydantic's own requirement below Python 3.12

from crossfade.shim import RemoteError, UnserialisableError, correlate, current_correlation, tool
from crossfade.shim.errors import EventTooLargeError
from crossfade.shim.payloads import SignatureCodec
from support.commands import until


class Colour(enum.Enum):
    RED = "red"
    BLUE = 2


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Options(TypedDict, total=False):
    limit: int
    until: date


@dataclass
class Point:
    x: Decimal
    when: datetime
    tags: frozenset[str]


class Model(pydantic.BaseModel):
    name: str
    points: dict[str, Point]
    colour: Colour | None = None


class Base(pydantic.BaseModel):
    a: int


class Derived(Base):
    b: int = 2


@dataclass
class DerivedPoint(Point):
    z: int = 0


texts = st.text(st.characters(exclude_categories=["Cs"]))
zones = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
moments = st.datetimes(timezones=zones)
points = st.builds(Point, st.decimals(allow_nan=False, allow_infinity=False), moments, st.frozensets(texts))
HASHABLE: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers(-(2**64), 2**64)),
    (str, texts),
    (bool, st.booleans()),
    (bytes, st.binary()),
    (UUID, st.uuids()),
    (date, st.dates()),
    (datetime, moments),
    (timedelta, st.timedeltas(timedelta(days=-9999), timedelta(days=9999))),
    (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 3], st.sampled_from(["a", 3])),
]
KEYS = [pair for pair in HASHABLE if pair[0] in (str, int, UUID, date, datetime, Decimal, bytes)]  # JSON's are texts
LEAVES = [
    *HASHABLE,
    (float, st.floats()),
    (Options, st.fixed_dictionaries({}, optional={"limit": st.integers(), "until": st.dates()})),
    (Point, points),
    (Model, st.builds(Model, name=texts, points=st.dictionaries(texts, points), colour=st.sampled_from(Colour))),
]


def nested(inner):
    """A container of ``(hint, values)`` pairs."""
    return st.one_of(
        inner.map(lambda one: (list[one[0]], st.lists(one[1], max_size=3))),
        inner.map(lambda one: (dict[str, one[0]], st.dictionaries(texts, one[1], max_size=3))),
        inner.map(lambda one: (Optional[one[0]], st.none() | one[1])),  # noqa: UP045 - built at run time
        inner.map(lambda one: (tuple[one[0], ...], st.lists(one[1], max_size=3).map(tuple))),
        st.tuples(inner, inner).map(lambda two: (tuple[two[0][0], two[1][0]], st.tuples(two[0][1], two[1][1]))),
        st.sampled_from(HASHABLE).map(lambda one: (set[one[0]], st.sets(one[1], max_size=3))),
        st.sampled_from(KEYS).map(lambda one: (dict[one[0], int], st.dictionaries(one[1], st.integers()))),
    )


HINTS = st.recursive(st.sampled_from(LEAVES), nested, max_leaves=4)


def same(left, right):
    """Equal and of the same type all the way down; NaN is NaN."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float) and math.isnan(left):
        return math.isnan(right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@settings(max_examples=200)
@given(st.data())
def test_nested_types_arrive_as_they_went(data):
    """decode(encode(x)) is x, type by type, as an argument and as a result, however the types are nested."""
    hint, values = data.draw(HINTS, label="type")
    value = data.draw(values, label="value")

    def body(x): ...

    body.__annotations__ = {"x": hint, "return": hint}
    codec = SignatureCodec(body)
    bound = codec.bind((value,), {})
    encoded = codec.encode(bound)
    codec.verify(bound, encoded)
    arrived, _ = codec.decode_command(b'{"arguments":' + encoded + b"}")
    assert same(codec.bound(arrived).arguments["x"], value)
    assert same(codec.decode_result(codec.encode_result(value)), value)


def test_a_key_that_would_come_back_as_text_is_refused_by_name():
    """JSON's keys are texts: a member of an enum whose value is a number cannot be told from its digits."""

    def body(x: dict[Colour, int]) -> None: ...

    codec = SignatureCodec(body)
    bound = codec.bind(({Colour.BLUE: 1},), {})
    with pytest.raises(UnserialisableError, match=r"^x\."):
        codec.verify(bound, codec.encode(bound))


# -- over the bus ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (Any, object(), "x"),
        (Any, threading.Lock(), "x"),
        (Any, io.StringIO("text"), "x"),
        (Any, lambda: 0, "x"),
        (Any, (1, 2), "tuple"),
        (Any, {1, 2}, "set"),
        (Any, {1: 2}, "dict"),
        (Any, Decimal(1), "Decimal"),
        (int, True, "bool"),
        (int, Level.LOW, "Level"),
        (str, Level.LOW, "expected str"),
        (Base, Derived(a=1), "Derived"),
        (Point, DerivedPoint(Decimal(1), datetime.now(UTC), frozenset()), "DerivedPoint"),
        (list[Base], [Derived(a=1)], "list"),
    ],
    ids=lambda value: str(value)[:18],
)
def test_what_cannot_cross_stays_legacy_and_is_named(on_bus, counts, caplog, hint, value, says):  # noqa: PLR0917
    """Unserialisable, changed by JSON, or an instance of a subclass: the body gets the very object, one warning."""

    def echo(x):
        return x

    echo.__annotations__ = {"x": hint, "return": Any}
    echo = tool("payloads.echo", effects="none", fallback="raise", timeout=10)(echo)
    on_bus(echo)
    assert echo(value) is value
    assert echo(value) is value
    assert counts.get("skipped", seam="payloads.echo", reason="unserialisable") == 2
    (warning,) = [record.getMessage() for record in caplog.records if "payloads.echo" in record.getMessage()]
    assert "x: " in warning
    assert says in warning


@pytest.mark.parametrize("stage", ["observe", "shadow", "bus"])
def test_a_generator_inside_an_argument_is_the_bodys_to_read(on_bus, counts, stage):
    """Observed or on the bus, pydantic must not have read it before the body does."""

    @tool("payloads.reads", effects="none", fallback="raise", timeout=10)
    def reads(batches: list[list[int]]) -> int:
        return sum(map(sum, batches))

    on_bus(reads, stage=stage)
    assert reads([(n for n in (1, 2)), [3]]) == 6
    assert counts.get("skipped", seam="payloads.reads", reason="unserialisable") >= 1


def test_what_would_arrive_changed_is_not_shadowed(on_bus, counts):
    """A worker that ran another call than legacy did would prove nothing."""

    @tool("payloads.changed", effects="none", timeout=10)
    def changed(x: Any) -> str:
        return str(type(x))

    on_bus(changed, stage="shadow")
    assert changed((1, 2)) == str(tuple)
    until(lambda: counts.get("skipped", seam="payloads.changed", reason="unserialisable") >= 1)


@pytest.mark.parametrize(
    "value", [object(), (1, 2), Derived(a=1), {1: 2}, (n for n in "x")], ids=lambda value: type(value).__name__
)
def test_a_result_that_cannot_cross_is_an_error_and_never_not_executed(on_bus, counts, value):
    """It ran: the caller is told so by name, the body does not run again, and the worker lives."""
    ran = []

    @tool("payloads.result", effects="none", timeout=10)
    def result(x: int) -> Any:
        ran.append(x)
        return x or value

    on_bus(result)
    with pytest.raises((RemoteError, UnserialisableError), match="return"):
        result(0)
    assert ran == [0]
    assert counts.get("fallback") == 0
    assert result(1) == 1


def test_a_large_result_crosses(on_bus):
    """Two MiB, by claim check."""

    @tool("payloads.large", effects="none", fallback="raise", timeout=10)
    def large(n: int) -> str:
        return "x" * n

    on_bus(large)
    assert len(large(2 << 20)) == 2 << 20


def test_a_result_too_large_for_the_broker_crosses_by_claim_check(on_bus, prefix):
    """A broker that accepts less than usual."""
    from crossfade.adapters import memory

    @tool("payloads.small", effects="none", fallback="raise", timeout=10)
    def small(n: int) -> str:
        return "x" * n

    on_bus(small)
    memory.broker(prefix).max_event_bytes = 8 * 1024
    assert len(small(100_000)) == 100_000


@pytest.mark.parametrize("size", [100_000, 1_000_000])
def test_a_result_no_broker_takes_is_an_error_and_never_not_executed(on_bus, counts, prefix, monkeypatch, size):
    """In no form small enough: the call ran, ends at once as an error that says so, and does not run again."""
    from crossfade.adapters import memory

    ran = []

    @tool("payloads.toolarge", effects="none", timeout=10)
    def toolarge(n: int) -> str:
        ran.append(n)
        return "x" * n

    async def refuse(data):
        raise EventTooLargeError(size=len(data), limit=8 * 1024)

    connection = on_bus(toolarge)
    memory.broker(prefix).max_event_bytes = 8 * 1024
    monkeypatch.setattr(connection.runtime.bus, "put_object", refuse)
    with pytest.raises(RemoteError, match="the call ran, and its result cannot be sent"):
        toolarge(size)
    assert ran == [size]
    assert (counts.get("fallback"), counts.get("result-too-large")) == (0, 1)
    assert toolarge(10) == "x" * 10


def test_context_variables_stay_and_the_correlation_crosses(on_bus):
    """A handler sees its caller's run, user and tenant, none of its variables; what it sets stays there, too."""
    variable = contextvars.ContextVar("variable", default="unset")

    @tool("payloads.context", effects="none", fallback="raise", timeout=10)
    def looks() -> dict[str, str | None]:
        here = current_correlation()
        seen = variable.get()
        variable.set("by the handler")
        return {"variable": seen, "run": here.run, "user": here.user, "tenant": here.tenant}

    def main():
        variable.set("by the caller")
        with correlate(run="r1", user="ann", tenant="acme"):
            return looks(), variable.get()

    expected = {"run": "r1", "user": "ann", "tenant": "acme"}
    assert contextvars.copy_context().run(main)[0]["variable"] == "by the caller"  # never connected
    on_bus(looks)
    assert contextvars.copy_context().run(main) == ({"variable": "unset", **expected}, "by the caller")


def test_a_validated_function_can_be_a_seam(on_bus):
    """pydantic's validate_call below a seam: the body validates what arrives."""

    @tool("payloads.validated", effects="none", fallback="raise", timeout=10)
    @pydantic.validate_call
    def below(x: int) -> int:
        return x + 1

    on_bus(below)
    assert below(1) == 2
