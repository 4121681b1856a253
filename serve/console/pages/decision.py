"""One decision: all that was logged of it, made again and explained, and what it earned."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from data.log.current import items
from data.log.recent.newest import newest_decisions
from serve.console.products import Product, product
from serve.console.rendering import Page
from serve.console.room import Room
from serve.contracts.errors import Refused
from serve.http.edge import Allow
from serve.http.paths import KnownId

PAGE: Final = Page("Decision", "/decision", "search")
_NEWEST: Final = 20
_UNDER_WAY: Final = ("making_again", "not_ready", "store_unavailable")
"""Errors of an explanation after which it is asked for again."""


def router(room: Room) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(dependencies=[Depends(Allow("reader"))])

    @routes.get(PAGE.path)
    async def find(request: Request, id: Annotated[str, Query(max_length=320)] = "") -> Response:
        if id.strip():
            root = request.scope.get("root_path", "")
            return RedirectResponse(f"{root}{PAGE.path}/{quote(id.strip(), safe='')}", 303)
        newest = await asyncio.to_thread(newest_decisions, room.store, _NEWEST)
        return room.pages.show(request, "decisions.html", page=PAGE.name, newest=newest)

    @routes.get(PAGE.path + "/{decision_id:path}/explanation")
    async def explanation(request: Request, decision_id: KnownId) -> Response:
        """Return the part of the page that takes longer: a version that answers no more is made again from the log."""
        explained, refused = None, None
        try:
            explained = await room.desk.explain(decision_id)
        except Refused as error:
            if error.failure.code not in ("not_explainable", *_UNDER_WAY):
                raise
            refused = error.failure
        products = await asyncio.to_thread(
            _products, room, [one.item_id for one in explained.items] if explained else []
        )
        return room.pages.show(
            request,
            "decision_explanation.html",
            decision_id=decision_id,
            explained=explained,
            refused=refused,
            under_way=refused is not None and refused.code in _UNDER_WAY,
            products=products,
        )

    @routes.get(PAGE.path + "/{decision_id:path}")
    async def one(request: Request, decision_id: KnownId) -> Response:
        decision, logged = await room.desk.decision(decision_id)
        products = await asyncio.to_thread(_products, room, decision.slate)
        record = decision.model_dump_json(indent=2)
        return room.pages.show(
            request, "decision.html", page=PAGE.name, decision=decision, logged=logged, products=products, record=record
        )

    return routes


def _products(room: Room, item_ids: Sequence[str]) -> dict[str, Product]:
    """Return items as products: those that the catalogue does not have by their ids alone."""
    known = items.find(room.store, item_ids)
    return {
        item_id: product(item_id, item.features, item.categories, room.config.images)
        if (item := known.get(item_id))
        else product(item_id, {}, ())
        for item_id in item_ids
    }
