"""LangChain tools as seams: what models, agents and callbacks see of them is the same at every stage."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig  # noqa: TC002 - LangChain reads the annotations
from langchain_core.tools import BaseTool, InjectedToolCallId, StructuredTool, Tool, ToolException, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, ValidationError

from crossfade import shim
from crossfade.adapters.langchain import seam_tool
from crossfade.shim.errors import SeamDefinitionError
from crossfade.shim.seam import registry
from integration.frameworks.conftest import STAGES
from integration.shim import kit


@tool
def double(number: int, times: int = 2) -> int:
    """Multiply a number."""
    return number * times


@tool
async def aecho(text: str) -> str:
    """Say it again."""
    return text


@tool(response_format="content_and_artifact")
def draw(count: int) -> tuple[str, list[int]]:
    """Draw points."""
    return f"{count} points", list(range(count))


class Query(BaseModel):
    words: list[str] = Field(description="what to look for")


class Lookup(BaseTool):
    name: str = "look_up"
    description: str = "Look words up."
    args_schema: Any = Query

    def _run(self, words: list[str], config: RunnableConfig, run_manager: Any = None) -> dict[str, int]:
        return {word: len(word) for word in words}


@tool
def fragile(path: str) -> str:
    """Fail in the way that LangChain handles."""
    if path == "bug":
        raise ZeroDivisionError(path)
    raise ToolException(f"no {path}")


@tool
def who(call: Annotated[str, InjectedToolCallId], text: str) -> str:
    """Know one's own call."""
    return f"{call}: {text}"


def both(x: int) -> str:
    return f"plain {x}"


async def aboth(x: int) -> str:
    return f"async {x}"


def described(one: BaseTool) -> Any:
    return one.name, one.description, convert_to_openai_tool(one), one.response_format, one.args


class Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.said: list[Any] = []

    def on_tool_start(self, serialized, input_str, **kwargs):
        self.said.append(("start", serialized["name"], input_str, kwargs.get("tags")))

    def on_tool_end(self, output, **kwargs):
        self.said.append(("end", str(getattr(output, "content", output))))

    def on_tool_error(self, error, **kwargs):
        self.said.append(("error", repr(error)))


def call(name: str, **arguments: Any) -> dict[str, Any]:
    return {"name": name, "args": arguments, "id": "call_1", "type": "tool_call"}


@pytest.mark.parametrize("stage", STAGES)
def test_a_tool_is_the_same_at_every_stage(put, counts, stage):
    """Schemas, results, messages, artifacts, errors and callbacks are those of the tool as it was written."""
    made = {
        one.name: seam_tool(f"lc.{one.name}", one, effects="none")
        for one in (double, aecho, draw, Lookup(), fragile, who)
    }
    put(stage, *(f"lc.{name}" for name in made))
    for mine, theirs in zip(made.values(), (double, aecho, draw, Lookup(), fragile, who), strict=True):
        assert described(mine) == described(theirs)
        assert isinstance(mine, type(theirs))
    with shim.correlate(user="alice"):
        assert made["double"].invoke({"number": 4}) == 8
        assert asyncio.run(made["double"].ainvoke({"number": 4, "times": 3})) == 12
        assert asyncio.run(made["aecho"].ainvoke({"text": "hé"})) == "hé"
        assert made["look_up"].invoke({"words": ["a", "bc"]}) == {"a": 1, "bc": 2}
        drawn = made["draw"].invoke(call("draw", count=3))
        assert (drawn.content, drawn.artifact, drawn.tool_call_id) == ("3 points", [0, 1, 2], "call_1")
        assert made["who"].invoke(call("who", text="x")).content == "call_1: x"
        fails_alike(made["fragile"])
    with pytest.raises(ValidationError):
        made["double"].invoke({"number": "many"})
    assert counts.get("fallback") == 0
    if stage in ("canary", "bus"):
        kit.until(lambda: counts.get("served") == 9)


def fails_alike(fragile: BaseTool) -> None:
    with pytest.raises(ToolException, match="no file"):
        fragile.invoke({"path": "file"})
    with pytest.raises(ZeroDivisionError, match="bug"):
        fragile.invoke({"path": "bug"})
    forgiving = fragile.model_copy(update={"handle_tool_error": True})
    message = forgiving.invoke(call("fragile", path="file"))
    assert (message.content, message.status) == ("no file", "error")


@pytest.mark.parametrize("stage", ["legacy", "bus"])
def test_callbacks_and_config_hear_a_run_at_the_caller(put, stage):
    """on_tool_start, on_tool_end and on_tool_error, with the caller's tags; a body in this process gets its config."""
    seen = []

    @tool
    def looks(x: int, config: RunnableConfig) -> int:
        """Look at the config."""
        seen.append(config.get("configurable", {}).get("who"))
        return 1 // x

    mine = seam_tool("lc.looks", looks, effects="none")
    put(stage, "lc.looks")
    heard = Heard()
    config: Any = {"callbacks": [heard], "tags": ["t"], "configurable": {"who": "alice"}}

    assert mine.invoke({"x": 1}, config) == 1
    with pytest.raises(ZeroDivisionError):
        mine.invoke({"x": 0}, config)
    assert [one[0] for one in heard.said] == ["start", "end", "start", "error"]
    assert heard.said[0] == ("start", "looks", "{'x': 1}", ["t"])
    assert seen == (["alice"] * 2 if stage == "legacy" else [None] * 2)


