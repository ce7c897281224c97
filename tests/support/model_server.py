"""A server that speaks the shape of OpenAI's API and says what a test tells it to, over real HTTP on loopback."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class ModelServer:
    """``replies`` are the assistant's next messages; ``asked`` the requests' bodies. Used as a context manager."""

    def __init__(self, *replies: dict[str, Any]) -> None:
        self.replies = list(replies)
        self.asked: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="model server")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        told = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: Any) -> None:
                pass

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                told.asked.append(body)
                reply = told.replies.pop(0)
                if self.path.endswith("/responses"):
                    self._send("application/json", json.dumps(response(reply["output"])).encode())
                elif body.get("stream"):
                    self._send("text/event-stream", b"".join(chunks(reply)))
                else:
                    self._send("application/json", json.dumps(completion(reply)).encode())

            def _send(self, kind: str, data: bytes) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        return Handler


def asks(*calls: tuple[str, str, str]) -> dict[str, Any]:
    """An assistant's message that asks for tools: ``(id, name, arguments)`` each."""
    made = [
        {"id": callid, "type": "function", "function": {"name": name, "arguments": arguments}}
        for callid, name, arguments in calls
    ]
    return {"role": "assistant", "content": None, "tool_calls": made}


def says(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def completion(message: dict[str, Any]) -> dict[str, Any]:
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "test",
        "choices": [{"index": 0, "message": message, "finish_reason": reason, "logprobs": None}],
    }


def chunks(message: dict[str, Any]) -> list[bytes]:
    """The message as a stream, the arguments of its tool calls torn in two."""
    deltas: list[dict[str, Any]] = [{"role": "assistant"}]
    for index, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        half = len(arguments) // 2
        function = {"name": name, "arguments": arguments[:half]}
        deltas.append({"tool_calls": [{"index": index, "id": call["id"], "type": "function", "function": function}]})
        deltas.append({"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]})
    deltas += [{"content": word} for word in (message.get("content") or "").split()]
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "test"}
    choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
    choices.append({"index": 0, "delta": {}, "finish_reason": "tool_calls" if message.get("tool_calls") else "stop"})
    lines = [b"data: " + json.dumps({**common, "choices": [choice]}).encode() + b"\n\n" for choice in choices]
    return [*lines, b"data: [DONE]\n\n"]


def response(output: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": "test",
        "status": "completed",
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }
