"""Version 1 of the HTTP interface: its routes, behind the edge. FastAPI, no Ray."""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import blake2b
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Body, Depends, FastAPI, Request
from fastapi.responses import Response
from fastapi.routing import APIRoute
from pydantic_core import to_json

from serve.api.personalizer.routes.problems import SHAPES
from serve.api.personalizer.routes.router import include
from serve.api.personalizer.service import Personalizer
from serve.api.v1 import (
    csv_answers as tables,
)
from serve.api.v1 import (
    decisions,
    items,
    learning,
    stream,
    users,
)
from serve.contracts.decisions import (
    ErrorResponse,
    EventsRequest,
    EventsResponse,
    FeedbackBody,
    FeedbackResponse,
    RecommendBody,
    RecommendRequest,
    RecommendResponse,
)
from serve.decisions.retries import conflict
from serve.decisions.service import Service
from serve.http import exchange, paths
from serve.http.answers import (
    ERRORS,
    Answers,
    Refused,
    described,
)
from serve.http.body import JsonRoute
from serve.http.edge import Allow, Edge
from serve.http.paths import idempotency_key

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ABOUT = "Recommendations that learn from what people do."
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in sorted({kind.status for kind in ERRORS.values()})
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "names the request, or the list of requests, where its body gives no `decision_id`",
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
    paths.register()
    router = APIRouter(prefix="/v1", route_class=JsonRoute, dependencies=[Depends(Allow("node"))], responses=_ERRORS)
    hot = APIRouter(prefix="/v1", route_class=JsonRoute, dependencies=[Depends(Allow("node"))], responses=_ERRORS)

    @hot.post(
        "/recommend",
        response_model=RecommendResponse | list[RecommendResponse | ErrorResponse],
        openapi_extra={"parameters": [_IDEMPOTENCY_KEY]},
    )
    async def recommend(body: Annotated[RecommendBody, Body()], request: Request) -> Response:
        """Recommend a slate of items to one user, or to each of a list; what is answered is in the log before.

        A request that is sent again with the same `Idempotency-Key`, or with the same `decision_id`, gets the same
        decision; another request with that name is a 409 `conflict`, or in a list whose requests have names of their
        own an error in the place of its decision. JSON, or CSV by `Accept`.
        """
        listed = isinstance(body, list)
        requests, key = _named(body if isinstance(body, list) else [body], request)
        answers = await service.recommend(requests, len(requests) if listed and key else None)
        as_table = tables.wanted(request)
        shown = list[RecommendResponse | ErrorResponse]()
        for answer in answers:
            if isinstance(answer, dict):
                shown.append(answer)
                continue
            refused = conflict("Idempotency-Key" if key else "decision_id", answer)
            if key or as_table or not listed:
                raise refused
            shown.append(described(refused.failure, exchange.of(request.scope).request_id))
        if as_table:
            return tables.slates(answer for answer in answers if isinstance(answer, dict))
        return Response(to_json(shown if listed else shown[0]), media_type="application/json")

    # First of all: Ray Serve looks through them for the name of a request's route.
    api = FastAPI(title="raycommend", version="1", description=_ABOUT, lifespan=lifespan, routes=list(hot.routes))

    @router.post("/feedback")
    async def feedback(
        request: Annotated[FeedbackBody, Body()],
    ) -> FeedbackResponse:
        """Report what happened to decisions, one report or a list; a report sent twice counts once.

        Another report with the id of a known one is a 409 `conflict`, or in a list has that status.
        """
        if isinstance(request, list):
            return await service.feedback(request)
        response = await service.feedback([request])
        if differs := response.results[0].differs:
            raise conflict("feedback_id", differs)
        return response

    @router.post("/events")
    async def events(request: EventsRequest) -> EventsResponse:
        """Send rows of an input node; each is stored or rejected on its own."""
        return await service.events(request)

    api.include_router(learning.health(service), responses=_ERRORS)
    api.include_router(router)
    for reading in (decisions.router(service), stream.router(service)):
        api.include_router(reading, prefix="/v1", dependencies=[Depends(Allow("node", "reader"))], responses=_ERRORS)
    admin = [Depends(Allow())]
    api.include_router(learning.router(service), prefix="/v1", dependencies=admin, responses=_ERRORS)
    api.include_router(items.router(service), prefix="/v1", responses=_ERRORS)
    api.include_router(users.router(service), prefix="/v1", responses=_ERRORS)
    if personalizer is not None:
        include(api, personalizer)
    edge = edge or Edge(answers=Answers(by_prefix=SHAPES))
    edge.install(api, direct=(route for route in hot.routes if isinstance(route, APIRoute)))
    return api


def _named(requests: Sequence[RecommendRequest], http: Request) -> tuple[Sequence[RecommendRequest], bool]:
    """Give requests without a decision id one that is made of the `Idempotency-Key`, the client's own, and the place.

    Returns:
        The requests, and whether the key names them.

    Raises:
        Refused: it is no id, or some of them, and not all, have names of their own.
    """
    key = idempotency_key(http)
    own = sum(request.decision_id is not None for request in requests) if key else 0
    if not key or own == len(requests):
        return requests, False
    if own:
        message = "an Idempotency-Key names all requests of a list: give each its decision_id, or none"
        raise Refused("invalid_request", message, "Idempotency-Key")
    principal = exchange.of(http.scope).principal
    scoped = f"{principal.key_id if principal else ''}\n{key}"
    names = (f"{scoped}\n{place}" if place else scoped for place in range(len(requests)))
    ids = (blake2b(name.encode(), digest_size=16).hexdigest() for name in names)
    return [r.model_copy(update={"decision_id": name}) for r, name in zip(requests, ids, strict=True)], True
