"""Which paths below ``/_crossfade/`` the world may ask the control plane for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crossfade.proxy.public import is_public


@pytest.mark.parametrize(
    "path", [b"/_crossfade/stream", b"/_crossfade/tasks/01ab", b"/_crossfade/tasks/01ab/result", b"/_crossfade/tasks/a"]
)
def test_streams_and_tasks_are(path):
    """The four paths of the control plane's public application."""
    assert is_public(path)


@pytest.mark.parametrize(
    "path",
    [
        b"/_crossfade/",
        b"/_crossfade/tasks",
        b"/_crossfade/tasks/",
        b"/_crossfade/stream/",
        b"/_crossfade/stream/../api",
        b"/_crossfade/streams",
        b"/_crossfade/STREAM",
        b"/_crossfade/%73tream",
        b"/_crossfade//stream",
        b"/_crossfade/api/v1/seams",
        b"/_crossfade/tasks/../api",
        b"/_crossfade/tasks/a/../../../api/v1/seams",
        b"/_crossfade/tasks/%2e%2e/%2e%2e/api",
        b"/_crossfade/tasks/..%2f..%2fapi",
        b"/_crossfade/tasks/..;/api",
        b"/_crossfade/tasks/..\\api",
        b"/_crossfade/tasks/a/..",
        b"/_crossfade/../api",
    ],
)
def test_nothing_else_is(path):
    """No spelling, dot segment or neighbour of them."""
    assert not is_public(path)


@given(st.lists(st.sampled_from(["/", "..", ".", "%2e", "%2F", "\\", "%5c", ";", "tasks", "stream", "api", "a"])))
def test_no_public_path_leads_anywhere_else_whoever_resolves_it(parts):
    """Decoded and resolved as the laxest server would, what is let through still is below the two prefixes."""
    path = "/_crossfade/tasks/" + "".join(parts)
    if is_public(path.encode()):
        plain = path.lower().replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace("\\", "/")
        assert not {".", ".."} & {part.partition(";")[0] for part in plain.split("/")}
