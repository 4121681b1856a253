"""What stands before Ray Serve's own handling of a request, in every replica: it decides the headers that Serve obeys.

Serve 2.60 decodes some headers as UTF-8 before the application sees the request, and fails with a bare 500 where they
are none; another lets a client end its request with a 408 that has not our shape. `serve.app.ray_environment` gives
`middlewares` to Serve's hook for it, RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH. Light: Starlette only.
"""

import re
from typing import Final

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

OBEYED: Final = frozenset(
    {
        b"x_request_timeout_seconds",
        b"x_request_disconnect_disabled",
        b"x_session_id",
        b"serve_multiplexed_model_id",
        b"traceparent",
        b"tracestate",
    }
)
"""Headers by which a client would steer Serve, which takes `-` for `_` in some; none is part of our interface."""

_ALONE: Final = (b"x-request-disconnect-disabled", b"?1")
"""Tells Serve not to watch for clients that leave, with two tasks more a request: `serve.limits` and streams do."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


def is_request_id(value: bytes) -> bool:
    """Say whether the value of an `X-Request-Id` can name a request in the log: short, plain, and not a key."""
    return _REQUEST_ID.fullmatch(value) is not None and b"rk_" not in value


class Front:
    """ASGI middleware that drops them, and a request id that is none."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on without them."""
        if scope["type"] == "http":
            scope["headers"] = [*(header for header in scope["headers"] if _keeps(*header)), _ALONE]
        await self._app(scope, receive, send)


def _keeps(name: bytes, value: bytes) -> bool:
    if name == b"x-request-id":
        return is_request_id(value)
    return name.replace(b"-", b"_") not in OBEYED


def middlewares() -> list[Middleware]:
    """Return what Serve puts around its handling."""
    return [Middleware(Front)]
