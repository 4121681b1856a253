"""Recommendations over HTTP, with the names that clients give to requests."""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Annotated

from fastapi import APIRouter, Body, Request
from fastapi.responses import Response
from pydantic_core import to_json

from serve.api.v1 import csv_answers
from serve.contracts.decisions import RecommendBody, RecommendRequest, RecommendResponse
from serve.contracts.errors import ERRORS, ErrorResponse, describe
from serve.decisions.retries import conflict
from serve.decisions.service import Service
from serve.http import exchange
from serve.http.paths import idempotency_key

_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "names the request, or the list of requests, where its body gives no `decision_id`",
    "schema": {"type": "string", "maxLength": 256},
}


def add(routes: APIRouter, service: Service) -> None:
    """Add the route. Its endpoint is one that `serve.http.bypass.fast_path` can call."""

    @routes.post(
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
        requests, key = _name(body if isinstance(body, list) else [body], request)
        answers = await service.recommend(requests, len(requests) if listed and key else None)
        as_table = csv_answers.is_wanted(request)
        decided, shown = list[RecommendResponse](), list[RecommendResponse | ErrorResponse]()
        for answer in answers:
            if isinstance(answer, dict):
                decided.append(answer)
                shown.append(answer)
                continue
            refused = conflict("Idempotency-Key" if key else "decision_id", answer)
            if key or as_table or not listed:
                raise refused
            shown.append(describe(refused.failure, exchange.of(request.scope).request_id))
        if as_table:
            return csv_answers.slates(decided)
        # Not validated again: they are made of decisions.
        return Response(to_json(shown if listed else shown[0]), media_type="application/json")


def _name(requests: Sequence[RecommendRequest], http: Request) -> tuple[Sequence[RecommendRequest], bool]:
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
        raise ERRORS.refuse("invalid_request", message, "Idempotency-Key")
    principal = exchange.of(http.scope).principal
    scoped = f"{principal.key_id if principal else ''}\n{key}"
    names = (f"{scoped}\n{place}" if place else scoped for place in range(len(requests)))
    ids = (blake2b(name.encode(), digest_size=16).hexdigest() for name in names)
    return [r.model_copy(update={"decision_id": name}) for r, name in zip(requests, ids, strict=True)], True
