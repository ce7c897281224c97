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
# One fault in ours (``mutants.py`` puts it in) -> the tests, or variants of them, that must fail for it.
FAULTS: dict[str, set[str]] = {
    "no-via-to-the-upstream": {"test_35_via_is_appended_each_way"},
    "no-via-to-the-client": {"test_35_via_is_appended_each_way"},
    "listed-fields-stay": {"test_28_hop_by_hop_headers_end_here[X-Listed]"},
    "hop-by-hop-to-the-upstream": {
        "test_28_hop_by_hop_headers_end_here[Keep-Alive]",
        "test_28_hop_by_hop_headers_end_here[Proxy-Connection]",
        "test_28_hop_by_hop_headers_end_here[Proxy-Authorization]",
    },
    "hop-by-hop-to-the-client": {"test_28_hop_by_hop_headers_end_here[Proxy-Connection]"},
    "te-stays": {"test_28_te_trailers_may_stay", "test_28_hop_by_hop_headers_end_here[TE]"},
    "connection-takes-all": {"test_29_connection_cannot_take_away_the_proxys_own_headers[Host]"},
    "underscores-stay": {"test_30_a_header_with_an_underscore_is_dropped"},
    "strangers-are-trusted": {"test_31_a_strangers_forwarded_headers_are_overwritten[X-Forwarded-For]"},
    "nobody-is-trusted": {"test_31_a_trusted_peers_forwarded_headers_are_continued"},
    "repeated-fields-are-joined": {"test_32_repeated_headers_keep_their_order_and_count"},
    "a-user-agent-is-added": {"test_33_nothing_is_added_and_nothing_decoded"},
    "names-are-in-lower-case": {"test_33_names_keep_their_case"},
    "a-get-is-framed": {"test_34_a_get_without_body_stays_without"},
    "a-loop-is-not-seen": {"test_35_a_loop_ends"},
    "the-path-is-tidied": {
        f"test_23_the_path_goes_on_byte_by_byte[{path}]" for path in ("/a%2Fb", "//x", "/a/./b", "/a//b")
    },
    "any-host-will-do": {
        f"test_20_a_host_in_doubt_is_refused[{host}]" for host in ("a/b", "a?b", "u@a.test", "a,b", "a b")
    },
    "the-host-is-the-upstreams": {
        "test_21_one_authority_is_used_and_the_target_never_steers_the_dial",
        "test_70_origin_and_host_reach_the_upstream",
    },
    "the-expectation-is-not-read": {"test_39_an_unknown_expectation_is_a_417"},
    "length-and-coding-both-pass": {"test_01_length_and_chunked_are_never_both_sent_on"},
    "the-first-length-counts": {"test_02_two_lengths_that_differ_are_refused"},
    "any-length-will-do": {"test_03_a_length_that_is_no_number_is_refused[+5]"},
    "chunk-lines-end-anyhow": {
        f"test_06_a_chunk_size_that_is_none_never_completes[{size}]" for size in ("+5", "0x5", " 5", "5 ")
    },
    "forbidden-trailers-pass": {"test_12_a_trailer_never_becomes_a_header"},
    "trailers-are-lost": {"test_40_harmless_trailers_arrive"},
    "control-bytes-pass": {"test_10_a_control_byte_in_a_value_is_refused"},
    "an-answer-to-head-has-a-body": {"test_36_an_answer_to_head_ends_with_its_head"},
    "http-1-0-gets-chunks": {"test_43_an_http_1_0_client_gets_no_chunks"},
    "the-answer-is-buffered": {"test_46_every_event_comes_when_it_is_sent"},
    "the-request-is-buffered": {"test_47_both_directions_run_at_once"},
    "half-an-upload-is-completed": {"test_18_a_chunked_upload_cut_short_is_not_completed"},
    "a-client-that-leaves-is-not-noticed": {"test_50_a_client_that_leaves_frees_the_upstream"},
    "half-an-answer-is-completed": {
        "test_42_a_chunked_body_cut_short_gets_no_last_chunk",
        "test_42_bad_chunks_of_the_upstream_get_no_last_chunk",
    },
    "interim-answers-are-final": {"test_38_an_interim_answer_is_relayed_or_dropped"},
    "a-100-comes-unasked": {"test_39_a_refusal_comes_without_a_100", "test_39_http_1_0_gets_no_100"},
    "a-half-close-is-a-close": {"test_51_a_client_that_half_closes_still_gets_its_answer"},
    "a-slow-client-holds-nobody-back": {"test_48_a_slow_reader_holds_the_writer_back[answer]"},
    "a-slow-upstream-holds-nobody-back": {"test_48_a_slow_reader_holds_the_writer_back[upload]"},
    "a-post-is-sent-again": {"test_56_a_post_that_was_read_is_never_sent_again"},
    "a-post-is-sent-again-to-anybody": {
        "test_56_a_post_that_was_read_is_never_sent_again",
        "test_56_an_idempotency_key_does_not_make_it_legal",
    },
    "nothing-is-sent-again": {"test_55_a_get_on_a_stale_connection_is_answered"},
    "left-over-bytes-do-not-matter": {"test_15_bytes_after_the_answer_are_cut_and_the_connection_is_not_reused"},
    "logins-are-shared": {"test_59_a_connection_that_logs_in_is_not_shared"},
    "a-busy-upstream-is-a-502": {"test_58_one_too_many_waits_and_is_then_a_503"},
    "the-pool-has-no-bound": {"test_58_one_too_many_waits_and_is_then_a_503"},
    "the-second-target-is-never-tried": {"test_57_a_post_goes_to_the_second_target_when_the_first_refuses"},
    "clients-may-take-for-ever": {
        "test_54_a_client_that_keeps_it_waiting_is_ended",
        "test_54_an_idle_connection_is_ended",
    },
    "upstreams-may-take-for-ever": {
        "test_53_a_silent_upstream_is_a_504",
        "test_53_an_upstream_silent_in_its_body_is_cut",
    },
    "a-silent-upstream-is-a-502": {"test_53_a_silent_upstream_is_a_504"},
    "a-refused-connection-is-a-503": {"test_52_a_refused_connection_is_a_502"},
    "a-drain-cuts": {"test_61_a_drain_finishes_what_is_in_flight"},
    "a-drain-tells-nobody": {"test_61_a_keepalive_client_is_told_to_go"},
    "any-handshake-will-do": {"test_64_a_handshake_that_is_none_ends_here"},
    "any-101-will-do": {"test_64_a_bad_101_is_a_502[wrong protocol]"},
    "h2c-goes-on": {"test_16_an_upgrade_to_h2c_does_not_go_on"},
    "a-tunnel-has-one-end": {"test_69_a_half_closed_tunnel_still_carries_the_other_way"},
    "a-tunnel-never-ends": {"test_67_a_tunnel_that_is_silent_is_ended"},
    "a-tunnel-forgets-its-first-bytes": {"test_69_bytes_glued_behind_the_101_arrive"},
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
