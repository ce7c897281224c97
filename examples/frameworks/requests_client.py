"""A requests session whose requests are calls of a seam: a handler answers where the service would.

python requests_client.py
"""

import requests
from served import served

from crossfade.adapters.requests import SeamAdapter, route
from crossfade.shim.http import HttpRequest, HttpResponse, http_handler

# The caller sends an Idempotency-Key with each order, so an order is placed once, however often it is sent.
ROUTES = [route("shop.order", "POST shop.example/v1/orders", effects="idempotent", stage="bus")]
PLACED: list[str] = []


@http_handler("shop.order")
async def order(request: HttpRequest) -> HttpResponse:
    """Place an order."""
    PLACED.append(request.read_json()["book"])
    return HttpResponse.json({"number": len(PLACED), "book": PLACED[-1]}, status=201)


def main() -> None:
    """An order, the same once more because its sender was not sure, and another one."""
    with requests.Session() as session:
        session.mount("http://shop.example", SeamAdapter(ROUTES))
        for book, key in (("Dune", "a1"), ("Dune", "a1"), ("Emma", "b2")):
            answer = session.post(
                "http://shop.example/v1/orders", json={"book": book}, headers={"Idempotency-Key": f'"{key}"'}
            )
            print(answer.status_code, answer.json())


if __name__ == "__main__":
    with served("requests_client"):
        main()
