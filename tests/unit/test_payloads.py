"""Arguments and results cross as JSON: equal and of the same type, or refused by name. Nothing is used up."""

from __future__ import annotations

import contextlib
import inspect
import io
import math
import re
from collections import Counter, OrderedDict, deque
from collections.abc import Collection, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, Flag, IntEnum, StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, Optional, TypeVar
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import pytest
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field, SecretStr, model_validator
from pydantic_core import to_json
from typing_extensions import TypedDict

from crossfade.shim.errors import SeamDefinitionError, UnserialisableError
from crossfade.shim.payloads import SignatureCodec

T = TypeVar("T")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Hit:
    title: str
    score: float
    at: datetime
    tags: tuple[str, ...] = ()


class Level(IntEnum):
    LOW = 1
    HIGH = 2


class Mood(StrEnum):
    GOOD = "good"


class Right(Flag):
    READ = 1
    WRITE = 2


class Span(NamedTuple):
    start: int
    end: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Slotted:
    key: bytes
    seen: frozenset[int] = frozenset()


@dataclass
class Loose:
    inside: Any = None


UserId = NewType("UserId", int)


class Page(BaseModel):
    hits: list[dict[str, int]]
    next: Page | None = None


class Box(BaseModel, Generic[T]):
    inside: T


class Options(TypedDict, total=False):
    limit: int
    deep: bool


class Patch(BaseModel):
    name: str | None = None
    age: int | None = None


class Message(BaseModel):
    id: UUID = Field(default_factory=uuid4)
    text: str = ""


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"


class Credentials(BaseModel):
    token: SecretStr


class Touchy(BaseModel):
    a: int

    @model_validator(mode="after")
    def never_two(self):
        if self.a == 2:
            raise KeyError("not by ValueError")
        return self


def taking(hint, result=Any):
    def body(x, y=None): ...

    body.__annotations__ = {"x": hint, "y": Any, "return": result}
    return SignatureCodec(body)


def sent(codec, *args, **kwargs):
    """The arguments after a journey that must not change them."""
    encoded = codec.encode_faithfully(codec.bind(args, kwargs))
    values, _ = codec.decode_command(b'{"arguments":' + encoded + b"}")
    return codec.bound(values)


moments = st.datetimes(timezones=st.just(UTC))
TYPED = {
    "int": (int, st.integers(-(10**4000), 10**4000)),
    "float": (float, st.floats()),
    "bool": (bool, st.booleans()),
    "str": (str, st.text(st.characters(exclude_categories=["Cs"]))),
    "bytes": (bytes, st.binary()),
    "none": (None, st.none()),
    "datetime": (datetime, moments),
    "date": (date, st.dates()),
    "time": (time, st.times()),
    "timedelta": (timedelta, st.timedeltas(timedelta(days=-9999), timedelta(days=9999))),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "uuid": (UUID, st.uuids()),
    "path": (Path, st.text("abc/.", min_size=1).map(Path)),
    "enum": (Colour, st.sampled_from(Colour)),
    "literal": (Literal["a", 3], st.sampled_from(["a", 3])),
    "optional": (int | None, st.none() | st.integers()),
    "union": (int | str, st.integers() | st.text(st.characters(exclude_categories=["Cs"]))),
    "old optional": (Optional["int"], st.none() | st.integers()),
    "list": (list[float], st.lists(st.floats())),
    "tuple": (tuple[int, str], st.tuples(st.integers(), st.text(st.characters(exclude_categories=["Cs"])))),
    "set": (set[int], st.sets(st.integers())),
    "frozenset": (frozenset[int], st.frozensets(st.integers())),
    "dict": (dict[int, bytes], st.dictionaries(st.integers(), st.binary())),
    "sequence": (Sequence[int], st.lists(st.integers())),
    "mapping": (Mapping[str, int], st.dictionaries(st.text("abc"), st.integers())),
    "typeddict": (Options, st.fixed_dictionaries({}, optional={"limit": st.integers(), "deep": st.booleans()})),
    "dataclass": (
        Hit,
        st.builds(Hit, st.text("abc"), st.floats(allow_nan=False), moments, st.lists(st.text("xy")).map(tuple)),
    ),
    "model": (Page, st.builds(Page, hits=st.lists(st.dictionaries(st.text("abc"), st.integers())), next=st.none())),
    "forward reference": (Page, st.builds(lambda: Page(hits=[], next=Page(hits=[{"a": 1}])))),
    "named tuple": (Span, st.builds(Span, st.integers(), st.floats())),
    "dataclass with slots": (Slotted, st.builds(Slotted, key=st.binary(), seen=st.frozensets(st.integers()))),
    "integer enum": (Level, st.sampled_from(Level)),
    "text enum": (Mood, st.sampled_from(Mood)),
    "flag": (Right, st.sampled_from([*Right, Right.READ | Right.WRITE])),
    "new type": (UserId, st.integers().map(UserId)),
    "annotated": (Annotated[int, "any"], st.integers()),
    "ordered": (OrderedDict[str, int], st.dictionaries(st.text("abc"), st.integers()).map(OrderedDict)),
    "counter": (Counter[str], st.dictionaries(st.text("abc"), st.integers()).map(Counter)),
    "deque": (deque[int], st.lists(st.integers()).map(deque)),
    "iterable": (Iterable[int], st.lists(st.integers())),
    "collection": (Collection[bytes], st.lists(st.binary())),
    "optional iterable": (Iterable[int] | None, st.none() | st.lists(st.integers())),
    "patch": (
        Patch,
        st.fixed_dictionaries({}, optional={"name": st.none() | st.text("ab"), "age": st.integers()}).map(
            Patch.model_validate
        ),
    ),
    "generic": (Box[datetime], moments.map(lambda moment: Box[datetime](inside=moment))),
}
anything_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    max_leaves=20,
)


