"""Where the events of a workflow travel, and who consumes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from crossfade.shim.subjects import seam_from_token, seam_token

if TYPE_CHECKING:
    from crossfade.shim.subjects import Subjects

SIGNALLED: Final = "workflow.signalled"
"""The type of a person's word to an instance."""


def shard(workflow: str) -> str:
    """The first token of its calls' subjects: its engines hear how their calls end, and nobody else's."""
    return f"w-{seam_token(workflow)}"


def of_shard(token: str) -> str | None:
    """The workflow whose calls have this first token, ``None`` for calls of no workflow."""
    return seam_from_token(token.removeprefix("w-")) if token.startswith("w-") else None


def results(subjects: Subjects, workflow: str) -> str:
    """The filter of how the calls of all its instances ended."""
    return f"{subjects.prefix}.{shard(workflow)}.*.*.*.*.*.*.result"


def signals(subjects: Subjects, workflow: str, *, tenant: str | None = None, user: str | None = None) -> str:
    """Where people's words to its instances go."""
    return subjects.fact(f"workflow.signal.{workflow}", tenant=tenant, user=user)


def answers(subjects: Subjects, *, tenant: str | None = None, user: str | None = None) -> str:
    """Where the control plane passes on who answered an approval: one subject of all workflows.

    A broker's permission is then one line: whoever may not publish here may claim to be anybody and is not believed.
    """
    return subjects.fact("workflow.answer", tenant=tenant, user=user)


def any_of(subject: str, subjects: Subjects) -> str:
    """The filter of a fact's subject for every tenant and user."""
    return f"{subjects.prefix}e.*.*.{subject.rpartition('.')[2]}"


def group(workflow: str, what: str) -> str:
    """The durable group of its engines for ``results``, ``signals`` or a type of event.

    Upper-case letters part them: no name has any.
    """
    return f"workflow-{seam_token(workflow)}-ON-{seam_token(what)}"
