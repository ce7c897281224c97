"""An iterator is found wherever it hides, and is still full; nothing else is read, or refused."""

from __future__ import annotations

import io
from collections import ChainMap, OrderedDict, deque
from collections.abc import Iterable  # noqa: TC003 - pydantic reads the annotation
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, RootModel

from crossfade.shim.errors import UnserialisableError
from crossfade.shim.iterators import refuse_iterators


@dataclass
class Batch:
    rows: Any
    name: str = ""


@dataclass(slots=True)
class One:
    rows: Any


@dataclass(slots=True)
class Two:
    name: str
    rows: Any


class Pair(NamedTuple):
    rows: Any


class Model(BaseModel):
    model_config = ConfigDict(extra="allow")
    rows: Iterable[int] | None = None


class Root(RootModel[Any]):
    pass


HIDDEN = {
    "itself": lambda rows: rows,
    "list": lambda rows: [0, [rows]],
    "tuple": lambda rows: (rows, 1),
    "dict": lambda rows: {"a": {"b": rows}},
    "ordered dict": lambda rows: OrderedDict(a=rows),
    "set": lambda rows: {rows},
    "deque": lambda rows: deque([rows]),
    "named tuple": Pair,
    "dataclass": Batch,
    "dataclass with slots": lambda rows: [One(1), One(rows)],
    "dataclass with more slots": lambda rows: Two("", rows),
    "model": lambda rows: Model.model_construct(rows=rows),
    "extra field": lambda rows: Model(more=rows),
    "root model": lambda rows: Root([Batch(rows)]),
}


@pytest.mark.parametrize("where", HIDDEN)
def test_an_iterator_is_found_and_left_full(where):
    """Containers, dataclasses with and without slots, models: pydantic would read it in each of them."""
    rows = iter([1, 2])
    with pytest.raises(UnserialisableError, match="x: a list_iterator can be read only once"):
        refuse_iterators(HIDDEN[where](rows), "x")
    assert list(rows) == [1, 2]


def test_a_model_that_holds_a_checked_generator_is_found():
    """Validation wraps it; the wrapper reads it, too."""
    rows = (n for n in (1, 2))
    model = Model(rows=rows)
    with pytest.raises(UnserialisableError, match="only once"):
        refuse_iterators(model, "x")
    assert list(model.rows) == [1, 2]


def test_an_open_file_is_an_iterator():
    """It would be uploaded empty."""
    file = io.BytesIO(b"report\n")
    with pytest.raises(UnserialisableError, match="BytesIO"):
        refuse_iterators(Batch({"file": file}), "x")
    assert file.read() == b"report\n"


class Reiterable:
    def __iter__(self):
        raise AssertionError("nobody asked for an item")


@pytest.mark.parametrize("value", [Reiterable(), range(3), {1: 2}.keys(), ChainMap({}), object(), Batch, Model])
def test_what_can_be_read_again_passes_and_is_not_read(value):
    """Whether it has a JSON form is not asked here."""
    refuse_iterators([value], "x")


def test_a_value_that_holds_itself_ends():
    """Also one that holds itself twice, whose levels would double for ever."""
    loop: list[Any] = [object()]
    loop += [loop, loop]
    refuse_iterators(loop, "x")


@given(
    st.recursive(
        st.none() | st.integers() | st.builds(object),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.builds(Batch, inner),
    )
)
def test_nothing_is_found_where_nothing_is(value):
    """Whatever else a value holds."""
    refuse_iterators(value, "x")
