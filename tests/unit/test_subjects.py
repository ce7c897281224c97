from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from crossfade.shim.errors import ConfigurationError, MalformedEventError, SeamDefinitionError
from crossfade.shim.events import TYPES
from crossfade.shim.subjects import (
    CallSubject,
    Subjects,
    check_group,
    check_seam,
    matches,
    seam_from_token,
    seam_token,
    token,
)

LEGAL = re.compile(r"[A-Za-z0-9_]{1,64}|-")
anything = st.text() | st.from_regex(r"[A-Za-z0-9_]{1,70}", fullmatch=True) | st.from_regex(r"h_[a-z2-7]{1,40}")
seams = st.from_regex(r"[a-z0-9_]{1,6}(\.[a-z0-9_]{1,6}){0,4}", fullmatch=True)
domains = st.sampled_from(["tool", "agent", "http", "workflow"])
kinds = st.sampled_from(["invoke", "own", "result", "progress"])
parts = st.sampled_from(["a", "b", "cf", "-", "h_x"])
subjects = st.lists(parts, min_size=1, max_size=5).map(".".join)
filters = st.builds(
    lambda body, tail: ".".join([*body, *tail]),
    st.lists(parts | st.just("*"), min_size=1, max_size=4),
    st.sampled_from([[], [">"]]),
) | st.just(">")


def reference(pattern, subject):
    """The server's rule as a regular expression."""
    body = re.escape(pattern).replace(r"\*", r"[^.]+").replace(">", ".+")
    return re.fullmatch(body, subject) is not None


@given(anything)
@example("a.b")
@example("*")
@example(">")
@example("-")
@example("a\n")
@example("\ud800")
@example("٣")
def test_a_token_cannot_break_out_of_its_place(value):
    """Whatever a user is called, it is one token: no dot, wildcard, blank or control."""
    assert LEGAL.fullmatch(token(value))


@given(anything, anything)
@example("h_abc", "abc")
@example("-", "")
@example("Alice", "alice")
def test_two_values_never_share_a_token(one, other):
    """Isolation of users by subject holds only when tokens are injective."""
    assert (token(one) == token(other)) == (one == other)


@given(anything)
def test_a_hashed_token_is_never_somebodys_clear_name(value):
    """A user named like another's hash is hashed again."""
    hashed = token(value + "@example.com")
    assert hashed.startswith("h_")
    assert token(hashed) != hashed


def test_nobody_is_a_dash():
    """``None`` and the empty text stand for "none"."""
    assert token(None) == token("") == "-"


def test_tokens_never_change():
    """Another version must find the same subjects."""
    assert token("alice@example.com") == "h_76gzqgp4byjl6djerexelgd6esncrxhi"


@given(seams)
def test_a_seam_comes_back_from_its_token(name):
    """``.`` and ``-`` swap without loss."""
    assert seam_from_token(seam_token(name)) == name
    assert "." not in seam_token(name)


@given(seams, seams)
def test_two_seams_never_share_a_token(one, other):
    """Bijective, so a subject tells the seam."""
    assert (seam_token(one) == seam_token(other)) == (one == other)


@pytest.mark.parametrize("name", ["", ".", "a.", ".a", "a..b", "A", "a-b", "a b", "a*", "a.>", "ä", "a\n", "a" * 129])
def test_a_wrong_seam_name_is_refused_where_it_is_written(name):
    """A name that no subject can carry never reaches the bus."""
    with pytest.raises(SeamDefinitionError, match="seam name"):
        check_seam(name)


@given(kinds, domains, seams, st.tuples(anything, anything, anything, anything))
def test_a_call_subject_is_read_as_it_was_built(kind, domain, seam, values):
    """Every token of a call comes back from its subject."""
    run, callid, tenant, user = values
    names = Subjects("cf")
    subject = names.call(kind, domain=domain, seam=seam, run=run, callid=callid, tenant=tenant, user=user, shard="12")
    assert names.parse_call(subject) == CallSubject(
        shard="12",
        tenant=token(tenant),
        user=token(user),
        domain=domain,
        seam=seam_token(seam),
        run=token(run),
        callid=token(callid),
        kind=kind,
    )
    assert len(subject.encode()) < 600
    assert matches(names.run(run), subject)
    assert matches(names.of_call(callid), subject)
    assert matches(names.of_call(callid, kind), subject)
    assert matches(names.commands(domain, seam), subject) == (kind == "invoke")


