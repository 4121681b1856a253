"""Every error that the HTTP interface answers with: one table, from which handlers and the README's table are made."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, TypeAlias, get_args

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from data.errors import RecommenderError, reason
from data.feature_objects import FeatureError
from data.log.database import StoreError, StoreUnavailable
from data.log.writer.commit import StoreBusy
from rl.policy.interface import PolicyError
from serve.contracts.decisions import FORMS, ErrorResponse, Problem
from serve.http import exchange
from serve.http.head import methods_of

Code: TypeAlias = Literal[
    "invalid_request",
    "unanswerable",
    "unauthorized",
    "forbidden",
    "not_found",
    "unknown_node",
    "unknown_decision",
    "unknown_user",
    "unknown_item",
    "method_not_allowed",
    "body_timeout",
    "conflict",
    "body_too_large",
    "unsupported_media_type",
    "rate_limited",
    "busy",
    "timeout",
    "store_unavailable",
    "not_ready",
    "internal",
]


@dataclass(frozen=True, slots=True)
class Kind:
    """One row of the table."""

    code: Code
    status: int
    when: str
    right: str
    """What would be right."""
    retry_after_s: int | None = None
    """Sent as Retry-After where the answer does not know better; None: sending it again does not help."""


_TABLE = (
    Kind("invalid_request", 422, "the body or a parameter is not what the interface describes", "`where` names it"),
    Kind("unanswerable", 422, "no served policy can answer this, such as with no candidate left", "as `message` says"),
    Kind("unauthorized", 401, "no valid API key", "`Authorization: Bearer KEY` with a key that has not ended"),
    Kind("forbidden", 403, "the key's role does not allow this", "a key of the role that `message` names"),
    Kind("not_found", 404, "there is no such path", "one of `/docs`"),
    Kind("unknown_node", 404, "the service takes no events of this node", "one that `message` names"),
    Kind("unknown_decision", 404, "the log has no decision with this id", "an id that a recommendation returned"),
    Kind("unknown_user", 404, "nothing is known of this user", "a user of whom something was reported"),
    Kind("unknown_item", 404, "the catalogue has no such item", "an item that was put into it"),
    Kind("method_not_allowed", 405, "the path does not take this method", "one that `Allow` names"),
    Kind("body_timeout", 408, "the body did not arrive in time", "the whole body within `limits.body_timeout_s`"),
    Kind("conflict", 409, "a known name with another content, or it contradicts what is so", "as `message` says"),
    Kind("body_too_large", 413, "the body is larger than `limits.max_body_bytes`", "a smaller batch"),
    Kind(
        "unsupported_media_type",
        415,
        "the body is no JSON, plain or in gzip",
        "`Content-Type: application/json`",
    ),
    Kind("rate_limited", 429, "more requests than this key or address may send", "wait for `Retry-After`", 1),
    Kind("busy", 503, "as many requests as the replica takes are being answered", "wait for `Retry-After`", 1),
    Kind("timeout", 503, "the request's own `timeout_s` has passed", "a longer one, or again", 1),
    Kind("store_unavailable", 503, "the log cannot commit now, as `message` says", "again: nothing counts twice", 1),
    Kind("not_ready", 503, "the replica has no policy yet", "wait for `Retry-After`", 1),
    Kind("internal", 500, "a fault of ours", "report the `request_id`; the log says why"),
)
ERRORS: Mapping[str, Kind] = {kind.code: kind for kind in _TABLE}
assert tuple(ERRORS) == get_args(Code)

_log = logging.getLogger("raycommend.errors")
_MAX_WHERE, _MAX_MESSAGE = 200, 1_000  # an answer does not grow with a hostile request
_BY_STATUS: Mapping[int, Code] = {
    400: "invalid_request",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "rate_limited",
    503: "busy",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """What was wrong with one request; a `Shape` makes the response of it."""

    code: Code
    message: str
    where: str | None = None
    """The field, as a dotted path."""
    retry_after_s: int | None = None
    """In place of the table's."""
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """Its row of the table."""
        return ERRORS[self.code]