def same(left, right):
    return type(left) is type(right) and (left == right or repr(left) == repr(right))


@pytest.mark.parametrize("name", TYPED)
@settings(max_examples=30)
@given(data=st.data())
def test_a_value_of_a_declared_type_arrives_equal_and_of_the_same_type_or_is_refused(name, data):
    """decode(encode(x)) is x for every type; a value that would change is refused by name, never altered."""
    hint, values = TYPED[name]
    codec = taking(hint, hint)
    value = data.draw(values)
    arrived = sent(codec, value).arguments["x"]
    returned = codec.decode_result(codec.encode_result(value))
    assert same(arrived, value)
    assert same(returned, value)


VALUES: list[Any] = [
    *(None, True, 1, 2, 1.0, 1.5, math.inf, "1", "a", "nan", "2026-01-02", b"a", b"\xff"),
    *((1,), [1], {1}, frozenset({1}), {1: 1}, {"a": 1}, {"a": (1,)}, [True], {True}, {Level.LOW: 1}, [(1,)], [1.0]),
    *(Decimal("1.0"), UUID(int=1), str(UUID(int=1)), date(2026, 1, 2), timedelta(1), time(1, tzinfo=UTC)),
    *(
        datetime(2026, 1, 2),  # noqa: DTZ001
        datetime(2026, 1, 2, tzinfo=UTC),
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    ),
    datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Zurich")),
    *(Colour.RED, Level.LOW, Mood.GOOD, Right.READ, Span(1), Span(True), UserId(1)),
    *(Loose(1), Loose(True), Loose((1,)), Loose(Level.LOW), Slotted(key=b"\xff"), Hit("t", 1.0, datetime.now(UTC))),
    *(Patch(), Patch(name=None), Patch(age=1), Patch.model_construct(age=True), Box[int](inside=1), Box(inside=1)),
    *(Box[Any](inside=(1,)), Cat(), Dog(), deque([1]), deque([1], 3), OrderedDict(a=1), Counter("a"), range(2)),
]
SIMPLE: list[Any] = [
    *(Any, object, None, bool, int, float, str, bytes, Decimal, UUID, date, datetime, timedelta, time, Path),
    *(list, tuple, set, frozenset, dict, Sequence[int], Sequence[Any], Iterable[int], Mapping[str, int], Mapping),
    *(
        list[int],
        list[Any],
        tuple[int, ...],
        set[int],
        set[bool | int],
        dict[str, int],
        dict[int, int],
        dict[Level, int],
    ),
    *(Colour, Level, Mood, Right, Span, UserId, Literal[1, "1"], Literal[True, 1], deque[int], Counter[str]),
    *(Loose, Slotted, Hit, Patch, Box, Box[int], Box[Any], Cat, Dog, OrderedDict[str, int]),
]