@given(seams, seams)
def test_a_worker_gets_its_own_seams_commands_only(mine, other):
    """A filter selects one seam exactly, not those that begin like it."""
    names = Subjects()
    subject = names.call("invoke", domain="tool", seam=other, run="r", callid="c")
    assert matches(names.commands("tool", mine), subject) == (mine == other)


@pytest.mark.parametrize(
    "subject", ["", "cf", "cf.0.-.-.tool.a.r.c", "xx.0.-.-.tool.a.r.c.invoke", "cf.0.-.-.tool.a.r.c.invoke.x"]
)
def test_another_subject_is_no_call(subject):
    """Observations, other prefixes and broken subjects are refused by name."""
    with pytest.raises(MalformedEventError) as caught:
        Subjects("cf").parse_call(subject)
    assert caught.value.reason == "subject"


@given(filters, subjects)
@example("a.>", "a")
@example("a.*", "a")
@example("*", "a.b")
def test_a_filter_selects_what_the_server_would(pattern, subject):
    """``*`` is one token, a last ``>`` one or more."""
    assert matches(pattern, subject) == reference(pattern, subject)


@given(seams, st.none() | anything, st.booleans())
def test_observations_are_found_by_their_filters(seam, tenant, shadow):
    """A shadow worker sees shadow observations only; no user is in the subject."""
    names = Subjects("cf")
    subject = names.observation(seam, tenant=tenant, shadow=shadow)
    assert subject.count(".") == 3
    assert matches(names.observations(), subject)
    assert matches(names.observations(seam), subject)
    assert matches(names.observations(seam, kind="shadow"), subject) == shadow


@given(seams, seams, st.none() | anything)
def test_verdicts_are_found_by_their_seam(seam, other, tenant):
    """One seam's evidence is read without that of the others."""
    names = Subjects("cf")
    subject = names.verdict(seam, tenant=tenant)
    assert matches(names.verdicts(), subject)
    assert matches(names.verdicts(seam), subject)
    assert matches(names.verdicts(other), subject) == (seam == other)


@given(anything, st.sampled_from(sorted(TYPES)))
def test_kinds_of_traffic_never_overlap(value, event_type):
    """Each kind has its own first token, so streams and permissions can be separate."""
    names = Subjects("cf")
    firsts = [
        names.call("invoke", domain="tool", seam="a", run=value, callid=value, tenant=value, user=value),
        names.observation("a", tenant=value),
        names.verdict("a", tenant=value),
        names.ui(event_type, run=value, tenant=value, user=value),
        names.fact(event_type, tenant=value, user=value),
        names.dead_letter("workers", tenant=value),
        names.reply(value),
    ]
    assert len({subject.split(".")[0] for subject in firsts}) == len(firsts)
    assert [subject.count(".") for subject in firsts] == [8, 3, 2, 4, 3, 2, 1]
    assert matches(names.replies, firsts[-1])


@pytest.mark.parametrize("prefix", ["", "Cf", "1cf", "c.f", "c-f", "c*", "$cf", "c" * 33, "cf\n"])
def test_a_wrong_prefix_is_refused(prefix):
    """A prefix is one token that no broker reserves."""
    with pytest.raises(ConfigurationError, match="prefix"):
        Subjects(prefix)


@pytest.mark.parametrize("group", ["", "a.b", "a b", "a*", "a/b", "x" * 201, "a\n"])
def test_a_wrong_group_is_refused(group):
    """A consumer's name must be legal on every bus."""
    with pytest.raises(ConfigurationError, match="group"):
        check_group(group)
