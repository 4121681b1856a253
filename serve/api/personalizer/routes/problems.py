"""Errors in the Personalizer API's own shape, whether its routes refuse or the edge in front of them does."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from data.errors import reason
from serve.api.personalizer.errors import (
    ERRORS,
    RETRY_AFTER_S,
    Code,
    ErrorResponse,
    Problem,
    Refusal,
)
from serve.api.personalizer.routes.dialects import PREFIX, Dialect, of_path
from serve.http import exchange
from serve.http.answers import Failure, Shape
from serve.http.body import JsonRoute

_MAX_MESSAGE, _MAX_TARGET = 1_000, 200  # an answer does not grow with a hostile request
_OF_EDGE: Mapping[int, Code] = {
    401: "401",
    403: "InvalidApiAccess",
    404: "ResourceNotFound",
    408: "RequestTimeout",
    429: "429",
    500: "InternalServerError",
    503: "OperationNotAllowed",
}
_OF_BODY: tuple[tuple[str, Code], ...] = (
    ("/rank", "InvalidRankRequest"),
    ("/reward", "InvalidRewardRequest"),
    ("/configurations/service", "InvalidServiceConfiguration"),
    ("/configurations/policy", "InvalidPolicyContract"),
)
"""Codes of bodies that are not of the right form, by the end of the path."""


def problem(failure: Failure, _: str) -> Response:
    """Return what the edge answers below the prefix; see `serve.http.answers.Shape`."""
    status = failure.kind.status
    if failure.code == "body_too_large":
        return _response("PayloadSizeExceeded", failure.message, None, 400)
    code = _OF_EDGE.get(status, "BadRequest")
    message = ERRORS["401"].message if status == 401 else failure.message
    return _response(code, message, failure.where, 400 if status == 422 else status)


SHAPES: Mapping[str, Shape] = {PREFIX: problem}
"""For `serve.http.answers.Answers`."""


def install(api: FastAPI) -> None:
    """Let an application answer refusals of the Personalizer API."""

    async def refuse(request: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        current, status = exchange.of(request.scope), error.kind.status
        current.error = error.code
        dialect = of_path(current.path)
        response = _response(error.code, error.message, error.target, status, dialect)
        if status == 503:
            response.headers["Retry-After"] = str(RETRY_AFTER_S)
        return response

    api.add_exception_handler(Refusal, refuse)


class PersonalizerRoute(JsonRoute):
    """A route that answers a body of another form with the code of what it is about."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()
        code: Code = next((code for end, code in _OF_BODY if self.path.endswith(end)), "BadRequest")

        async def checked(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
                named = f"{where}: " if where else ""
                raise Refusal(code, f"{named}{reason(first)}", where or None) from error

        return checked


def _response(code: Code, message: str, target: str | None, status: int, dialect: Dialect = Dialect.LATEST) -> Response:
    problem = Problem(
        code=dialect.code(code, status),
        message=message[:_MAX_MESSAGE],
        target=target[:_MAX_TARGET] if target else None,
    )
    body = ErrorResponse(error=problem).model_dump_json(exclude_none=True)
    return Response(body, status, media_type="application/json")