def identical(arrived, sent):
    """Told by other means than those of the code under test: what each says of itself, and what it is made of."""
    if type(arrived) is float and type(sent) is int:
        return arrived == sent
    parts = [
        [getattr(value, name) for name in getattr(value, "__dataclass_fields__", None) or type(value).model_fields]
        if hasattr(value, "__dataclass_fields__") or isinstance(value, BaseModel)
        else list(value)
        if isinstance(value, list | tuple | set | frozenset | deque)
        else [part for pair in value.items() for part in pair]
        if isinstance(value, dict)
        else []
        for value in (arrived, sent)
    ]
    told = [
        (type(value), getattr(value, "maxlen", None), getattr(value, "model_fields_set", None), seasons(value))
        for value in (arrived, sent)
    ]
    inside = len(parts[0]) == len(parts[1]) and all(map(identical, *parts))
    return told[0] == told[1] and inside and (bool(parts[0]) or str(arrived) == str(sent))


def seasons(value):
    """What a moment's clock shows half a year later."""
    moment = isinstance(value, datetime) and value.tzinfo is not None
    return str(value + timedelta(days=180)) if moment else None


def with_all_fields_set(value):
    """``value`` as it arrives where a default must travel."""
    return value.model_copy(update=dict(value)) if isinstance(value, BaseModel) else value


def needs_its_defaults(codec, value):
    """Whether a model without its unset fields would arrive as something else: another member of a union."""
    short = to_json({"arguments": {"x": value.model_dump(mode="json", exclude_unset=True)}})
    return not identical(codec.decode_command(short)[0]["x"], value)


@settings(max_examples=600)
@given(st.lists(st.sampled_from(SIMPLE), min_size=1, max_size=3), st.sampled_from(VALUES))
@example([Mapping[str, int], Patch], Patch())
@example([Patch, Mapping[str, int]], Patch(age=1))
def test_any_value_for_any_type_arrives_as_it_went_or_is_refused(hints, value):
    """Whether it fits its annotation or not, and whichever member of a union it is meant for: same, or refused.

    One exception: a model whose unset fields tell it from another member of the union arrives with all of them set.
    """
    hint = hints[0]
    for other in hints[1:]:
        hint = Optional[hint] if other is None else hint | other  # noqa: UP045 - built at run time
    try:
        codec = taking(hint, hint)
        arrived = sent(codec, value).arguments["x"]
    except (UnserialisableError, SeamDefinitionError):
        event("refused")
    else:
        assert identical(arrived, value) or (
            identical(arrived, with_all_fields_set(value)) and needs_its_defaults(codec, value)
        )


def test_a_model_arrives_with_the_fields_that_were_set():
    """Who changes only what was set must not overwrite the rest with defaults because a bus lay between."""
    arrived = sent(taking(Patch), Patch(name="ann"), y=[1]).arguments
    assert arrived["x"].model_dump(exclude_unset=True) == {"name": "ann"}
    assert arrived["y"] == [1]


@pytest.mark.parametrize(("hint", "value"), [(Message, Message(text="a")), (Cat | Dog, Dog())])
def test_a_default_that_must_travel_does(hint, value):
    """A new id at the worker, or a union's wrong member, would be worse than a field that counts as set."""
    assert sent(taking(hint), value).arguments["x"] == value


def test_why_a_value_would_arrive_changed_is_said():
    """The text names what it would become, so that one knows which annotation is meant."""
    with pytest.raises(UnserialisableError, match="x: a tuple would arrive changed, as a list: annotate"):
        sent(taking(Sequence[int]), (1, 2))
    with pytest.raises(UnserialisableError, match="in the zone Europe/Zurich would arrive with an offset only"):
        sent(taking(datetime), datetime(2026, 1, 2, tzinfo=ZoneInfo("Europe/Zurich")))


