"""OpenAI-style function tools, driven by the real SDK against a real HTTP server, at each stage on a real broker."""

from __future__ import annotations

import asyncio
import json
import threading
from datetime import date  # noqa: TC003 - the seam reads the annotations
from typing import Any

import openai
import pytest

from crossfade import shim
from crossfade.adapters.openai import FunctionTools
from crossfade.shim.errors import SeamDefinitionError
from crossfade.shim.seam import registry
from integration.frameworks.conftest import STAGES
from integration.shim import kit
from support.model_server import ModelServer, asks, says


def defined(name: str, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "description": "d", "parameters": schema}}


STRING, INTEGER = {"type": "string"}, {"type": "integer"}


def weekday(day: date) -> str:
    return day.strftime("%A")


async def double(number: int) -> dict[str, int]:
    if number < 0:
        raise ValueError(f"{number} is negative")
    return {"number": 2 * number}


def made(**options: Any) -> FunctionTools:
    return FunctionTools(
        [defined("weekday", day=STRING), defined("double", number=INTEGER)],
        {"weekday": weekday, "double": double},
        prefix="oa",
        **{"effects": "none", **options},
    )


BOTH = asks(("c1", "weekday", '{"day": "2026-11-22"}'), ("c2", "double", '{"number": 21}'))
ANSWERS = [
    {"role": "tool", "tool_call_id": "c1", "content": "Sunday"},
    {"role": "tool", "tool_call_id": "c2", "content": '{"number":42}'},
]


@pytest.mark.parametrize("stage", STAGES)
def test_a_conversation_is_the_same_at_every_stage(put, counts, stage):
    """The model gets its definitions; its calls are answered in order, their arguments typed, and the answers sent."""
    tools = made()
    put(stage, "oa.weekday", "oa.double")
    with ModelServer(BOTH, says("a Sunday")) as server, openai.OpenAI(base_url=server.url, api_key="-") as client:
        messages: list[Any] = [{"role": "user", "content": "what day?"}]
        asked = client.chat.completions.create(model="test", messages=messages, tools=tools.definitions)
        message = asked.choices[0].message
        with shim.correlate(user="alice"):
            messages += [message, *tools.dispatch(message.tool_calls)]
        said = client.chat.completions.create(model="test", messages=messages, tools=tools.definitions)

        assert said.choices[0].message.content == "a Sunday"
        assert server.asked[0]["tools"] == tools.definitions
        assert server.asked[1]["messages"][-2:] == ANSWERS
    assert counts.get("tool-call-failed") == counts.get("fallback") == 0
    if stage in ("canary", "bus"):
        kit.until(lambda: counts.get("served") == 2)


async def test_a_streamed_answer_and_async_dispatch(put):
    """Tool calls that came in pieces, answered inside a running loop."""
    tools = made()
    await asyncio.to_thread(put, "bus", "oa.weekday", "oa.double")
    with ModelServer(BOTH) as server:
        async with (
            openai.AsyncOpenAI(base_url=server.url, api_key="-") as client,
            client.chat.completions.stream(
                model="test", messages=[{"role": "user", "content": "?"}], tools=tools.definitions
            ) as stream,
        ):
            final = await stream.get_final_completion()
    assert await tools.adispatch(final.choices[0].message.tool_calls) == ANSWERS


