"""Version 1 of the HTTP interface: its routes, behind the edge. FastAPI, no Ray."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from hashlib import blake2b
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Depends, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

from serve import exchange
from serve.api import decisions, items, stream, tables, users
from serve.api.personalizer.problems import SHAPES
from serve.api.personalizer.router import include
from serve.body import JsonRoute
from serve.edge import Allow, Edge
from serve.errors import ERRORS, Answers, Refused
from serve.personalizer.service import Personalizer
from serve.schemas import (
    ErrorResponse,
    EventsRequest,
    EventsResponse,
    FeedbackBody,
    FeedbackResponse,
    Health,
    RecommendBody,
    RecommendRequest,
    RecommendResponse,
)
from serve.service import Service

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ABOUT = "Recommendations that learn from what people do."
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in sorted({kind.status for kind in ERRORS.values()})
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "names the request of one user, where its body gives no `decision_id`",
    "schema": {"type": "string", "maxLength": 256},
}


def create_api(
    service: Service,
    edge: Edge | None = None,
    lifespan: Lifespan | None = None,
    personalizer: Personalizer | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        service: answers the requests.
        edge: who is let in and how much they may take; default: all, with the default limits.
        lifespan: entered before the first request, left after the last.
        personalizer: answers those of the Personalizer API; None: it is not served.
    """
    router = APIRouter(prefix="/v1", route_class=JsonRoute, dependencies=[Depends(Allow("node"))], responses=_ERRORS)
    hot = APIRouter(prefix="/v1", route_class=JsonRoute, dependencies=[Depends(Allow("node"))], responses=_ERRORS)

    @hot.post(
        "/recommend",
        response_model=RecommendResponse | list[RecommendResponse],
        openapi_extra={"parameters": [_IDEMPOTENCY_KEY]},
    )
    async def recommend(body: Annotated[RecommendBody, Body()], request: Request) -> Response:
        """Recommend a slate of items to one user, or to each of a list; what is answered is in the log before.

        A request that is sent again with the same `Idempotency-Key`, or with the same `decision_id`, gets the same
        decision. JSON, or CSV by `Accept`.
        """
        responses = await service.recommend(body if isinstance(body, list) else [_named(body, request)])
        if tables.wanted(request):
            return tables.slates(responses)
        return Response(to_json(responses if isinstance(body, list) else responses[0]), media_type="application/json")

    # First of all: Ray Serve looks through them for the name of a request's route.
    api = FastAPI(title="raycommend", version="1", description=_ABOUT, lifespan=lifespan, routes=list(hot.routes))

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
    api.include_router(items.router(service), prefix="/v1", responses=_ERRORS)
    api.include_router(users.router(service), prefix="/v1", responses=_ERRORS)
    if personalizer is not None:
        include(api, personalizer)
    edge = edge or Edge(answers=Answers(by_prefix=SHAPES))
    edge.install(api, direct=(route for route in hot.routes if isinstance(route, APIRoute)))
    return api


def _named(request: RecommendRequest, http: Request) -> RecommendRequest:
    """Return the request with a decision id made of its `Idempotency-Key`, which is the client's own: as is the id."""
    key = http.headers.get("idempotency-key")
    if not key or request.decision_id:
        return request
    if len(key) > 256:
        raise Refused("invalid_request", "an Idempotency-Key has 256 characters at most", "Idempotency-Key")
    principal = exchange.of(http.scope).principal
    scoped = f"{principal.key_id if principal else ''}\n{key}"
    return request.model_copy(update={"decision_id": blake2b(scoped.encode(), digest_size=16).hexdigest()})