@given(anything_json)
def test_json_without_annotation_arrives_as_it_went_or_is_refused(value):
    """Unannotated parameters carry JSON values; what JSON has no word for is refused (NaN beside strings)."""
    codec = taking(Any)
    try:
        arrived = sent(codec, value).arguments["x"]
    except UnserialisableError:
        event("refused")
    else:
        assert same(arrived, value)


@pytest.mark.parametrize("value", [(1, 2), b"raw", {1: "a"}, datetime(2026, 1, 1, tzinfo=UTC), Decimal("1.5"), {1}])
def test_what_json_has_no_word_for_is_refused_when_no_type_says_how(value):
    """A tuple, bytes, integer keys: without an annotation they would arrive as something else."""
    with pytest.raises(UnserialisableError, match=r"x: .*would arrive changed"):
        sent(taking(Any), value)


def test_numbers_at_the_edges():
    """Integers beyond 64 bits cross; one beyond Python's own text limit is refused, not rounded."""
    codec = taking(int)
    assert sent(codec, 2**200).arguments["x"] == 2**200
    with pytest.raises(UnserialisableError):
        sent(codec, 10**5000)
    assert math.isnan(sent(taking(float), math.nan).arguments["x"])
    assert sent(taking(float), -math.inf).arguments["x"] == -math.inf


def test_half_a_surrogate_pair_is_refused():
    """A text that UTF-8 cannot hold is no reason for another exception."""
    with pytest.raises(UnserialisableError):
        sent(taking(str), "\ud800")


@pytest.mark.parametrize("make", [object, lambda: len, lambda: io.BytesIO, lambda: 1j])
def test_a_value_without_json_form_is_refused_by_name(make):
    """Callables, classes and foreign objects name their parameter."""
    with pytest.raises(UnserialisableError):
        sent(taking(Any), make())


def test_an_endless_value_is_refused():
    """A list that holds itself ends in a refusal, not in a recursion error."""
    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(UnserialisableError):
        taking(Any).encode({"x": loop})


def test_deep_nesting_is_refused_or_crosses():
    """Ten thousand levels do not raise anything else."""
    deep: Any = 0
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(UnserialisableError):
        sent(taking(Any), deep)


# -- nothing is used up ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", [Any, list[int], Iterable[int], dict, Sequence[int], Iterable[int] | None])
@pytest.mark.parametrize("make", [lambda: (n for n in (1, 2)), lambda: iter([1, 2]), lambda: map(int, "12")])
def test_an_iterator_is_refused_and_still_full(hint, make):
    """Serialising would use it up, and the legacy body would then find nothing in it."""
    iterator = make()
    with pytest.raises(UnserialisableError, match="only once"):
        taking(hint).encode({"x": iterator})
    assert list(iterator) == [1, 2]


def test_parameters_that_admit_an_iterator_are_known():
    """So that they can be named before the first call."""

    def body(a: Iterable[int], b: Generator[int, None, None] | None, c: list[int], d: Annotated[Iterable[str], 1]): ...

    assert SignatureCodec(body).read_once == {"a", "b", "d"}


def test_an_iterator_inside_an_opaque_argument_is_refused_and_still_full():
    """``files={"report": open(...)}`` must upload the file, observed or not."""
    file = io.StringIO("report\n")
    with pytest.raises(UnserialisableError, match="StringIO can be read only once"):
        taking(dict).encode({"x": {"files": [("report", file)]}})
    assert file.read() == "report\n"


def test_iterators_among_variable_arguments_are_refused_and_still_full():
    """``*args`` and ``**kwargs`` are arguments like any other."""

    def body(*rows: int, **more: int): ...

    codec = SignatureCodec(body)
    for bound in ({"rows": (iter([1]),)}, {"more": {"a": iter([1])}}):
        with pytest.raises(UnserialisableError, match="only once"):
            codec.encode(bound)


@pytest.mark.parametrize("hint", [Any, Iterable[int], list[int]])
def test_an_iterator_that_is_returned_is_refused_and_still_full(hint):
    """What the caller gets at observe is what the body returned, unread."""
    codec = taking(Any, hint)
    for encode in (codec.observe_result, codec.encode_result):
        rows = iter([1, 2])
        with pytest.raises(UnserialisableError, match=r"return: .*only once"):
            encode(rows)
        assert list(rows) == [1, 2]


