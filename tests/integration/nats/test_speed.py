"""What the adapter costs beside a bare client, measured in the same run, interleaved."""

from __future__ import annotations

import gc
import statistics
import time

import nats

from crossfade.shim.bindings import to_nats

ROUNDS, EACH = 9, 150


async def test_a_publish_costs_little_more_than_a_bare_one(bus, nats_server, command, event):
    """The median acknowledged publish takes at most 1.3 times a bare js.publish with the same headers."""
    name = f"{command.partition('.')[0].upper()}_CMD"
    async with await nats.connect(nats_server.url) as client:
        js = client.jetstream()

        async def bare(sent):
            headers = {**to_nats(sent), "Nats-Msg-Id": sent.id, "Nats-Expected-Stream": name}
            await js.publish(command, sent.data, headers=headers)

        async def bare_with_ready_headers(sent, headers):
            await js.publish(command, sent.data, headers={**headers, "Nats-Msg-Id": sent.id})

        ready = {**to_nats(event()), "Nats-Expected-Stream": name}
        times = {"ours": [], "bare": [], "ready": []}
        for _ in range(ROUNDS):
            gc.collect()
            for kind, found in times.items():
                for _ in range(EACH):
                    sent = event(data=b"x" * 500, correlationid="c" * 32, callid="d" * 32, tenantid="acme")
                    started = time.perf_counter()
                    if kind == "ours":
                        await bus.publish(command, sent)
                    elif kind == "bare":
                        await bare(sent)
                    else:
                        await bare_with_ready_headers(sent, ready)
                    found.append(time.perf_counter() - started)
    middle = {kind: statistics.median(found) * 1e6 for kind, found in times.items()}
    print("publish p50, us:", {kind: round(value) for kind, value in middle.items()})
    print(f"ratio {middle['ours'] / middle['bare']:.2f}, headers ready {middle['ours'] / middle['ready']:.2f}")
    assert middle["ours"] <= 1.3 * middle["ready"]
