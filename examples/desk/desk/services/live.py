"""Who looks at the page, and the token that opens their stream of events: for desks behind `crossfade control`."""

import re
import secrets
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from crossfade.proxy.control.tokens import Keyring
from desk.records import TENANT
from desk.services.http import Refusal, Reply

COOKIE = "desk_visitor"
TOKEN_LIFE = timedelta(minutes=10)
_VISITOR = re.compile(r"[0-9a-f]{32}\Z")


class Live:
    """Signs tokens with the control plane's key file; a visitor is whoever holds a cookie that nobody can guess."""

    def __init__(self, keys: Path) -> None:
        self._keys = keys

    def token(self, cookies: Mapping[str, str]) -> Reply:
        """A token for this visitor's stream; one who has no cookie yet gets it with the answer."""
        known = cookies.get(COOKIE, "")
        visitor = known if _VISITOR.match(known) else secrets.token_hex(16)
        # Read each time: after `crossfade control rotate` the newest key signs.
        token = Keyring.load(self._keys).mint(user=visitor, tenant=TENANT, ttl=TOKEN_LIFE)
        cookie = f"{COOKIE}={visitor}; Path=/; HttpOnly; SameSite=Strict"
        return Reply(content={"token": token}, headers={"Cache-Control": "no-store", "Set-Cookie": cookie})


def visitor(cookies: Mapping[str, str]) -> str:
    """Whose page asks; refuses with 400 who never asked for a token."""
    found = cookies.get(COOKIE, "")
    if not _VISITOR.match(found):
        raise Refusal(400, "no_visitor", "ask POST /stream-token first: it says who you are, and opens your stream")
    return found
