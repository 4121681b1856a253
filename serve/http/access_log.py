"""What every request has: an id, a line in the log when it ends, and in its answer headers of security."""

import logging
from collections.abc import Callable
from time import perf_counter
from typing import Final, TypeAlias
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.json_lines import ACCESS, LOGGER, Redact, describe
from serve.http import exchange
from serve.http.answers import Answers, to_failure
from serve.http.bypass.access_lines import AccessLines
from serve.http.exchange import Exchange
from serve.http.front import is_request_id, read_trace_id

CLIENT_LEFT: Final = 499
"""Status in the access log of a request whose client went before its answer began."""
UNMATCHED: Final = "unmatched"
"""Path in the access log of a request that no route takes."""

Count: TypeAlias = Callable[[str, str], None]

_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_STORE: Final = (b"cache-control", b"no-store")


class Recorder:
    """ASGI middleware, the outermost: names each request, logs its end, answers 500 to what nothing else caught."""

    def __init__(
        self,
        app: ASGIApp,
        answers: Answers,
        redact: Redact,
        access_log: bool = True,
        answer_id: bool = True,
        plain: bool = False,
        count: Count | None = None,
    ) -> None:
        """Wrap an application.

        Args:
            app: what answers.
            answers: shapes of errors.
            redact: refuses request ids that are secrets.
            access_log: log a line for each request.
            answer_id: send `X-Request-Id`; Ray Serve does that itself.
            plain: log without `serve.http.bypass.access_lines`.
            count: is given the path and the code of each error.
        """
        self._count = count
        self._app, self._answers, self._redact = app, answers, redact
        self._access_log, self._answer_id = access_log, answer_id
        self._access = logging.getLogger(ACCESS)
        self._errors = logging.getLogger(f"{LOGGER}.errors")
        self._lines = None if plain else AccessLines(self._access)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began = perf_counter()
        request_id = self._request_id(scope)
        current = exchange.begin(scope, request_id)
        status = CLIENT_LEFT

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), *_HEADERS]
                if not any(name == b"cache-control" for name, _ in headers):
                    headers.append(_NO_STORE)
                if self._answer_id:
                    headers.append((b"x-request-id", request_id.encode()))
                message = {**message, "headers": headers}
            await send(message)

        try:
            await self._app(scope, receive, observed)
        except Exception as error:  # whatever it is, the client learns that it was our fault, and no more
            self._errors.exception("the request failed")
            if status == CLIENT_LEFT:
                await self._answers(scope, to_failure(error))(scope, receive, observed)
        finally:
            if self._count and (current.error or status == CLIENT_LEFT):
                self._count(current.path, current.error or "client_left")
            if self._access_log:
                self._log(scope, current, status, perf_counter() - began)

    def _request_id(self, scope: Scope) -> str:
        """Return the id that the client gave, if it is one and no secret, or its trace's, or a new one."""
        traced = ""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and is_request_id(value):
                given = str(value, "ascii")
                if not self._redact.hides(given):
                    return given
            elif name == b"traceparent":
                traced = traced or read_trace_id(value)
        return traced if traced and not self._redact.hides(traced) else uuid4().hex

    def _log(self, scope: Scope, current: Exchange, status: int, seconds: float) -> None:
        if not self._access.isEnabledFor(logging.INFO):
            return
        fields: dict[str, str | int | float | list[str]] = {
            "method": scope["method"],
            "path": template(scope, current.path),
            "status": status,
            "ms": round(seconds * 1_000, 3),
        }
        if current.principal and current.principal.key_id:
            fields["key"] = current.principal.key_id
        if current.error:
            fields["error"] = current.error
        if self._lines is None:
            self._access.info("", extra={"fields": fields})
        else:
            self._lines.write(describe(current, self._redact), fields)


def template(scope: Scope, path: str) -> str:
    """Return the path with parameters by their names: what a client puts in a path is not logged."""
    if scope.get("route") is None:
        return UNMATCHED
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    for value in names:
        if "/" in value:
            path = path.replace(value, names[value])
    return "/".join(names.get(part, part) for part in path.split("/")) if names else path
