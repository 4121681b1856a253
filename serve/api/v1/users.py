"""Users over HTTP: what is kept of them, what happened to them, and forgetting them."""

import asyncio
import logging
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query

from data.archive.parquet import NodeInUse
from data.errors import DataError
from data.fields import Id
from data.log.current.users import Entry
from data.log.errors import StoreUnavailable
from data.schema import Decision
from serve.api.v1.decisions import describe
from serve.contracts.catalogue import (
    Forgotten,
    HistoryEntry,
    KeptUser,
    LoggedEvent,
    UserRequest,
    UserResponse,
)
from serve.contracts.errors import ERRORS
from serve.decisions.service import Service
from serve.entities.forgetting import Incomplete
from serve.http.body import JsonRoute
from serve.http.edge import Allow
from serve.http.paths import KnownId

log = logging.getLogger("raycommend.users")


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(route_class=JsonRoute)

    @routes.put("/users/{user_id:rest}", dependencies=[Depends(Allow("node"))])
    async def put(user_id: Annotated[Id, Path()], request: UserRequest) -> KeptUser:
        """Keep a user's features, in place of those that were kept before."""
        user = await service.users.upsert(user_id, request.features)
        return KeptUser(**user.model_dump())

    @routes.get("/users/{user_id:rest}", dependencies=[Depends(Allow("node", "reader"))])
    async def get(
        user_id: KnownId,
        before: Annotated[str | None, Query(pattern=r"^\d{1,18}\.\d{1,18}$", description="`next` of a page")] = None,
        limit: Annotated[int, Query(ge=1, le=200)] = 50,
    ) -> UserResponse:
        """Return what is kept of a user and their history, newest first: decisions with their feedback, and events."""
        return await asyncio.to_thread(_read_user, service, user_id, before, limit)

    @routes.delete("/users/{user_id:rest}", dependencies=[Depends(Allow())])
    async def delete(user_id: KnownId) -> Forgotten:
        """Forget a user: in the log, the archive, trained policies and what was derived. For keys of admins."""
        try:
            removed = await service.users.forget(user_id)
        except Incomplete as incomplete:
            causes = incomplete.failures.values()
            log.warning("a user is not forgotten everywhere yet: %s", incomplete)
            if any(_passes(cause) for cause in causes):
                raise ERRORS.refuse("store_unavailable", incomplete.client_message) from None
            if any(isinstance(cause, NodeInUse) for cause in causes):
                raise ERRORS.refuse("conflict", incomplete.client_message) from None
            raise  # a damaged policy is a fault of ours
        return Forgotten(removed=removed)

    return routes


def _passes(cause: Exception) -> bool:
    """Return whether the log or the archive did not answer."""
    return isinstance(cause, StoreUnavailable) or (isinstance(cause, DataError) and not isinstance(cause, NodeInUse))


def _read_user(service: Service, user_id: str, before: str | None, limit: int) -> UserResponse:
    user = service.users.get(user_id)
    decided, reported = map(int, before.split(".")) if before else (None, None)
    at = None if decided is None or reported is None else (decided, reported)
    page, end = service.users.read_history(user_id, limit, at)
    if user is None and not page and before is None:
        raise ERRORS.refuse("unknown_user", f"nothing is known of user {user_id!r}", "user_id")
    return UserResponse(
        user_id=user_id,
        features=user.features if user else {},
        updated_at=user.updated_at if user else None,
        history=[_to_entry(service, entry) for entry in page],
        next=None if end is None else f"{end[0]}.{end[1]}",
    )


def _to_entry(service: Service, entry: Entry) -> HistoryEntry:
    record = entry.record
    if isinstance(record, Decision):
        decision = describe(record, list(entry.feedback), service.reward(record))
        return HistoryEntry(kind="decision", time=entry.time, decision=decision)
    fields = record.model_dump(include={"event_id", "item_id", "time", "outcome", "record"})
    return HistoryEntry(kind="event", time=entry.time, event=LoggedEvent(node=record.node_id, **fields))
