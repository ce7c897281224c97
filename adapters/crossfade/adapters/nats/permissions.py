"""What each user of a NATS server needs, and no more: roles in our words, made into the server's permissions.

Rules
- Only allow lists: what is not named is refused. ``withheld`` takes out of them what lies inside a wider pattern.
- Subjects, streams and buckets come from the functions that make them elsewhere; none is spelt here a second time.
- A NATS permission names subjects, and a JetStream request names its stream and its consumer there, never what it
  selects. So who reads one event of a stream can read all of it, and who may read or take by a consumer can reach
  every consumer of that stream by its name: pull from it, change it, delete it.
- No direct gets: their answers are what somebody stored, and the server sends an answer to whatever subject the request
  names, unchecked. All other answers are the server's own words.
- Nobody deletes, purges or restores a stream, or makes a snapshot of one.
- An acknowledgement is a message to ``$JS.ACK``, with the account's domain before the stream or without.

Sources: nats-server 2.15.1; docs of NATS on authorization and on JetStream's wire API.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ._objects import objects_bucket
from ._streams import Stream, advisory_stream, definitions, state_stream, stream_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_API: Final = "$JS.API"

Family = str
"""What follows the prefix in a stored subject's first token: ``""`` for calls, ``o``, ``v``, ``ui``, ``e``, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Role:
    """What one kind of process does on the bus.

    ``publishes`` and ``hears`` are subjects, ``withheld`` those in ``publishes`` that it may not after all. Of streams,
    by family: ``looks`` up the last event of a subject, ``reads`` on from a place, ``takes`` and acknowledges
    deliveries. Of state buckets: ``sees`` and ``keeps`` (reads and writes). Of large payloads: ``gets`` and ``puts``.
    ``reaps``: makes dead letters of deliveries whose workers died. ``prepares``: makes streams and buckets.
    """

    name: str
    purpose: str
    publishes: Sequence[str] = ()
    withheld: Sequence[str] = ()
    hears: Sequence[str] = ()
    looks: Sequence[Family] = ()
    reads: Sequence[Family] = ()
    takes: Sequence[Family] = ()
    sees: Sequence[str] = ()
    keeps: Sequence[str] = ()
    gets: bool = False
    puts: bool = False
    reaps: bool = False
    prepares: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """A user of the server: the patterns it may publish to and subscribe to, and the inbox that is its own."""

    name: str
    purpose: str
    inbox: str
    publish: Sequence[str]
    withheld: Sequence[str]
    subscribe: Sequence[str]


def user(role: Role, prefix: str) -> User:
    """``role`` as a user of the installation ``prefix``."""
    inbox = f"_INBOX_{role.name}"
    publish = [
        f"{inbox}.>",  # a message to itself tells that a connection is alive
        *role.publishes,
        *_of_streams(role, prefix),
        *_of_buckets(role, prefix),
        *_of_objects(role, prefix),
        *(_of_reaping(prefix) if role.reaps else ()),
        *(_of_preparing(role, prefix) if role.prepares else ()),
    ]
    hints = [subject for bucket in (*role.sees, *role.keeps) for subject in _bucket(bucket, prefix).config["subjects"]]
    return User(
        name=role.name,
        purpose=role.purpose,
        inbox=inbox,
        publish=list(dict.fromkeys(publish)),
        withheld=list(role.withheld),
        subscribe=list(dict.fromkeys([f"{inbox}.>", *role.hears, *hints])),
    )


def _of_streams(role: Role, prefix: str) -> Iterator[str]:
    """Every process looks whether the streams are safe; the rest by role."""
    yield f"{_API}.STREAM.NAMES"
    for stream in definitions(prefix, 1):
        yield f"{_API}.STREAM.INFO.{stream.name}"
    names = stream_names(prefix)
    for family in (*role.looks, *role.reads, *role.takes):
        yield f"{_API}.STREAM.MSG.GET.{names[prefix + family]}"
    for family in (*role.reads, *role.takes):
        for request in ("CREATE", "DELETE", "INFO", "MSG.NEXT"):
            yield f"{_API}.CONSUMER.{request}.{names[prefix + family]}.*"
    for family in role.takes:
        yield f"$JS.ACK.{names[prefix + family]}.>"
        yield f"$JS.ACK.*.*.{names[prefix + family]}.>"