def test_encoding_does_not_change_arguments():
    """The body gets the very objects the caller passed, as they were."""
    value = {"a": [1, {"b": (2, 3)}], "c": {4, 5}}
    before = repr(value)
    taking(dict).encode({"x": value})
    assert repr(value) == before


# -- every kind of parameter ---------------------------------------------------------------------------------------


def everything(a, /, b: int, c=3, *rest: int, d: str, e=None, **more: float): ...


@given(
    st.integers(), st.integers(), st.lists(st.integers()), st.text("abc"), st.dictionaries(st.text("xyz"), st.floats())
)
def test_a_call_is_made_as_it_was_written(a, b, rest, d, more):
    """Positional-only, defaults, *args, keyword-only and **kwargs: the handler's call equals the caller's."""
    codec = SignatureCodec(everything)
    args = (a, b, 9, *rest) if rest else (a, b)
    bound = sent(codec, *args, d=d, **more)
    assert bound.args == (args if rest else (a, b))
    assert repr(bound.kwargs) == repr({"d": d, **more})


def test_a_keyword_may_be_called_like_a_positional_only_parameter():
    """``f(1, a=2)`` with ``def f(a, /, **more)`` keeps both."""

    def body(a, /, **more): ...

    bound = sent(SignatureCodec(body), 1, a=2)
    assert (bound.args, bound.kwargs) == ((1,), {"a": 2})


def test_defaults_are_the_bodys_own():
    """A default that has no JSON form does not travel, so it does not matter."""

    def body(x: int, y=object): ...

    assert sent(SignatureCodec(body), 1).arguments == {"x": 1}


def test_wrong_arguments_are_pythons_own_error():
    """The codec says what calling the body would have said."""
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        taking(int).bind((), {})
    with pytest.raises(TypeError, match="unexpected keyword"):
        taking(int).bind((1,), {"z": 1})


@given(st.lists(st.integers(), max_size=4), st.dictionaries(st.sampled_from("abcz"), st.integers()))
def test_a_call_is_bound_as_python_binds_it(args, kwargs):
    """The short way for plain parameters takes what the long one takes, and raises what it raises."""

    def body(a, b, c=0): ...

    try:
        expected = inspect.signature(body).bind(*args, **kwargs).arguments
    except TypeError as error:
        with pytest.raises(TypeError, match=re.escape(str(error))):
            SignatureCodec(body).bind(tuple(args), kwargs)
    else:
        bound = SignatureCodec(body).bind(tuple(args), kwargs)
        assert list(bound.items()) == list(expected.items())


def test_a_signature_that_cannot_be_resolved_says_so_at_once():
    """Types under TYPE_CHECKING and types without JSON form are named when the codec is built."""

    def unresolved(x: Nowhere): ...  # noqa: F821

    def no_form(y: int, x: Iterator[int]): ...

    with pytest.raises(SeamDefinitionError, match="Nowhere"):
        SignatureCodec(unresolved)
    with pytest.raises(SeamDefinitionError, match=r"x of .*no_form has no JSON form"):
        SignatureCodec(no_form)


# -- the worker's side ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"not json",
        b"\x80\x04\x95",
        b'{"arguments": null}',
        b'{"arguments": []}',
        b'{"arguments": {"x": "seven"}}',
        b'{"arguments": {"x": 1}, "sealed": 5}',
        b'{"arguments": ' + b"[" * 100_000,
        b'{"arguments": {"x": ' + b"9" * 5000 + b"}}",
        b'{"x": 1}',
    ],
)
def test_a_malformed_command_is_refused_with_one_error(data):
    """Whatever the bytes, the worker gets ``UnserialisableError`` and can say not-executed."""
    with pytest.raises(UnserialisableError):
        taking(int).decode_command(data)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(data):
    """Commands and results from a stranger are refused or read, never a surprise."""
    codec = taking(int, int)
    for read in (codec.decode_command, codec.decode_result):
        with contextlib.suppress(UnserialisableError):
            read(data)


