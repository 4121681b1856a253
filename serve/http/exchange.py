"""State of one HTTP request while it is answered: its id, path, principal and error."""

from dataclasses import dataclass

from starlette.types import Scope

from data.json_lines import SUBJECT, Subject
from serve.http.keys import Principal

_KEY = "raycommend.exchange"


@dataclass(slots=True)
class Exchange(Subject):
    """One request and its answer; the parts of the edge write into it, the access log reads it."""

    path: str
    """Below the prefix that the application is deployed under."""
    principal: Principal | None = None
    error: str | None = None
    """Code of the error that it was answered with."""
    body: bytes = b""
    """The whole of it, once it is read."""
    root: str = ""
    """The prefix that the application is deployed under."""


def begin(scope: Scope, request_id: str) -> Exchange:
    """Attach a new exchange to the scope of a request."""
    root = scope.get("root_path", "")
    exchange = Exchange(request_id, scope["path"].removeprefix(root), root=root)
    scope[_KEY] = exchange
    SUBJECT.set(exchange)
    return exchange


def of(scope: Scope) -> Exchange:
    """Return the exchange of a request; one that came by no edge gets one without an id."""
    found = scope.get(_KEY)
    return found if isinstance(found, Exchange) else begin(scope, "")