def test_a_responses_output(put):
    """The responses API: function calls among other items are answered as ``function_call_output``."""
    tools = FunctionTools(
        [{"type": "function", **defined("weekday", day=STRING)["function"]}], {"weekday": weekday}, prefix="oa"
    )
    text = {"type": "output_text", "text": "let me see", "annotations": []}
    call = {
        "type": "function_call",
        "id": "f1",
        "call_id": "c1",
        "name": "weekday",
        "arguments": '{"day":"2026-11-23"}',
    }
    output = [{"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [text]}, call]
    with ModelServer({"output": output}) as server, openai.OpenAI(base_url=server.url, api_key="-") as client:
        answer = client.responses.create(model="test", input="what day?", tools=tools.definitions)
    expected = [{"type": "function_call_output", "call_id": "c1", "output": "Monday"}]
    assert tools.dispatch(answer.output) == tools.dispatch(output) == expected


@pytest.mark.parametrize("stage", ["legacy", "bus"])
def test_whatever_a_model_sends_is_answered(put, counts, stage):
    """Unknown tools, arguments that do not fit, and errors of the function: a message each, and the others go on."""
    tools = made(fallback="raise")
    put(stage, "oa.weekday", "oa.double")
    calls = asks(
        ("c1", "nothing", "{}"),
        ("c2", "double", '{"number": 1'),
        ("c3", "double", '{"number": "many"}'),
        ("c4", "double", '{"number": 1, "factor": 2}'),
        ("c5", "double", "{}"),
        ("c6", "double", '[{"number": 1}]'),
        ("c7", "double", '{"number": -1}'),
        ("c8", "double", '{"number": 1}'),
    )["tool_calls"]
    calls.append({"id": "c9", "type": "custom", "custom": {"name": "x", "input": "y"}})

    answers = {each["tool_call_id"]: each["content"] for each in tools.dispatch(calls)}
    told = {callid: json.loads(content).get("error", {}) for callid, content in answers.items()}

    assert list(answers) == [call["id"] for call in calls]
    assert told["c1"] == {"type": "refused", "message": "there is no tool 'nothing'; there are: double, weekday"}
    assert "no JSON" in told["c2"]["message"]
    assert told["c3"]["message"].startswith("arguments.number: ")
    assert told["c4"]["message"] == "factor: there is no such argument"
    assert told["c5"]["message"] == "number: is missing, and has no default"
    assert told["c6"]["message"] == "the arguments must be one JSON object"
    assert told["c7"] == {"type": "ValueError", "message": "-1 is negative"}
    assert answers["c8"] == '{"number":2}'
    assert told["c9"]["message"].startswith("not a call of a function tool")
    assert counts.get("tool-call-failed", reason="arguments") == 5
    assert counts.get("tool-call-failed") == 8


def test_what_a_worker_would_not_take_is_told_to_the_model(put):
    """A worker of another version, whose function takes something else: refused with its reason, and a dead letter."""

    @shim.tool("oa.lend", effects="none", fallback="raise")
    def newer(title: str, days: int) -> str:
        return f"{title} {days}"

    connected = put("bus", "oa.lend", fallback="raise")
    registry.drop(registry.get("oa.lend"))

    @shim.tool("oa.lend", effects="none", fallback="raise")
    def lend(book: str) -> str:
        return book

    kit.until(lambda: registry.get("oa.lend").route)
    tools = FunctionTools([defined("lend", book=STRING)], {"lend": lend})
    (answer,) = tools.dispatch(asks(("c1", "lend", '{"book": "Emma"}'))["tool_calls"])
    told = json.loads(answer["content"])["error"]
    assert told["type"].endswith("NotExecutedError")
    assert "oa.lend was not executed: arguments" in told["message"]
    assert [letter.reason for letter in kit.dead_letters(connected)] == ["arguments"]


def test_calls_of_one_answer_run_side_by_side():
    """Each of three waits for the others."""
    together = threading.Barrier(3)

    def meet(n: int) -> int:
        together.wait(kit.SOON)
        return n

    tools = FunctionTools([defined("meet", n=INTEGER)], {"meet": meet}, prefix="oa")
    calls = asks(*((f"c{n}", "meet", f'{{"n": {n}}}') for n in range(3)))["tool_calls"]
    assert [each["content"] for each in tools.dispatch(calls)] == ["0", "1", "2"]


def test_a_repeated_tool_call_is_one_call(put):
    """A conversation that is taken up again in its run does not order twice."""
    orders = []

    @shim.tool("oa.order", effects="unsafe")
    def order(book: str) -> int:
        orders.append(book)
        return len(orders)

    tools = FunctionTools([defined("order", book=STRING)], {"order": order})
    put("bus", "oa.order", unsafe_storage=True)
    calls = asks(("c1", "order", '{"book": "Emma"}'))["tool_calls"]
    with shim.correlate(run="conversation"):
        assert [tools.dispatch(calls)[0]["content"] for _ in range(2)] == ["1", "1"]
    assert orders == ["Emma"]


def test_definitions_and_functions_must_fit():
    """What would surprise a conversation is said when the map is made."""
    with pytest.raises(SeamDefinitionError, match="'double' has no function"):
        FunctionTools([defined("double", number=INTEGER)], {})
    with pytest.raises(SeamDefinitionError, match="'double' has no definition"):
        FunctionTools([], {"double": double}, prefix="oa")
    with pytest.raises(SeamDefinitionError, match="offers 'factor', which oa"):
        FunctionTools([defined("double", number=INTEGER, factor=INTEGER)], {"double": double}, prefix="oa")
    with pytest.raises(SeamDefinitionError, match="needs 'number', which the tool 'double' does not offer"):
        FunctionTools([defined("double")], {"double": double}, prefix="oa")
    with pytest.raises(SeamDefinitionError, match="not the definition of a function tool"):
        FunctionTools([{"type": "web_search"}], {})