def test_a_type_whose_validation_fails_in_its_own_way_is_refused():
    """A validator may raise anything; the call is refused, the worker lives."""
    codec = taking(Touchy, Touchy)
    with pytest.raises(UnserialisableError, match="KeyError"):
        codec.decode_command(b'{"arguments": {"x": {"a": 2}}}')
    with pytest.raises(UnserialisableError, match="KeyError"):
        codec.decode_result(b'{"value": {"a": 2}}')


@pytest.mark.parametrize("data", [b"{}", b"null", b'{"outcome": "value"}'])
def test_a_result_without_a_value_is_refused(data):
    """A result that says nothing is not a ``KeyError`` at the caller."""
    with pytest.raises(UnserialisableError, match="return"):
        taking(int, int).decode_result(data)


def test_an_unknown_parameter_of_a_newer_caller_is_ignored():
    """Callers and workers are deployed one after the other."""
    values, _ = taking(int).decode_command(b'{"arguments": {"x": 1, "new": 2}, "later": 3}')
    assert values == {"x": 1}


def test_a_missing_parameter_is_named():
    """An older caller does not send what has no default: refused by name."""
    with pytest.raises(UnserialisableError, match="x: is missing"):
        taking(int).bound({})


def test_a_type_that_cannot_be_compared_is_refused():
    """An ``__eq__`` that raises (arrays do) must not reach the caller."""

    class Strange:
        def __eq__(self, other):
            raise ValueError("ambiguous")

        __hash__ = None

    codec = taking(Any)
    with pytest.raises(UnserialisableError):
        codec.verify({"x": Strange()}, to_json({"x": 1}))


# -- secrets -------------------------------------------------------------------------------------------------------


def login(user: str, password: str, key: SecretStr, also: SecretStr | None = None): ...


def test_secrets_are_not_among_the_clear_arguments():
    """By name and by type; the sealed half carries the real values."""
    codec = SignatureCodec(login, secret=frozenset({"password"}))
    bound = codec.bind(("ann", "hunter2", SecretStr("k-1")), {"also": SecretStr("k-2")})
    assert codec.encode(bound) == b'{"user":"ann"}'
    sealed = codec.encode_secrets(bound)
    codec.verify_secrets(bound, sealed)
    opened: dict[str, Any] = {}
    for name, data in sealed.items():
        opened |= codec.decode_secret(name, data)
    assert opened == {"password": "hunter2", "key": SecretStr("k-1"), "also": SecretStr("k-2")}


@pytest.mark.parametrize(
    ("hint", "value"),
    [(list[SecretStr], [SecretStr("k")]), (Credentials, Credentials(token=SecretStr("k")))],
)
def test_a_secret_that_would_arrive_masked_is_refused(hint, value):
    """``**********`` must not reach a handler as if it were the password."""

    def body(x): ...

    body.__annotations__ = {"x": hint}
    codec = SignatureCodec(body, secret=frozenset({"x"}))
    bound = codec.bind((value,), {})
    with pytest.raises(UnserialisableError, match=r"x: .*would arrive changed"):
        codec.verify_secrets(bound, codec.encode_secrets(bound))


def test_a_model_that_holds_a_secret_never_shows_it():
    """A SecretStr deeper inside is masked, and a masked value is refused on the bus."""
    codec = taking(Credentials)
    bound = codec.bind((Credentials(token=SecretStr("tiger-7")),), {})
    encoded = codec.encode(bound)
    assert b"tiger" not in encoded
    with pytest.raises(UnserialisableError) as caught:
        codec.verify(bound, encoded)
    assert "tiger" not in str(caught.value)


def test_complaints_never_show_the_value():
    """An error text goes to the log."""
    for hint, value in [(int, "sk-tiger-7"), (list[int], ["sk-tiger-7"]), (Colour, "sk-tiger-7")]:
        with pytest.raises(UnserialisableError) as caught:
            sent(taking(hint), value)
        assert "tiger" not in str(caught.value)


def test_secret_must_name_a_parameter():
    """A typing error here would send the password in clear."""
    with pytest.raises(SeamDefinitionError, match="'pasword'"):
        SignatureCodec(login, secret=frozenset({"pasword"}))
