"""Logs as JSON, one object a line, without secrets; and what every answer has: a request id, security headers."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from time import perf_counter
from typing import Any, Final, TextIO, TypeAlias
from uuid import uuid4

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.http import exchange
from serve.http.answers import Answers, to_failure
from serve.http.bypass.access_lines import AccessLines
from serve.http.exchange import REQUEST_ID, Exchange
from serve.http.front import is_request_id

LOGGER: Final = "raycommend"
HIDDEN: Final = "***"
CLIENT_LEFT: Final = 499
"""Status in the access log of a request whose client went before its answer began."""

Count: TypeAlias = Callable[[str, str], None]

_ACCESS = f"{LOGGER}.access"
_TOKEN = re.compile(r"\brk_([0-9a-f]+)_[A-Za-z0-9_-]+")
_HEADER = re.compile(
    r"""(?ix) (authorization | x-api-key | ocp-apim-subscription-key | api[_-]key)
    (['"]? \s* [:=,] \s* (?:b(?=['"]))? ['"]?) (?: (?:bearer|basic) \s+ )? [^\s'",)}\]]+"""
)
_BEARER = re.compile(r"(?i)\b(bearer|basic)\s+[^\s'\",)}\]]+")
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
)
_NO_STORE: Final = (b"cache-control", b"no-store")


class Redact(logging.Filter):
    """Hides API keys, the headers that carry them and given secrets, in the text and the traceback of a record."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._secrets = tuple(sorted((secret for secret in secrets if secret), key=len, reverse=True))

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if "rk_" in text:
            text = _TOKEN.sub(rf"rk_\1_{HIDDEN}", text)
        return _BEARER.sub(rf"\1 {HIDDEN}", _HEADER.sub(rf"\1\2{HIDDEN}", text))

    def hides(self, word: str) -> bool:
        """Say whether a text without spaces would not be logged as it is; much quicker than `text`."""
        return "rk_" in word or any(secret in word for secret in self._secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Let the record pass, rewritten."""
        if record.name == _ACCESS:
            return True  # made of what was checked before
        record.msg, record.args = self.text(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = self.text(record.exc_text)
        if fields := getattr(record, "fields", None):
            record.fields = {k: self.text(v) if isinstance(v, str) else v for k, v in fields.items()}
        return True


class JsonFormatter(logging.Formatter):
    """A record as one JSON object; `extra={"fields": {...}}` adds members."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: Mapping[str, Any] | None = getattr(record, "fields", None)
        if record.name == _ACCESS and not fields:
            return record.getMessage()  # the lines of `serve.http.bypass.access_lines`
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if message := record.getMessage():
            line["message"] = message
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        if fields:
            line.update(fields)
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["traceback"] = record.exc_text
        # ASCII alone: some readers of lines break them at other characters than a line feed.
        return json.dumps(line, separators=(",", ":"), default=str)


def setup(secrets: Iterable[str] = (), stream: TextIO | None = None, others: Iterable[str] = ("ray.serve",)) -> Redact:
    """Write the service's log to a stream, once per process however often it is called, and redact other loggers.

    Args:
        secrets: what must not be logged, besides what looks like a key.
        stream: where to; default: the standard error that the process began with.
        others: loggers that have handlers of their own, which keep them.
    """
    redact = Redact(secrets)
    # Not sys.stderr: a replica of Serve has put a logger in its place, which unwinds the stack for every line.
    handler = logging.StreamHandler(stream or sys.__stderr__ or sys.stderr)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(redact)
    logger = logging.getLogger(LOGGER)
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for name in others:
        other = logging.getLogger(name)
        other.filters[:] = [kept for kept in other.filters if not isinstance(kept, Redact)]
        other.addFilter(redact)
    return redact


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
        self._access = logging.getLogger(_ACCESS)
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
        """Return the id that the client gave, if it is one and no secret, or a new one."""
        for name, value in scope["headers"]:
            if name == b"x-request-id" and is_request_id(value):
                given = str(value, "ascii")
                if not self._redact.hides(given):
                    return given
        return uuid4().hex

    def _log(self, scope: Scope, current: Exchange, status: int, seconds: float) -> None:
        if not self._access.isEnabledFor(logging.INFO):
            return
        fields: dict[str, str | int | float] = {
            "method": scope["method"],
            "path": _template(scope, current.path),
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
            self._lines.write(current.request_id, fields)


def _template(scope: Scope, path: str) -> str:
    """Return the path with parameters by their names: what a client puts in a path is not logged."""
    if scope.get("route") is None:
        return "unmatched"
    names = {str(value): f"{{{name}}}" for name, value in scope.get("path_params", {}).items()}
    for value in names:
        if "/" in value:
            path = path.replace(value, names[value])
    return "/".join(names.get(part, part) for part in path.split("/")) if names else path