@pytest.mark.parametrize("stage", ["legacy", "bus"])
def test_a_tool_with_two_bodies_keeps_both(put, stage):
    """invoke runs the plain one and ainvoke the async one here; a worker runs the async one for both."""
    mine = seam_tool("lc.both", StructuredTool.from_function(both, aboth, description="d"), effects="none")
    put(stage, "lc.both")

    assert asyncio.run(mine.ainvoke({"x": 1})) == "async 1"
    assert mine.invoke({"x": 1}) == ("plain 1" if stage == "legacy" else "async 1")


@pytest.mark.parametrize("stage", ["legacy", "bus"])
def test_tools_of_other_makes(put, stage):
    """A single-input Tool, and one whose schema is a JSON schema."""
    single = seam_tool("lc.single", Tool(name="single", func=lambda text: text.upper(), description="d"))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]}
    plain = StructuredTool(name="plain", description="d", args_schema=schema, func=lambda a, b="-": f"{a}{b}")
    mine = seam_tool("lc.schema", plain)
    put(stage, "lc.single", "lc.schema")

    assert single.invoke("hello") == "HELLO"
    assert (mine.invoke({"a": 1}), mine.invoke({"a": 1, "b": "x"})) == ("1-", "1x")


@pytest.mark.parametrize("stage", ["canary", "bus"])
def test_a_repeated_tool_call_is_one_call(put, stage):
    """The same tool call of one run and thread runs once; other arguments, another run or no run: another call."""
    done = []

    @tool
    def pay(cents: int) -> int:
        """Pay."""
        done.append(cents)
        return len(done)

    mine = seam_tool("lc.pay", pay, effects="unsafe")
    put(stage, "lc.pay", unsafe_storage=True)
    with shim.correlate(user="alice", run="r1"):
        first, again = (mine.invoke(call("pay", cents=5)).content for _ in range(2))
        other = mine.invoke(call("pay", cents=6)).content
        elsewhere = mine.invoke(call("pay", cents=5), {"configurable": {"thread_id": "t"}}).content
    with shim.correlate(user="alice", run="r2"):
        another = asyncio.run(mine.ainvoke(call("pay", cents=5))).content
    assert (first, again, other, elsewhere, another) == ("1", "1", "2", "3", "4")
    mine.invoke(call("pay", cents=5))
    mine.invoke({"cents": 5})
    assert done == [5, 6, 5, 5, 5, 5]


def test_the_key_of_a_tool_call_is_not_its_bodys(put):
    """Two calls of one seam inside a body that has a key stay two."""
    inner = seam_tool("lc.double", double, effects="none")

    @tool
    def outer(n: int) -> list[int]:
        """Call another tool twice."""
        return [inner.invoke({"number": n}), inner.invoke({"number": n + 1})]

    mine = seam_tool("lc.outer", outer, effects="unsafe", stage="observe")
    put("bus", "lc.double")
    with shim.correlate(run="r1"):
        assert mine.invoke(call("outer", n=1)).content == "[2, 4]"


def test_what_a_worker_would_not_take_is_refused_with_a_reason(put, counts):
    """Arguments that do not fit the worker's signature end this call, as LangChain reports errors; others go on."""
    mine = seam_tool("lc.double", double, effects="none", fallback="raise")
    connected = put("bus", "lc.double", fallback="raise")
    registry.drop(mine_seam := registry.get("lc.double"))

    @tool("double")
    def renamed(amount: int) -> int:
        """Another version of it."""
        return amount

    drifted = seam_tool("lc.double", renamed, effects="none", fallback="raise")
    kit.until(lambda: registry.get("lc.double").route)
    heard = Heard()
    with pytest.raises(shim.NotExecutedError, match="arguments"):
        drifted.invoke({"amount": 1}, {"callbacks": [heard]})
    assert heard.said[-1][0] == "error"
    assert [letter.reason for letter in kit.dead_letters(connected)] == ["arguments"]
    assert (mine_seam.name, mine.invoke({"number": 2})) == ("lc.double", 4)


def test_a_name_stands_for_one_tool():
    """Two tools under one name, and a name that is none, are refused when they are declared."""
    seam_tool("lc.taken", double)
    with pytest.raises(SeamDefinitionError, match="declared twice"):
        seam_tool("lc.taken", aecho)
    with pytest.raises(SeamDefinitionError, match="Not A Name"):
        seam_tool("Not A Name", double)
