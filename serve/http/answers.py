"""Responses to errors, for all interfaces: which exception is which failure, and each failure in its interface's shape.

An interface has a table of errors (`serve.contracts.errors`) and a shape: version 1 has `problem`, others are found by
the prefix of the path that was asked for.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final, TypeAlias

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Scope

from data.errors import reason
from data.feature_objects import FeatureError
from data.log.errors import StoreError, StoreUnavailable
from data.log.writer.commit import StoreBusy
from rl.policy.errors import PolicyError
from serve.contracts.body import FORMS
from serve.contracts.errors import ERRORS, Code, Failure, Refused, describe
from serve.http import exchange
from serve.http.exchange import Exchange
from serve.http.head import list_methods

_log = logging.getLogger("raycommend.errors")
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

Shape: TypeAlias = Callable[[Failure, Exchange], Response]
"""Makes the response to a failure of a request; `Answers` adds the headers."""


def problem(failure: Failure, asked: Exchange) -> Response:
    """Return the shape of version 1, `ErrorResponse`."""
    body = describe(failure, asked.request_id).model_dump_json(exclude_none=True)
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
        response = shape(failure, current)
        response.headers.update(failure.headers)
        retry_after_s = failure.retry_after_s or failure.kind.retry_after_s
        if retry_after_s is not None:
            response.headers["Retry-After"] = str(retry_after_s)
        if failure.code == "unauthorized":
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


def to_failure(error: Exception) -> Failure:
    """Return what is answered to an exception; one that has no answer of its own is `internal`."""
    match error:
        case Refused():
            return error.failure
        case RequestValidationError():
            first = error.errors()[0]
            parts = (str(part) for part in first["loc"] if part not in ("body", *FORMS))
            return ERRORS.fail("invalid_request", reason(first), ".".join(parts) or None)
        case PolicyError():
            return ERRORS.fail("unanswerable", str(error))
        case FeatureError():
            return ERRORS.fail("invalid_request", str(error), error.where or None)
        case StoreUnavailable():
            return ERRORS.fail("store_unavailable", error.client_message)
        case StoreBusy():
            return ERRORS.fail("store_unavailable", StoreUnavailable.client_message)
        case HTTPException() if error.status_code in _BY_STATUS:
            return ERRORS.fail(_BY_STATUS[error.status_code], str(error.detail), headers=error.headers)
    return ERRORS.fail("internal", "the request failed on our side; the log says why")


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
        failure = to_failure(error)
        if failure.code == "method_not_allowed":
            failure = replace(failure, headers={**failure.headers, "Allow": ", ".join(list_methods(request))})
        return answers(request.scope, failure)

    return handle


def install(api: FastAPI, answers: Answers) -> None:
    """Let `answers` answer every exception of an application, or of one that is mounted in it."""
    for kind in (*HANDLED, Exception):
        api.add_exception_handler(kind, handler(answers))
