"""What is known of the conformance suite's outcomes: what is open, mutants, reasons, what is missing."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path(__file__).parents[1] / "conformance" / "peers.json"
AS_ASSERTED = "as asserted"
# Mutant -> tests that must fail on it; they must pass on "mended", the same proxy without its bugs.
CAUGHT = {
    "naive": {
        "test_01_length_and_chunked_are_never_both_sent_on",
        "test_18_a_chunked_upload_cut_short_is_not_completed",
    },
}
# What ours does not do yet: test -> reason. One that passes fails the run until it is taken out.
OPEN: dict[str, str] = {}
# Case -> why ours is as it is, where a peer does otherwise.
REASONS = {
    5: "Whoever frames HTTP/1.0 by chunks is confused: the connection ends, so that no second reading is possible.",
    6: "A number that two parsers may read differently is refused, also when the value is harmless.",
    7: "A bare LF is where one parser sees a chunk's end and another does not; there is no client that needs it.",
    9: "Refused: folding has been deprecated since 2014, and joining changes bytes that a signature may cover.",
    10: "400 says who is wrong; letting the upstream refuse it makes a 502 of a client's mistake.",
    11: "`Connection` names the sender's own hop-by-hop headers (RFC 9110, 7.6.1); all of them end here.",
    12: "A trailer that frames, routes or authorises is dropped: the next reader may merge it into the headers.",
    13: "Two lengths are two answers; a repaired message is a guess that a cache may keep.",
    14: "A line end inside a value is an injected header for the next reader.",
    20: "Routing, logs and the upstream must read one and the same authority; what is none is refused.",
    21: "RFC 9112, 3.2.2: an absolute target's authority replaces Host.",
    22: "A target that this server cannot mean is refused here, not by whoever is behind.",
    25: "A raw byte is refused before two components can disagree about it.",
    26: "Which methods exist is the upstream's business.",
    27: "414, 431 and 413 name the limit that was passed, as RFC 6585 and RFC 9110 have them.",
    28: "Hop-by-hop headers end at each hop, in both directions.",
    31: "A header that an upstream may believe is ours to set; a client that nobody trusts sets none of them.",
    33: "The upstream's own Date, Server and spelling stay: legacy clients read them.",
    35: "Via shows a loop, and what an answer has come through (RFC 9110, 7.6.3 requires it).",
    38: "Nothing final came: 502, and no body that looks like an answer.",
    39: "Asking for a body that the upstream would refuse sends it for nothing; an unknown expectation is 417.",
    43: "Chunks mean nothing to an HTTP/1.0 client.",
    51: "A half close is how some clients say that the request is whole (RFC 9112, 9.6); they still listen.",
    52: "502 is refused, 504 is no answer in time: whoever reads the metric can tell them apart.",
    54: "Every phase has its own limit, and the limit for idling is not cut by another.",
    55: "A GET may be sent again when nothing of the answer was read; a refusal there is an error nobody deserves.",
    56: "502 says that the upstream failed; 503 that it is busy, which invites a retry that may double an effect.",
    58: "A bounded wait, then 503 with Retry-After: an endless queue only moves the timeout to the client.",
    59: "NTLM and Negotiate authenticate a connection, so that one is never shared: it is closed, and no "
    "login of two steps passes.",
    61: "A drain that cuts an answer in flight is no drain. A tunnel is opaque, so WebSockets end without a 1001.",
    64: "A 101 that nobody asked for, or to another protocol, would open a tunnel into the upstream.",
    69: "Bytes behind a handshake belong to the tunnel, and to nothing else; each direction ends for itself.",
}
# What only more than a port can show, by case.
ELSEWHERE = {
    46: "ten minutes of heartbeats: here 2.4 s at a limit of 1 s",
    50: "no breaker, health strike or stage gate counts a client that left: needs a route with a stage",
    60: "shadow with a hung, slow or resetting candidate, bounded mirror: needs a route at shadow",
    62: "stage flips under load, sticky canary: tests/integration/proxy/test_stage_changes.py; reloads are tested here",
    63: "stage state and gate metrics after kill -9: needs the bus; the port's part is tested here",
}
