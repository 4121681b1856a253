"""State of one HTTP request while it is answered: its id, path, principal and error."""

from contextvars import ContextVar
from dataclasses import dataclass

from starlette.types import Scope

from serve.http.keys import Principal

REQUEST_ID: ContextVar[str] = ContextVar("request_id", default="")
"""Id of the request that this task answers; log records carry it."""

_KEY = "raycommend.exchange"


@dataclass(slots=True)
class Exchange:
    """One request and its answer; the parts of the edge write into it, the access log reads it."""

    request_id: str
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
    REQUEST_ID.set(request_id)
    return exchange


def of(scope: Scope) -> Exchange:
    """Return the exchange of a request; one that came by no edge gets one without an id."""
    found = scope.get(_KEY)
    return found if isinstance(found, Exchange) else begin(scope, "")
