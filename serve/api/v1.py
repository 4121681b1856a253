"""Version 1 of the HTTP interface: routes, authentication and the one shape of errors. FastAPI, no Ray."""

import hmac
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from starlette.exceptions import HTTPException

from data.store import StoreError, StoreUnavailable
from data.writer import StoreBusy
from rl.policy import PolicyError
from serve.api import decisions, stream, tables
from serve.schemas import (
    FORMS,
    ErrorResponse,
    EventsRequest,
    EventsResponse,
    FeedbackBody,
    FeedbackResponse,
    Health,
    Problem,
    RecommendBody,
    RecommendResponse,
)
from serve.service import RequestTimeout, Service, UnknownDecision, UnknownNode
from serve.stream import TooManyStreams

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ABOUT = "Recommendations that learn from what people do."
_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": ErrorResponse} for status in (401, 404, 422, 503)}


def create_api(service: Service, api_key: str | None = None, lifespan: Lifespan | None = None) -> FastAPI:
    """Build the application.

    Args:
        service: answers the requests.
        api_key: requests must carry it as `Authorization: Bearer KEY` or as `X-API-Key: KEY`; None lets all in.
        lifespan: entered before the first request, left after the last.
    """
    api = FastAPI(title="raycommend", version="1", description=_ABOUT, lifespan=lifespan)
    router = APIRouter(prefix="/v1", dependencies=[Depends(_guard(api_key))], responses=_ERRORS)

    @router.post("/recommend", response_model=RecommendResponse | list[RecommendResponse])
    async def recommend(body: Annotated[RecommendBody, Body()], request: Request) -> Response:
        """Recommend a slate of items to one user, or to each of a list; what is answered is in the log before.

        JSON, or CSV by `Accept`.
        """
        many = isinstance(body, list)
        responses = await service.recommend(body if isinstance(body, list) else [body])
        if tables.wanted(request):
            return tables.slates(responses)
        return JSONResponse([r.model_dump() for r in responses] if many else responses[0].model_dump())

    @router.post("/feedback")
    async def feedback(
        request: Annotated[FeedbackBody, Body()],
    ) -> FeedbackResponse:
        """Report what happened to decisions, one report or a list; a report sent twice counts once."""
        return await service.feedback(request if isinstance(request, list) else [request])

    @router.post("/events")
    async def events(request: EventsRequest) -> EventsResponse:
        """Send rows of an input node; each is stored or rejected on its own."""
        return await service.events(request)

    router.include_router(decisions.router(service))
    router.include_router(stream.router(service))

    @api.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """Say that this replica can answer, and with which versions."""
        return service.health()

    api.include_router(router)
    _handle_errors(api)
    return api


def _guard(api_key: str | None) -> Callable[..., None]:
    """Return a dependency that lets a request pass if no key is needed or it carries the right one."""
    bearer = HTTPBearer(auto_error=False)
    header = APIKeyHeader(name="X-API-Key", auto_error=False)

    def check(
        token: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)],
        key: Annotated[str | None, Depends(header)],
    ) -> None:
        given = token.credentials if token else key or ""
        if api_key is not None and not hmac.compare_digest(given.encode(), api_key.encode()):
            message = "this service needs an API key: send it as Authorization: Bearer KEY"
            raise HTTPException(401, message, headers={"WWW-Authenticate": "Bearer"})

    return check


def _handle_errors(api: FastAPI) -> None:
    """Give every error the shape of `ErrorResponse`."""

    @api.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("body", *FORMS)) or None
        return _problem(422, "invalid_request", str(first["msg"]), where)

    @api.exception_handler(PolicyError)
    async def unanswerable(_: Request, error: PolicyError) -> JSONResponse:
        return _problem(422, "unanswerable", str(error))

    @api.exception_handler(UnknownNode)
    async def unknown_node(_: Request, error: UnknownNode) -> JSONResponse:
        return _problem(404, "unknown_node", str(error), "node")

    @api.exception_handler(UnknownDecision)
    async def unknown_decision(_: Request, error: UnknownDecision) -> JSONResponse:
        return _problem(404, "unknown_decision", str(error), "decision_id")

    @api.exception_handler(RequestTimeout)
    async def timed_out(_: Request, error: RequestTimeout) -> JSONResponse:
        return _problem(503, "timeout", str(error), "timeout_s", headers={"Retry-After": "1"})

    @api.exception_handler(TooManyStreams)
    async def busy(_: Request, error: TooManyStreams) -> JSONResponse:
        return _problem(503, "busy", str(error), headers={"Retry-After": "1"})

    @api.exception_handler(StoreBusy)
    @api.exception_handler(StoreUnavailable)
    async def unavailable(_: Request, error: StoreError) -> JSONResponse:
        message = f"nothing was stored, try again: {error}"
        return _problem(503, "store_unavailable", message, headers={"Retry-After": "1"})

    @api.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> JSONResponse:
        return _problem(500, "internal", "the request failed on our side; the log says why")

    @api.exception_handler(HTTPException)
    async def other(_: Request, error: HTTPException) -> JSONResponse:
        code = {401: "unauthorized", 404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "error")
        return _problem(error.status_code, code, str(error.detail), headers=dict(error.headers or {}))


def _problem(
    status: int, code: str, message: str, where: str | None = None, headers: dict[str, str] | None = None
) -> JSONResponse:
    body = ErrorResponse(error=Problem(code=code, message=message, where=where))
    return JSONResponse(body.model_dump(exclude_none=True), status, headers)
