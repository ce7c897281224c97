"""Every event a domain names is one that the table of types knows, in its role."""

from __future__ import annotations

from typing import get_args

import pytest

from crossfade.shim import domains
from crossfade.shim.events import TYPES

ENDED = get_args(domains.Ended)


@pytest.mark.parametrize("domain", ["tool", "agent", "http"])
def test_a_domains_events_are_known_by_their_roles(domain):
    """A command, an answer for every end, progress and an observation."""
    assert TYPES[domains.command_type(domain)] == "command"
    assert TYPES[domains.progress_type(domain)] == "progress"
    assert TYPES[domains.observed_type(domain)] == "observation"
    assert {TYPES[domains.answer_type(domain, ended)] for ended in ENDED} == {"answer"}


def test_only_an_agents_answer_says_how_it_ended():
    """A tool's and a request's terminal has one type, so that its subject is known before it is there."""
    assert [len({domains.answer_type(domain, ended) for ended in ENDED}) for domain in ("tool", "http", "agent")] == [
        1,
        1,
        3,
    ]


def test_no_two_domains_share_a_type():
    """What arrives says by its type which domain it is of."""
    names = [
        name
        for domain in ("tool", "agent", "http")
        for name in {
            domains.command_type(domain),
            domains.progress_type(domain),
            domains.observed_type(domain),
            *(domains.answer_type(domain, ended) for ended in ENDED),
        }
    ]
    assert len(names) == len(set(names))
