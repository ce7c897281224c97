"""OpenAI's SDK as it is, whose requests are calls of a seam: a worker answers them, and the SDK reads the answer.

python openai_client.py

The handler stands for whatever asks the model in your deployment: a queue with a limit, a cache, another provider.
"""

import base64
import os
import secrets

import httpx
from openai import OpenAI
from served import served

from crossfade.adapters.httpx import SeamTransport, route
from crossfade.shim.http import HttpRequest, HttpResponse, http_handler

# Asking a model twice does no harm, so a call that is lost may be repeated; a POST is otherwise taken for unsafe.
ROUTES = [route("model.chat", "POST model.example/v1/chat/completions", effects="none", stage="bus")]


@http_handler("model.chat")
async def chat(request: HttpRequest) -> HttpResponse:
    """Answer with what was asked."""
    asked = request.read_json()
    message = {"role": "assistant", "content": asked["messages"][-1]["content"].upper()}
    choice = {"index": 0, "finish_reason": "stop", "message": message}
    made = {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": asked["model"]}
    return HttpResponse.json({**made, "choices": [choice]})


def main() -> None:
    """One line differs from a program without crossfade: the SDK is given an HTTP client."""
    with (
        httpx.Client(transport=SeamTransport(ROUTES)) as http_client,
        OpenAI(base_url="http://model.example/v1", api_key="none", http_client=http_client) as client,
    ):
        said = client.chat.completions.create(model="any", messages=[{"role": "user", "content": "hello"}])
        print(said.choices[0].message.content)


if __name__ == "__main__":
    # The SDK sends a credential with each request: it travels sealed, by a key that caller and worker have.
    os.environ["CROSSFADE_SEAL_KEY"] = f"one:{base64.b64encode(secrets.token_bytes(32)).decode()}"
    with served("openai_client"):
        main()
