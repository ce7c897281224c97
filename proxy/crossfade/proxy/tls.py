"""TLS on both sides: contexts made once, from files, with today's defaults."""

from __future__ import annotations

import ssl
from functools import cache
from typing import Final

from crossfade.shim.errors import ConfigurationError

_NO_PASSWORD: Final = ""
"""An encrypted key is refused: without this OpenSSL would ask for its password, and wait, at a terminal."""


def server_context(certificate: str, key: str = "", *, client_ca: str = "") -> ssl.SSLContext:
    """What the listener shows: a ``certificate`` chain and its ``key`` (PEM paths; the key may be in the same file).

    With ``client_ca`` only clients whose certificate it signed get in. HTTP/1.1 is the one protocol offered.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key or None, password=_NO_PASSWORD)
        if client_ca:
            context.load_verify_locations(client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise _unusable(error, "tls", certificate, key, client_ca) from error
    return context


@cache
def upstream_context(ca: str = "", certificate: str = "", key: str = "") -> ssl.SSLContext:
    """How upstreams are believed: by the system's authorities, or by ``ca`` alone; shown ``certificate`` if asked.

    One context per setting: connections of different identities never share a pool, because pools have one target list.
    """
    try:
        context = ssl.create_default_context(cafile=ca or None)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if certificate:
            context.load_cert_chain(certificate, key or None, password=_NO_PASSWORD)
    except (OSError, ssl.SSLError) as error:
        raise _unusable(error, "upstream tls", ca, certificate, key) from error
    return context


def _unusable(error: OSError, where: str, *files: str) -> ConfigurationError:
    """OpenSSL's words do not say which file it minds, nor what to do: all of them are named."""
    named = ", ".join(file for file in files if file)
    reason = (error.reason if isinstance(error, ssl.SSLError) else error.strerror) or str(error)
    return ConfigurationError(
        f"the certificate cannot be used ({reason}): check that each file is PEM, that the key is the certificate's "
        "and has no password, and that this user may read them",
        where=f"{where}: {named}",
    )
