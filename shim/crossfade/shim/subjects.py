"""Where events travel: subjects of fixed depth, so that a filter is cheap and a look-up needs no scan.

    calls         {p}.{shard}.{tenant}.{user}.{domain}.{seam}.{run}.{callid}.{invoke|own|result}
    observations  {p}o.{tenant}.{seam}.{observed|shadow}
    verdicts      {p}v.{tenant}.{seam}
    UI            {p}ui.{tenant}.{user}.{run}.{type}
    facts         {p}e.{tenant}.{user}.{type}
    dead letters  {p}dlq.{tenant}.{group}
    control       {p}ctl.{...}
    replies       {p}r.{instance}        (outside every stream)

A token is ``[A-Za-z0-9_]+``; any other value is replaced by a hash (the clear value travels as an attribute).
``-`` stands for "none"; ``.`` in a seam or type becomes ``-``, which those names may not contain.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from typing import Final, Literal

from .errors import ConfigurationError, MalformedEventError, SeamDefinitionError

NONE: Final = "-"

Domain = Literal["tool", "agent", "http", "workflow"]
CallKind = Literal["invoke", "own", "result"]

_TOKEN = re.compile(r"[A-Za-z0-9_]{1,64}\Z")
_SEAM = re.compile(r"[a-z0-9_]+(\.[a-z0-9_]+)*\Z")
_PREFIX = re.compile(r"[a-z][a-z0-9_]{0,31}\Z")
_GROUP = re.compile(r"[A-Za-z0-9_-]{1,200}\Z")
_MAX_SEAM = 128  # keeps the whole subject under 400 bytes, far below the server's 4 KiB control line


def token(value: str | None) -> str:
    """``value`` as one subject token: itself when it is one, ``-`` when empty, else ``h_`` and a hash of it.

    A value that itself looks like a hashed token is hashed again, so two values never share a token.
    """
    if not value:
        return NONE
    if _TOKEN.match(value) and not value.startswith("h_"):
        return value
    digest = hashlib.sha256(value.encode("utf-8", "surrogatepass")).digest()[:20]
    return "h_" + base64.b32encode(digest).decode().lower()


def check_seam(name: str) -> str:
    """``name`` when it is a seam name, else ``SeamDefinitionError`` saying what one looks like."""
    if len(name) > _MAX_SEAM or not _SEAM.match(name):
        raise SeamDefinitionError(
            f"{name!r} is no seam name: use lower-case words of a-z, 0-9 and _ joined by dots, "
            f"like 'web.search', {_MAX_SEAM} characters at most"
        )
    return name


def seam_token(name: str) -> str:
    """A seam's subject token: ``web.search`` -> ``web-search``."""
    return check_seam(name).replace(".", "-")


def check_group(name: str) -> str:
    """``name`` when it can name a durable consumer on every bus, else ``ConfigurationError``."""
    if not _GROUP.match(name):
        raise ConfigurationError(f"{name!r} is no consumer group: use A-Z, a-z, 0-9, _ and -", where="group")
    return name


def seam_from_token(value: str) -> str:
    """The inverse of ``seam_token``."""
    return value.replace("-", ".")


@dataclass(frozen=True, kw_only=True, slots=True)
class CallSubject:
    """The parts of one call's subjects, already tokens."""

    shard: str
    tenant: str
    user: str
    domain: str
    seam: str
    run: str
    callid: str
    kind: str