class Refused(RecommenderError):  # noqa: N818 - an answer to the client, not a mistake of ours
    """A request is answered with an error of the table: `raise Refused("unknown_item", "no item 'x'", "item_id")`."""

    def __init__(self, code: Code, message: str, where: str | None = None, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.failure = Failure(code, message, where, retry_after_s)


def described(failure: Failure, request_id: str) -> ErrorResponse:
    """Return what version 1 says of a failure."""
    where = failure.where[:_MAX_WHERE] if failure.where else None
    message = failure.message[:_MAX_MESSAGE]
    return ErrorResponse(error=Problem(code=failure.code, message=message, where=where, request_id=request_id or None))


Shape: TypeAlias = Callable[[Failure, str], Response]
"""Makes the response to a failure, given the request id ("" if it has none). `Answers` adds the headers."""


def problem(failure: Failure, request_id: str) -> Response:
    """Return the shape of version 1, `ErrorResponse`."""
    body = described(failure, request_id).model_dump_json(exclude_none=True)
    return Response(body, failure.kind.status, media_type="application/json")


class Answers:
    """Which shape an error has, by the path that was asked for."""

    def __init__(self, shape: Shape = problem, by_prefix: Mapping[str, Shape] | None = None) -> None:
        """Build it.

        Args:
            shape: for all paths but those of `by_prefix`.
            by_prefix: other shapes, such as `{"/personalizer": ...}` for /personalizer and all below it.
        """
        self._shape = shape
        self._by_prefix = tuple((prefix, prefix + "/", other) for prefix, other in (by_prefix or {}).items())

    def __call__(self, scope: Scope, failure: Failure) -> Response:
        """Return the response to a failure of the request with this scope, and note it for the access log."""
        current = exchange.of(scope)
        current.error = failure.code
        shape = self._shape
        for prefix, below, other in self._by_prefix:
            if current.path == prefix or current.path.startswith(below):
                shape = other
        response = shape(failure, current.request_id)
        response.headers.update(failure.headers)
        retry_after_s = failure.retry_after_s or failure.kind.retry_after_s
        if retry_after_s is not None:
            response.headers["Retry-After"] = str(retry_after_s)
        if failure.code == "unauthorized":
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


def failure_of(error: Exception) -> Failure:
    """Return what is answered to an exception; one that the table does not know is `internal`."""
    match error:
        case Refused():
            return error.failure
        case RequestValidationError():
            first = error.errors()[0]
            parts = (str(part) for part in first["loc"] if part not in ("body", *FORMS))
            return Failure("invalid_request", reason(first), ".".join(parts) or None)
        case PolicyError():
            return Failure("unanswerable", str(error))
        case FeatureError():
            return Failure("invalid_request", str(error), error.where or None)
        case StoreUnavailable():
            return Failure("store_unavailable", error.told)
        case StoreBusy():
            return Failure("store_unavailable", StoreUnavailable.told)
        case HTTPException() if error.status_code in _BY_STATUS:
            return Failure(_BY_STATUS[error.status_code], str(error.detail), headers=error.headers or {})
    return Failure("internal", "the request failed on our side; the log says why")


HANDLED: Final = (
    Refused, RequestValidationError, PolicyError, FeatureError, StoreBusy, StoreUnavailable, HTTPException,
)  # fmt: skip
"""Exceptions with an answer of their own; all others are `internal`."""
Handler: TypeAlias = Callable[[Request, Exception], Awaitable[Response]]


def handler(answers: Answers) -> Handler:
    """Return what answers an exception, as FastAPI takes it."""

    async def handle(request: Request, error: Exception) -> Response:
        if isinstance(error, StoreError):  # its text may name hosts and paths: that is for the log alone
            _log.warning("the log did not commit: %s", error)
        failure = failure_of(error)
        if failure.code == "method_not_allowed":
            failure = replace(failure, headers={**failure.headers, "Allow": ", ".join(methods_of(request))})
        return answers(request.scope, failure)

    return handle


def install(api: FastAPI, answers: Answers) -> None:
    """Let `answers` answer every exception of an application, or of one that is mounted in it."""
    for kind in (*HANDLED, Exception):
        api.add_exception_handler(kind, handler(answers))


def table() -> str:
    """Return the table in Markdown, as the README has it."""
    rows = (f"| {kind.status} | `{kind.code}` | {kind.when} | {kind.right} |" for kind in _TABLE)
    return "\n".join(("| status | code | when | what would be right |", "|---|---|---|---|", *rows))
