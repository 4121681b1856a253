"""HEAD wherever there is GET: the same answer without its body; and which methods a path takes."""

from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.routing import Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "DELETE")
"""All that the routes of the service take."""


def list_methods(request: Request) -> list[str]:
    """Return the methods that some route takes at a request's path: Starlette's own `Allow` has the first route's."""
    as_routed = {name: {**request.scope, "method": "GET" if name == "HEAD" else name} for name in METHODS}
    routes = request.app.routes
    return [name for name, scope in as_routed.items() if any(route.matches(scope)[0] is Match.FULL for route in routes)]


class _EnoughError(OSError):
    """Ends an answer that goes on and on: to who writes it, it looks as if the client had gone."""


class Head:
    """ASGI middleware that asks for GET where it is asked for HEAD. Its routes need not know."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            return await self._app(scope, receive, send)

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.body":
                if message.get("more_body", False):
                    raise _EnoughError
                message = {"type": "http.response.body", "body": b"", "more_body": False}
            await send(message)

        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, without_body)
        except (_EnoughError, ClientDisconnect):
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            scope.update({name: asked[name] for name in ("route", "path_params") if name in asked})  # it is logged
