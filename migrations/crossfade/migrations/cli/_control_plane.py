"""A control plane asked over HTTP, in the name of a credential: what the bus alone cannot prove."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from crossfade.shim.errors import (
    BusAmbiguousError,
    BusUnavailableError,
    ConfigurationError,
    MissingExtraError,
    WorkflowRefusedError,
)

if TYPE_CHECKING:
    from collections.abc import Generator

CREDENTIAL: Final = "CROSSFADE_CREDENTIAL"
"""The variable that holds the credential: an argument would show in ``ps`` and in the shell's history."""

_PATIENCE: Final = 30.0  # seconds for an answer; the control plane waits for the bus


class ControlPlane:
    """Requests to one control plane."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def answer(self, instance: str, step: str, answer: str, *, comment: str, data: Any) -> dict[str, Any]:
        """Answer an approval; ``instance`` is an id, or the beginning of that of one which waits there.

        Raises ``WorkflowRefusedError``, ``ConfigurationError``, ``BusError``.
        """
        asking = self._ask("GET", "/api/v1/approvals")
        begun = sorted({each["instance"] for each in asking if each["instance"].startswith(instance)})
        if len(begun) != 1:
            waiting = "".join(f"\n  {each['instance']} {each['step']}" for each in asking) or " none"
            many = "no instance" if not begun else f"{len(begun)} instances"
            raise WorkflowRefusedError(f"{instance!r} begins {many} with an approval to give; there wait:{waiting}")
        body = {"answer": answer, "comment": comment, "data": data}
        found: dict[str, Any] = self._ask("POST", f"/api/v1/approvals/{begun[0]}/{step}", json=body)
        return found

    def _ask(self, method: str, path: str, **more: Any) -> Any:
        import httpx  # noqa: PLC0415 - the extra; whoever made the client has it

        try:
            answer = self._client.request(method, path, **more)
        except httpx.ConnectError as error:
            raise BusUnavailableError(f"no control plane answers at {self._client.base_url}: is it running?") from error
        except httpx.TransportError as error:
            raise BusAmbiguousError(
                f"the control plane at {self._client.base_url} did not say what became of it: look before you try again"
            ) from error
        if answer.is_success:
            return answer.json()
        detail = _detail(answer)
        if answer.status_code == 401:
            raise ConfigurationError(f"the control plane knows no such credential: {detail}", where=CREDENTIAL)
        if answer.status_code >= 500:
            raise BusUnavailableError(f"the control plane answers {answer.status_code}: {detail}")
        raise WorkflowRefusedError(detail)


@contextmanager
def control_plane(url: str) -> Generator[ControlPlane]:
    """The control plane at ``url``, as who the credential of the environment belongs to.

    Raises ``ConfigurationError`` where there is none, and ``MissingExtraError``.
    """
    credential = os.environ.get(CREDENTIAL, "")
    if not credential:
        raise ConfigurationError("is not set: crossfade control access NAME makes a credential", where=CREDENTIAL)
    try:
        import httpx  # noqa: PLC0415 - the extra
    except ImportError as error:
        raise MissingExtraError("proxy", needed_for="--control") from error
    headers = {"Authorization": f"Bearer {credential}"}
    try:
        client = httpx.Client(base_url=url, headers=headers, timeout=_PATIENCE)
    except (httpx.InvalidURL, ValueError) as error:
        raise _no_url(url) from error
    with client:
        if client.base_url.scheme not in {"http", "https"}:
            raise _no_url(url)
        yield ControlPlane(client)


def _no_url(url: str) -> ConfigurationError:
    return ConfigurationError(f"{url!r} is no URL: like http://127.0.0.1:8081", where="--control")


def _detail(answer: Any) -> str:
    """What a problem says to do, or all that is known."""
    try:
        return str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return f"{answer.status_code} {answer.reason_phrase}: is this a control plane?"