def _bucket(name: str, prefix: str) -> Stream:
    return state_stream(f"{prefix}_{name}", 1)


def _of_buckets(role: Role, prefix: str) -> Iterator[str]:
    for name in (*role.sees, *role.keeps):
        stream = _bucket(name, prefix).name
        yield f"{_API}.STREAM.INFO.{stream}"
        yield f"{_API}.STREAM.MSG.GET.{stream}"
    for name in role.keeps:
        yield from _bucket(name, prefix).config["subjects"]


def _of_objects(role: Role, prefix: str) -> Iterator[str]:
    """nats-py puts pieces (``C``) and their description (``M``), and gets by a consumer that it names or not."""
    bucket = objects_bucket(prefix)
    stream = f"OBJ_{bucket}"
    if role.puts:
        yield from (f"$O.{bucket}.C.>", f"$O.{bucket}.M.>")
    if role.gets or role.puts:
        yield from (f"{_API}.STREAM.INFO.{stream}", f"{_API}.STREAM.MSG.GET.{stream}")
    if role.gets:
        yield from (f"{_API}.CONSUMER.CREATE.{stream}", f"{_API}.CONSUMER.CREATE.{stream}.>")
        yield from (f"{_API}.CONSUMER.DELETE.{stream}.*", f"$JS.FC.{stream}.>")


def _of_preparing(role: Role, prefix: str) -> Iterator[str]:
    """Streams and buckets, of this prefix and of no other."""
    for stream in definitions(prefix, 1):
        yield f"{_API}.STREAM.CREATE.{stream.name}"
    yield f"{_API}.STREAM.UPDATE.{advisory_stream(prefix)}"  # one of an older release lacks subjects
    for bucket in (*role.sees, *role.keeps):
        yield f"{_API}.STREAM.CREATE.{_bucket(bucket, prefix).name}"
    yield f"{_API}.STREAM.CREATE.OBJ_{objects_bucket(prefix)}"


def _of_reaping(prefix: str) -> Iterator[str]:
    """The broker's own notes are read and forgotten; what they name is looked up in the stream that held it."""
    advisories = advisory_stream(prefix)
    yield f"{_API}.STREAM.MSG.DELETE.{advisories}"
    for request in ("CREATE", "DELETE", "MSG.NEXT"):
        yield f"{_API}.CONSUMER.{request}.{advisories}.*"
    names = stream_names(prefix)
    for stream in (name for first, name in names.items() if first != f"{prefix}dlq"):
        yield f"{_API}.CONSUMER.LIST.{stream}"
        yield f"{_API}.CONSUMER.MSG.NEXT.{stream}.*"
        yield f"{_API}.STREAM.MSG.GET.{stream}"


def configuration(users: Iterable[User]) -> str:
    """The block of a nats-server's configuration with ``users``; passwords are variables of its environment."""
    blocks = "".join(_block(user) for user in users)
    return f"authorization {{\n  users: [\n{blocks}  ]\n}}\n"


def _block(user: User) -> str:
    withheld = f"        deny: [{_lines(user.withheld)}        ]\n" if user.withheld else ""
    return (
        f"    # {user.purpose}\n"
        f"    # Its bus URL: nats://{user.name}:PASSWORD@HOST:4222?inbox={user.inbox}\n"
        f"    {{ user: {user.name}, password: ${user.name.upper()}_PASSWORD, permissions: {{\n"
        f"      publish: {{\n        allow: [{_lines(user.publish)}        ]\n{withheld}      }}\n"
        f"      subscribe: {{\n        allow: [{_lines(user.subscribe)}        ]\n      }}\n"
        "    } }\n"
    )


def _lines(subjects: Sequence[str]) -> str:
    return "\n" + "".join(f'          "{subject}"\n' for subject in subjects)
