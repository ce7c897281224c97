"""A proxy between the raw client and the nasty upstream, and what can be asked of the three."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from support.fronts import KINDS, Front, Limits
from support.nasty_upstream import FENCE, Script, Upstream
from support.raw_client import Client, request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.strict_http import Request, Response


class Proxied:
    """One proxy, one upstream; a test gets it with an upstream that has forgotten the test before."""

    def __init__(self, kind: str, front: Front, upstream: Upstream) -> None:
        self.kind = kind
        self.front = front
        self.upstream = upstream
        self._fences = itertools.count()
        self._clients: list[Client] = []

    def connect(self, **options: Any) -> Client:
        """A client's connection to the proxy."""
        client = Client(self.front.port, **options)
        self._clients.append(client)
        return client

    def reset(self) -> None:
        """Forget the test before: its clients go, the upstream behaves."""
        for client in self._clients:
            client.close()
        self._clients.clear()
        self.upstream.reset()

    def ask(self, raw: bytes, *, method: str = "GET", script: Script | None = None) -> Response:
        """Send exactly ``raw`` on a connection of its own; the first answer."""
        if script:
            self.upstream.script = script
        with self.connect() as client:
            return client.send(raw).answer(method)

    def get(self, target: str = "/", *lines: str | bytes, script: Script | None = None) -> Response:
        """An ordinary GET."""
        return self.ask(request("GET", target, *lines), script=script)

    def seen(self) -> list[Request]:
        """What the upstream has seen, when all that was sent before this has had its time to arrive."""
        with self.connect() as client:
            answer = client.send(request("GET", f"{FENCE.decode()}-{next(self._fences)}")).answer()
        assert answer.status == 200, f"the next request got {answer.status or 'nothing'}"
        return list(self.upstream.requests)

    def complete(self) -> list[Request]:
        """Of these, the complete ones."""
        return [request for request in self.seen() if request.complete]

    @contextlib.contextmanager
    def another(
        self,
        *,
        upstream: str | None = None,
        port: int | None = None,
        settings: dict[str, object] | None = None,
        **limits: Any,
    ) -> Iterator[Proxied]:
        """The same kind of proxy with other limits, before the same upstream or the one at HOST:PORT."""
        with (
            tempfile.TemporaryDirectory(prefix=f"crossfade-{self.kind}-") as folder,
            KINDS[self.kind](
                upstream or self.front.upstream,
                Path(folder),
                dataclasses.replace(self.front.limits, **limits),
                settings=settings,
                port=port,
            ) as front,
        ):
            other = Proxied(self.kind, front, self.upstream)
            try:
                yield other
            finally:
                for client in other._clients:
                    client.close()


@contextlib.contextmanager
def proxied(kind: str) -> Iterator[Proxied]:
    """Start an upstream and a proxy of ``kind`` before it."""
    with (
        Upstream() as upstream,
        tempfile.TemporaryDirectory(prefix=f"crossfade-{kind}-") as folder,
        KINDS[kind](f"127.0.0.1:{upstream.port}", Path(folder), Limits()) as front,
    ):
        yield Proxied(kind, front, upstream)


def refused(proxy: Proxied, raw: bytes, *statuses: int, closes: bool = True) -> None:
    """``raw`` is answered with one of ``statuses`` (or cut off), no complete request goes on, the connection ends."""
    with proxy.connect() as client:
        answer = client.send(raw).answer()
        gone = client.gone(within=0.7) if closes else True
    passed = [seen for seen in proxy.seen() if seen.complete]
    assert not passed, f"went on as {told(passed)}, client got {answer.status or 'a close'}"
    allowed = {*(statuses or (400,)), 0}
    assert answer.status in allowed, f"client got {answer.status}"
    assert gone, f"{answer.status}, connection left open"


def told(requests: list[Request]) -> str:
    """Requests in a few words."""
    words = []
    for seen in requests:
        size = f" {seen.length} bytes" if seen.framing != "none" else ""
        words.append(f"{seen.method} {seen.framing}{size}" + ("" if seen.complete else " incomplete"))
    return ", ".join(words) or "nothing"


def word(response: Response) -> str:
    """A response in a few words."""
    if not response.status:
        return "a close"
    return f"{response.status}" + ("" if response.complete else " cut short")
