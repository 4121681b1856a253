"""Requests as spans: the outermost ones, below what the client names by `traceparent`."""

from opentelemetry.trace import SpanKind, Tracer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data.json_lines import Redact, describe
from serve.http import exchange
from serve.http.access_log import CLIENT_LEFT, UNMATCHED, template
from serve.http.gate import PUBLIC, STREAMS
from serve.http.head import METHODS
from serve.traces.contexts import read_parent, under
from serve.traces.spans import mark_failed

_UNTRACED = PUBLIC | STREAMS  # asked every second, or open for hours


class TracedRequests:
    """ASGI middleware around all that answers, within the one that names requests and logs them.

    A span's name and attributes are those of OpenTelemetry's conventions for HTTP servers, without paths, queries and
    addresses as they were sent: a user's id may be in them.
    """

    def __init__(self, app: ASGIApp, tracer: Tracer, redact: Redact) -> None:
        self._app, self._tracer, self._redact = app, tracer, redact

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http" or exchange.of(scope).path in _UNTRACED:
            return await self._app(scope, receive, send)
        current, status = exchange.of(scope), CLIENT_LEFT

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        method = scope["method"] if scope["method"] in METHODS else "_OTHER"
        given = next((value for name, value in scope["headers"] if name == b"traceparent"), b"")
        with self._tracer.start_as_current_span(
            method,
            context=under(read_parent(given.decode("latin-1"))),
            kind=SpanKind.SERVER,
            attributes={"http.request.method": method},
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                await self._app(scope, receive, observed)
            except BaseException as error:
                mark_failed(span, type(error).__name__)
                raise
            finally:
                if span.is_recording():
                    if (route := template(scope, current.path)) != UNMATCHED:
                        span.update_name(f"{method} {route}")
                        span.set_attribute("http.route", route)
                    span.set_attribute("http.response.status_code", status)
                    for name, value in describe(current, self._redact):
                        span.set_attribute(f"raycommend.{name}", value)
                    if status >= 500:
                        mark_failed(span, current.error or str(status))
                    elif current.error:
                        span.set_attribute("error.type", current.error)
