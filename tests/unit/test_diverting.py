"""A streamed answer waits for its client in bounded memory."""

from __future__ import annotations

from concurrent.futures import Future

from crossfade.shim import diverting
from crossfade.shim.events import Event


def _piece(size):
    return Event(type="http.chunk", source="urn:x", data=b"x" * size)


async def test_a_stream_that_nobody_reads_is_kept_up_to_a_bound_and_then_lost():
    """Pieces of 64 KiB, then the end: no more than 4 MiB of them are kept, and the end is."""
    waiting = diverting._Waiting()
    for _ in range(1000):
        waiting.put(_piece(64 * 1024))
    assert waiting.lost
    ended: Future = Future()
    waiting.put(ended)
    kept = 0
    while (item := await waiting.get()) is not ended:
        kept += len(item.data)
    assert 3 * 1024 * 1024 < kept <= 4 * 1024 * 1024 + 64 * 1024


async def test_a_stream_that_is_read_has_room_again():
    """However long it is, and its pieces however small."""
    waiting = diverting._Waiting()
    for _ in range(3000):
        waiting.put(_piece(3))
        waiting.put(_piece(64 * 1024))
        await waiting.get()
        await waiting.get()
    assert not waiting.lost
