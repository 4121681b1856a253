"""What stands before Ray Serve's own handling of a request, in every replica: it decides the headers that Serve obeys.

Serve 2.60 decodes some headers as UTF-8 before the application sees the request, and fails with a bare 500 where they
are none; another lets a client end its request with a 408 that has not our shape. And a replica takes what is sent to
its port, whoever it is for: HAProxy says that, and what is for another is refused here. `serve.environment` gives
`middlewares` to Serve's hook for it, RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH.
"""

import re
from typing import Final

import ray
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

OBEYED: Final = frozenset(
    {
        b"x_request_timeout_seconds",
        b"x_request_disconnect_disabled",
        b"x_session_id",
        b"serve_multiplexed_model_id",
        b"tracestate",
    }
)
"""Headers by which a client would steer Serve, which takes `-` for `_` in some; none is part of our interface."""

_ALONE: Final = (b"x-request-disconnect-disabled", b"?1")
"""Tells Serve not to watch for clients that leave, with two tasks more a request: `serve.http.gate` and streams do."""

_FOR: Final = b"x-serve-server"
"""HAProxy's name of the server that it sends to (`serve/ingress/haproxy.awk`), which ends with the replica's id."""

_NAMING: Final = frozenset({b"traceparent", b"x-request-id"})

_MISDIRECTED: Final = (
    b'{"error":{"code":"not_ready","message":"another replica was to answer this, which has gone: try again"}}'
)

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


_TRACEPARENT = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def read_trace_id(value: bytes) -> str:
    """Return the trace of a `traceparent` (W3C Trace Context), in hexadecimal digits; "" where the header is none."""
    found = _TRACEPARENT.fullmatch(value)
    return str(found[1], "ascii") if found else ""


def is_request_id(value: bytes) -> bool:
    """Say whether the value of an `X-Request-Id` can name a request in the log: short, plain, and not a key."""
    return _REQUEST_ID.fullmatch(value) is not None and b"rk_" not in value


class Front:
    """ASGI middleware that drops headers for Ray Serve and invalid request ids, and refuses misdirected requests."""

    def __init__(self, app: ASGIApp, replica: str = "") -> None:
        """Wrap an application; `replica` is the id of the replica that it is in, "" if that does not matter."""
        self._app, self._ending = app, f"-{replica}".encode() if replica else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward the request with filtered headers."""
        if scope["type"] == "http":
            headers = scope["headers"]
            if any(name == _FOR and not value.endswith(self._ending) for name, value in headers):
                # Also a question for its health: so the HAProxy that has the wrong port sends no more.
                response = Response(_MISDIRECTED, 503, {"Retry-After": "1"}, "application/json")
                return await response(scope, receive, send)
            kept = [header for header in headers if _keeps(*header)]
            names = {name: value for name, value in kept if name in _NAMING}
            if b"traceparent" in names and b"x-request-id" not in names:  # or Serve makes another, and answers with it
                kept.append((b"x-request-id", read_trace_id(names[b"traceparent"]).encode()))
            scope["headers"] = [*kept, _ALONE]
        await self._app(scope, receive, send)


def _keeps(name: bytes, value: bytes) -> bool:
    if name == b"x-request-id":
        return is_request_id(value)
    if name == b"traceparent":
        return read_trace_id(value) != ""
    return name.replace(b"-", b"_") not in OBEYED


def middlewares() -> list[Middleware]:
    """Return what Serve puts around its handling in this actor, which is called `SERVE_REPLICA::APP#DEPLOYMENT#ID`."""
    name = ray.get_runtime_context().get_actor_name() or "" if ray.is_initialized() else ""
    return [Middleware(Front, name.rpartition("#")[2])]
