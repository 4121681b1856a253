"""Errors in the Personalizer API's own shape, whether its routes refuse or the edge in front of them does."""

from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from data.errors import reason
from serve.api.personalizer.errors import (
    ERRORS,
    Code,
    PersonalizerError,
    PersonalizerErrorResponse,
)
from serve.api.personalizer.routes.dialects import PREFIX, find_dialect
from serve.contracts.errors import Failure
from serve.http.answers import Shape
from serve.http.body import JsonRoute
from serve.http.exchange import Exchange

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
    ("/evaluations", "InvalidEvaluationContract"),
    ("/evaluations/{evaluation_id}", "InvalidEvaluationContract"),
    ("/applyFromEvaluation", "InvalidEvaluationContract"),
    ("/featureImportances/{importance_id}", "InvalidEvaluationContract"),
)
"""Codes of bodies that are not of the right form, by the end of the path."""


def problem(failure: Failure, asked: Exchange) -> Response:
    """Return the shape of the Personalizer API; failures of the edge get the codes that Personalizer's gateway had."""
    status = failure.kind.status
    if failure.code in ERRORS:
        return _respond(find_dialect(asked.path).code(failure.code, status), failure.message, failure.where, status)
    if failure.code == "body_too_large":
        return _respond("PayloadSizeExceeded", failure.message, None, 400)
    code = _OF_EDGE.get(status, "BadRequest")
    message = ERRORS["401"].when if status == 401 else failure.message
    return _respond(code, message, failure.where, 400 if status == 422 else status)


SHAPES: Mapping[str, Shape] = {PREFIX: problem}
"""For `serve.http.answers.Answers`."""


class PersonalizerRoute(JsonRoute):
    """A route that answers a body of another form with the code of what it is about."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return the handler."""
        handle = super().get_route_handler()
        code: Code = next((code for end, code in _OF_BODY if self.path.endswith(end)), "BadRequest")

        async def handle_or_refuse(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                first = error.errors()[0]
                where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
                named = f"{where}: " if where else ""
                raise ERRORS.refuse(code, f"{named}{reason(first)}", where or None) from error

        return handle_or_refuse


def _respond(code: str, message: str, target: str | None, status: int) -> Response:
    problem = PersonalizerError(
        code=code, message=message[:_MAX_MESSAGE], target=target[:_MAX_TARGET] if target else None
    )
    body = PersonalizerErrorResponse(error=problem).model_dump_json(exclude_none=True)
    return Response(body, status, media_type="application/json")
