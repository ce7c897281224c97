"""What frameworks make of a decorated function: the same routes, schemas and tools as of the plain one."""

from __future__ import annotations

import asyncio
import functools
import warnings

import pydantic
import pytest

from transparency import bench, kinds

with warnings.catch_warnings():  # these packages' own affair
    warnings.simplefilter("ignore")
    import agents
    import fastapi
    from fastapi.openapi.utils import get_openapi
    from langchain_core.tools import StructuredTool
    from langchain_core.tools import tool as langchain_tool
    from langchain_core.utils.function_calling import convert_to_openai_tool
    from mcp.server import MCPServer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::PendingDeprecationWarning")

# Iterators are no tool's result, and a partial has no name.
NAMED = [kind for kind in bench.KINDS if "generator" not in kind and kind not in ("partial", "method of a class")]


def with_context(app, **scope):
    """One request to an ASGI app, by hand: its JSON answer as bytes."""

    async def main():
        sent = []

        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message):
            sent.append(message)

        await app(
            {
                "type": "http",
                "asgi": {"version": "3.0"},
                "http_version": "1.1",
                "method": "GET",
                "headers": [],
                "scheme": "http",
                "server": ("127.0.0.1", 80),
                "client": ("127.0.0.1", 1),
                "root_path": "",
                **scope,
            },
            receive,
            send,
        )
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])

    return asyncio.run(main())


@pytest.mark.parametrize("kind", NAMED)
def test_fastapi_depends_on_it(stage, kind):
    """As a dependency and as a route: the same parameters, the same OpenAPI document, a request that works."""

    def described(function):
        app = fastapi.FastAPI()
        app.get("/route", operation_id="route")(function)
        found = fastapi.Depends(function)

        @app.get("/depends", operation_id="depends")
        def depends(value=found):
            return value

        return app, get_openapi(title="t", version="1", routes=app.routes)

    (ours, document), (plain, expected) = map(described, bench.twins(kind))
    assert document == expected
    for path in ("/route", "/depends"):
        answers = [with_context(app, path=path, query_string=b"x=3", raw_path=path.encode()) for app in (ours, plain)]
        assert answers[0][0] == answers[1][0] == 200
        if not (stage == "bus" and "method" in kind):  # there it runs on what bind= makes
            assert answers[0] == answers[1]
        assert with_context(ours, path=path, query_string=b"x=3&times=no", raw_path=path.encode())[0] == 422


@pytest.mark.parametrize("kind", NAMED)
def test_pydantic_validates_its_calls(stage, kind):
    """validate_call above a seam converts and refuses as above the plain function."""
    ours, plain = (pydantic.validate_call(function) for function in bench.twins(kind))
    if not (stage == "bus" and "method" in kind):
        assert bench.outcome(ours, "3") == bench.outcome(plain, "3")
    for function in (ours, plain):
        with pytest.raises(pydantic.ValidationError):
            bench.outcome(function, "three", times="x")


@pytest.mark.parametrize("kind", NAMED)
def test_langchain_makes_the_same_tool(stage, kind):
    """Name, description and JSON schema, however the tool is made."""

    def described(function):
        if "coroutine" in kind:
            made = StructuredTool.from_function(coroutine=function)
        else:
            made = StructuredTool.from_function(function)
        return made, made.name, made.description, made.args_schema.model_json_schema(), convert_to_openai_tool(made)

    (made, *ours), (_, *plain) = map(described, bench.twins(kind))
    assert ours == plain
    answer = asyncio.run(made.ainvoke({"x": 3})) if "coroutine" in kind else made.invoke({"x": 3})
    if not (stage == "bus" and "method" in kind):
        assert answer == bench.outcome(bench.twins(kind)[1], 3)


@pytest.mark.parametrize("kind", ["function", "coroutine function", "staticmethod inside", "overloaded function"])
def test_langchains_decorator_stacks(stage, kind):
    """``@tool`` of LangChain above ours."""
    ours, plain = (langchain_tool(function) for function in bench.twins(kind))
    assert convert_to_openai_tool(ours) == convert_to_openai_tool(plain)
    assert asyncio.run(ours.ainvoke({"x": 3, "times": 2})) == 6


@pytest.mark.parametrize("kind", NAMED)
def test_openai_agents_makes_the_same_schema(stage, kind):
    """``function_schema`` and ``function_tool``: name, description from the docstring, strict JSON schema."""

    def described(function):
        schema = agents.function_schema.function_schema(function)
        made = agents.function_tool(function)
        return (
            schema.name,
            schema.description,
            schema.params_json_schema,
            schema.takes_context,
            made.name,
            made.params_json_schema,
            made.strict_json_schema,
        )

    ours, plain = map(described, bench.twins(kind))
    assert ours == plain


@pytest.mark.parametrize("kind", NAMED)
def test_an_mcp_server_registers_the_same_tool(stage, kind):
    """Name, description, input and output schema; and a call through the server."""
    server = MCPServer("test")

    ours, plain = bench.twins(kind)
    server.add_tool(ours, name="ours")
    server.add_tool(plain, name="plain")

    async def main():
        tools = {one.name: one.model_dump(exclude={"name"}) for one in await server.list_tools()}
        return tools, await server.call_tool("ours", {"x": 3}), await server.call_tool("plain", {"x": 3})

    tools, answered, expected = asyncio.run(main())
    assert tools["ours"] == tools["plain"]
    if not (stage == "bus" and "method" in kind):
        assert answered == expected


def test_cached_and_partial_stack(stage):
    """functools.cache above, functools.partial below, singledispatch beside."""
    cached = functools.cache(kinds.plain)
    assert (cached(3), cached(3), cached.cache_info().hits) == (6, 6, 1)

    @functools.singledispatch
    def dispatched(x):
        return "other"

    dispatched.register(int, kinds.plain)
    assert (dispatched("x"), dispatched(3)) == ("other", 6)
