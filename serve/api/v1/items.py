"""The catalogue over HTTP: put items in, list them, take them out."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query

from data.fields import Id
from data.log.current.items import Item, StoredItem
from serve.contracts.catalogue import (
    CatalogueItem,
    ItemRequest,
    ItemResult,
    ItemsRequest,
    ItemsResponse,
    ItemsResult,
)
from serve.contracts.errors import ERRORS, Refused
from serve.decisions.service import Service
from serve.http.body import JsonRoute
from serve.http.edge import Allow
from serve.http.paths import KnownId

_MAX_PAGE = 1_000


def router(service: Service) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(route_class=JsonRoute)
    items = service.items
    writes, reads = [Depends(Allow("node"))], [Depends(Allow("node", "reader"))]

    @routes.post("/items", dependencies=writes)
    async def upsert(request: ItemsRequest) -> ItemsResult:
        """Put items into the catalogue, in place of what it had under their ids; sent again, it changes nothing."""
        new = [_to_item(item, items.now()) for item in request.items]
        pairs = zip(new, await items.upsert(new), strict=True)
        return ItemsResult(results=[ItemResult(item_id=item.item_id, status=change) for item, change in pairs])

    @routes.get("/items", dependencies=reads)
    async def page(
        after: Annotated[int, Query(ge=0, le=2**62, description="a revision; only what changed after it")] = 0,
        limit: Annotated[int, Query(ge=1, le=_MAX_PAGE)] = 100,
        category: Annotated[Id | None, Query()] = None,
        available: bool | None = None,
    ) -> ItemsResponse:
        """List the catalogue, or what has changed in it, in the order of the changes."""
        stored = await items.page(after, limit + 1, category, available)
        listed = [_to_catalogue_item(item, items.now()) for item in stored[:limit]]
        last = listed[-1].revision if listed else after
        return ItemsResponse(items=listed, next=last, more=len(stored) > limit)

    @routes.get("/items/{item_id:rest}", dependencies=reads)
    async def get(item_id: KnownId) -> CatalogueItem:
        """Return an item."""
        item = await items.get(item_id)
        if item is None:
            raise _refuse_unknown(item_id)
        return _to_catalogue_item(item, items.now())

    @routes.delete("/items/{item_id:rest}", dependencies=writes, status_code=204)
    async def delete(item_id: KnownId) -> None:
        """Take an item out of the catalogue: it is shown no more, also by policies that were trained on it."""
        if not await items.delete(item_id):
            raise _refuse_unknown(item_id)

    return routes


def _refuse_unknown(item_id: str) -> Refused:
    return ERRORS.refuse("unknown_item", f"the catalogue has no item {item_id!r}", "item_id")


def _to_item(request: ItemRequest, now: datetime) -> Item:
    expires_at = request.expires_at if request.ttl_s is None else now + timedelta(seconds=request.ttl_s)
    return Item.model_construct(
        item_id=request.item_id,
        features=request.features,
        categories=tuple(request.categories),
        available=request.available,
        expires_at=expires_at,
    )


def _to_catalogue_item(item: StoredItem, now: datetime) -> CatalogueItem:
    available = item.available and (item.expires_at is None or item.expires_at > now)
    return CatalogueItem(**item.model_dump() | {"available": available, "categories": list(item.categories)})
