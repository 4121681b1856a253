"""Version 1 of the HTTP interface: its routes, behind the edge. FastAPI, no Ray."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Depends, FastAPI, Request
from fastapi.responses import Response
from pydantic_core import to_json

from serve.api import decisions, stream, tables
from serve.body import JsonRoute
from serve.edge import Allow, Edge
from serve.errors import ERRORS
from serve.schemas import (
    ErrorResponse,
    EventsRequest,
    EventsResponse,
    FeedbackBody,
    FeedbackResponse,
    Health,
    RecommendBody,
    RecommendResponse,
)
from serve.service import Service

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ABOUT = "Recommendations that learn from what people do."
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in sorted({kind.status for kind in ERRORS.values()})
}


def create_api(service: Service, edge: Edge | None = None, lifespan: Lifespan | None = None) -> FastAPI:
    """Build the application.

    Args:
        service: answers the requests.
        edge: who is let in and how much they may take; default: all, with the default limits.
        lifespan: entered before the first request, left after the last.
    """
    api = FastAPI(title="raycommend", version="1", description=_ABOUT, lifespan=lifespan)
    router = APIRouter(prefix="/v1", route_class=JsonRoute, dependencies=[Depends(Allow("node"))], responses=_ERRORS)

    @router.post("/recommend", response_model=RecommendResponse | list[RecommendResponse])
    async def recommend(body: Annotated[RecommendBody, Body()], request: Request) -> Response:
        """Recommend a slate of items to one user, or to each of a list; what is answered is in the log before.

        JSON, or CSV by `Accept`.
        """
        responses = await service.recommend(body if isinstance(body, list) else [body])
        if tables.wanted(request):
            return tables.slates(responses)
        return Response(to_json(responses if isinstance(body, list) else responses[0]), media_type="application/json")

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

    @api.get("/healthz", tags=["health"])
    async def healthz() -> Health:
        """Say that this replica can answer, and with which versions."""
        return service.health()

    api.include_router(router)
    for reading in (decisions.router(service), stream.router(service)):
        api.include_router(reading, prefix="/v1", dependencies=[Depends(Allow("node", "reader"))], responses=_ERRORS)
    (edge or Edge()).install(api)
    return api
