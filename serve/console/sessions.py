"""Sessions: a key is exchanged for a cookie, which any replica accepts until it ends, or its key does.

The cookie is a random secret. The log keeps its hash, and a proof made of the secret and the key's hash: so the table
tells nobody a cookie, a row that somebody writes into it is no session, and one whose key was revoked, or is another
one now (`RAYCOMMEND_API_KEY`), ends with it. Tokens against forged requests are made of the secret, and kept nowhere.
"""

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from data.log.current import sessions
from data.log.store import Store
from serve.http.keys import ANYONE, KeyRing, Principal

SECRET_LENGTH: Final = 43
"""Characters of a secret: 256 bits in base64."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who looks at a page."""

    principal: Principal | None
    """None: they have not logged in."""
    secret: str
    """What their cookie has."""

    @property
    def token(self) -> str:
        """What a form must carry: another site's page cannot know it. "": this visitor can send none."""
        return _mac(self.secret, "form") if self.secret else ""

    def sends(self, token: str) -> bool:
        """Say whether a form with this token is of a page that this visitor was given."""
        own = self.token
        return bool(own) and hmac.compare_digest(token.encode("utf-8", "surrogateescape"), own.encode())


class Sessions:
    """Those of all replicas. Methods but `make_secret` block, and raise StoreError where the log does not answer."""

    def __init__(self, store: Store, keys: KeyRing, lifetime: timedelta) -> None:
        self._store, self._keys, self.lifetime = store, keys, lifetime

    def make_secret(self) -> str:
        """Return the secret of a visitor who has none."""
        return secrets.token_urlsafe(32)

    def find(self, secret: str | None) -> Visitor | None:
        """Return whose cookie this is; of one that is no session, a visitor who has not logged in; None: it is none."""
        if secret is None or len(secret) != SECRET_LENGTH:
            return None
        if self._keys.open:
            return Visitor(ANYONE, secret)
        session = sessions.find(self._store, _hash(secret))
        known = self._keys.find(session.key_id) if session else None
        if session is None or known is None or not hmac.compare_digest(session.proof, _mac(secret, known[1])):
            return Visitor(None, secret)
        return Visitor(known[0], secret)

    def begin(self, key: str) -> Visitor | None:
        """Begin a session, with a secret of its own; None: the key is nobody's."""
        self._keys.refresh()  # it may have been made just now
        principal = self._keys.authenticate(x_api_key=key)
        known = self._keys.find(principal.key_id) if principal else None
        if principal is None or known is None:
            return None
        secret = self.make_secret()
        sessions.begin(self._store, _hash(secret), principal.key_id, _mac(secret, known[1]), self.lifetime)
        return Visitor(principal, secret)

    def end(self, secret: str) -> None:
        """End a session, wherever else its cookie may be."""
        sessions.end(self._store, _hash(secret))


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _mac(secret: str, message: str) -> str:
    return hmac.new(secret.encode("utf-8", "surrogateescape"), message.encode(), "sha256").hexdigest()