@dataclass(frozen=True, slots=True)
class Subjects:
    """Builds and reads every subject under one prefix ``p`` (default ``cf``).

    Two installations that share a broker differ in their prefix. Raises ``ConfigurationError`` for a prefix
    that is not ``[a-z][a-z0-9_]*`` of at most 32 characters.
    """

    prefix: str = "cf"

    def __post_init__(self) -> None:
        if not _PREFIX.match(self.prefix):
            raise ConfigurationError(
                f"{self.prefix!r} is no prefix: use a-z, 0-9 and _, starting with a letter, 32 at most",
                where="prefix",
            )

    def call(
        self,
        kind: CallKind,
        *,
        domain: Domain,
        seam: str,
        run: str,
        callid: str,
        tenant: str | None = None,
        user: str | None = None,
        shard: str = "0",
    ) -> str:
        """The subject of one message of one call."""
        return (
            f"{self.prefix}.{shard}.{token(tenant)}.{token(user)}.{domain}.{seam_token(seam)}."
            f"{token(run)}.{token(callid)}.{kind}"
        )

    def parse_call(self, subject: str) -> CallSubject:
        """The parts of a call's subject; ``MalformedEventError`` (reason ``subject``) for another subject."""
        parts = subject.split(".")
        if len(parts) != 9 or parts[0] != self.prefix:
            raise MalformedEventError(f"{subject!r} is no call subject of {self.prefix!r}", reason="subject")
        _, shard, tenant, user, domain, seam, run, callid, kind = parts
        return CallSubject(
            shard=shard,
            tenant=tenant,
            user=user,
            domain=domain,
            seam=seam,
            run=run,
            callid=callid,
            kind=kind,
        )

    def commands(self, domain: Domain, seam: str) -> str:
        """The filter a worker consumes: every command of one seam."""
        return f"{self.prefix}.*.*.*.{domain}.{seam_token(seam)}.*.*.invoke"

    def results(self, domain: str, seam: str) -> str:
        """The filter of how the calls of one seam ended."""
        return f"{self.prefix}.*.*.*.{domain}.{seam_token(seam)}.*.*.result"

    def logged(self, domain: str, seam: str, kind: CallKind) -> str:
        """The filter of one kind of message of a seam's calls in the log, which keeps them without run and call id."""
        return f"{self.prefix}log.*.*.{domain}.{seam_token(seam)}.{kind}"

    def call_filter(self, kind: CallKind) -> str:
        """The filter of one kind of message of every call."""
        return f"{self.prefix}.*.*.*.*.*.*.*.{kind}"

    def run(self, run: str) -> str:
        """The filter of everything one run did."""
        return f"{self.prefix}.*.*.*.*.*.{token(run)}.>"

    def of_call(self, callid: str, kind: CallKind | Literal["*"] = "*") -> str:
        """The filter of one call's messages when only its id is known."""
        return f"{self.prefix}.*.*.*.*.*.*.{token(callid)}.{kind}"

    def observation(self, seam: str, *, tenant: str | None = None, shadow: bool = False) -> str:
        """Where an observation goes; ``shadow`` marks the ones a shadow worker compares."""
        return f"{self.prefix}o.{token(tenant)}.{seam_token(seam)}.{'shadow' if shadow else 'observed'}"

    def observations(self, seam: str | None = None, *, kind: str = "*") -> str:
        """The filter of observations, of one seam or all."""
        return f"{self.prefix}o.*.{seam_token(seam) if seam else '*'}.{kind}"

    def verdict(self, seam: str, *, tenant: str | None = None) -> str:
        """Where ``seam.compared`` goes: apart from other facts, since there are as many as compared calls."""
        return f"{self.prefix}v.{token(tenant)}.{seam_token(seam)}"

    def verdicts(self, seam: str | None = None) -> str:
        """The filter of verdicts, of one seam or all."""
        return f"{self.prefix}v.*.{seam_token(seam) if seam else '*'}"

    def ui(self, event_type: str, *, run: str, tenant: str | None = None, user: str | None = None) -> str:
        """Where the UI's projection of an event goes."""
        return f"{self.prefix}ui.{token(tenant)}.{token(user)}.{token(run)}.{event_type.replace('.', '-')}"

    def ui_run(self, run: str, *, tenant: str | None = None, user: str | None = None) -> str:
        """The filter of what the UI sees of one run."""
        return f"{self.prefix}ui.{token(tenant)}.{token(user)}.{token(run)}.>"

    def fact(self, event_type: str, *, tenant: str | None = None, user: str | None = None) -> str:
        """Where triggers and seam news go."""
        return f"{self.prefix}e.{token(tenant)}.{token(user)}.{event_type.replace('.', '-')}"

    def dead_letter(self, group: str, *, tenant: str | None = None) -> str:
        """Where a command goes that cannot be processed; ``group`` is the consumer that gave up."""
        return f"{self.prefix}dlq.{token(tenant)}.{check_group(group)}"

    def reply(self, instance: str) -> str:
        """The address a process listens on for replies; no stream may capture it."""
        return f"{self.prefix}r.{token(instance)}"

    @property
    def replies(self) -> str:
        """The filter of all reply addresses."""
        return f"{self.prefix}r.>"


def matches(pattern: str, subject: str) -> bool:
    """Whether ``subject`` is selected by ``pattern``, where ``*`` is one token and a last ``>`` one or more."""
    wanted = pattern.split(".")
    given = subject.split(".")
    for index, part in enumerate(wanted):
        if part == ">":
            return len(given) > index
        if index >= len(given) or part not in ("*", given[index]):
            return False
    return len(wanted) == len(given)
