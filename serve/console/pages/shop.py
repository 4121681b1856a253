"""The shop: be a customer, see what is recommended and why, click and buy, and see what that has taught."""

import asyncio
import secrets
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, Json
from starlette.responses import Response

from data.features.rfm import SEGMENTS
from data.fields import Id
from data.log.current import items
from data.log.recent.newest import seen_users
from data.schema import CONTEXT_TIME, LOOP_V1
from serve.console.desk import Shown
from serve.console.drawing import posterior, span, trail
from serve.console.forms import parse, read_form
from serve.console.products import product
from serve.console.rendering import Page
from serve.console.room import Room
from serve.console.visitors import visitor
from serve.contracts.decisions import RecommendRequest
from serve.contracts.reports import FeedbackRequest
from serve.decisions.customers import Customer
from serve.explanations.estimates import Estimate
from serve.http.edge import Allow

PAGE: Final = Page("Shop", "/shop", "store")
NODE: Final = "console"
_PLACE: Final = (LOOP_V1, "default")
_SLOTS: Final = 8
_CUSTOMERS: Final = 60
_FRESH_S: Final = 2.0
"""How long an answer waits for what was just reported to be learned; a page that gets it without asks again."""
_TRIES: Final = 5
_KEPT: Final = 200
"""Estimates that a page keeps to compare with, and points of its trail."""


class _Search(BaseModel):
    model_config = ConfigDict(extra="forbid")
    contains: str = Field(default="", max_length=256)
    segment: Literal["Q1", "Q2", "Q3", "Q4", "unknown"] | None = None
    day: date | None = None
    policy: Id | None = None
    user: Id | None = None


class _Visit(BaseModel):
    """Who visits, and what their page knows already."""

    model_config = ConfigDict(extra="forbid")
    user: Id
    day: date | None = None
    policy: Id | None = None
    before: Json[Annotated[dict[str, tuple[FiniteFloat, FiniteFloat | None]], Field(max_length=_KEPT)]] = Field(
        default={}
    )
    trail: Json[Annotated[list[FiniteFloat], Field(max_length=_KEPT)]] = Field(default=[])
    after: int = Field(default=0, ge=0, le=2**62)
    tries: int = Field(default=0, ge=0, le=_TRIES)


class _Act(_Visit):
    decision: Id
    item: Id
    kind: Literal["click", "purchase"]


class _Seen(BaseModel):
    model_config = ConfigDict(extra="forbid")
    decision: Id
    item: Id


def router(room: Room) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PAGE.path)
    reads, acts = [Depends(Allow("node", "reader"))], [Depends(Allow("node"))]

    @routes.get("", dependencies=reads)
    async def shop(
        request: Request,
        user: Annotated[str, Query(max_length=256)] = "",
        day: Annotated[str, Query(max_length=10)] = "",
        policy: Annotated[str, Query(max_length=256)] = "",
    ) -> Response:
        given = {name: value for name, value in (("user", user), ("day", day), ("policy", policy)) if value}
        asked = parse(_Search, given)
        principal = visitor(request.scope).principal
        policies = sorted({one.name for one in await room.desk.policies() if (one.loop, one.objective) == _PLACE})
        return room.pages.show(
            request,
            "shop.html",
            page=PAGE.name,
            asked=asked,
            policies=policies,
            segments=SEGMENTS[1:],
            customers=await _customers(room, asked),
            newcomer=f"visitor-{secrets.token_hex(4)}",
            may_act=principal is not None and principal.may("node"),
        )

    @routes.get("/customers", dependencies=reads)
    async def customers(request: Request) -> Response:
        fields = {name: value for name, value in request.query_params.items() if value}
        asked = parse(_Search, fields)
        return room.pages.show(request, "shop_customers.html", asked=asked, customers=await _customers(room, asked))

    @routes.post("/slate", dependencies=acts)
    async def slate(request: Request) -> Response:
        return await _show(room, request, await read_form(request, _Visit))

    @routes.post("/act", dependencies=acts)
    async def act(request: Request) -> Response:
        form = await read_form(request, _Act)
        report = FeedbackRequest(decision_id=form.decision, kind=form.kind, item_id=form.item)
        result = (await room.desk.feedback([report])).results[0]
        visit = form.model_copy(update={"after": result.position or 0, "tries": 0})
        return await _show(room, request, visit, form)

    @routes.post("/seen", dependencies=acts)
    async def seen(request: Request) -> Response:
        form = await read_form(request, _Seen)
        await room.desk.feedback([FeedbackRequest(decision_id=form.decision, kind="view", item_id=form.item)])
        return Response(status_code=204)

    return routes


async def _customers(room: Room, asked: _Search) -> list[Customer]:
    """Return customers that policies know, then others that were seen."""
    known = await room.desk.customers(asked.contains, asked.segment, _CUSTOMERS)
    if asked.segment is not None or len(known) == _CUSTOMERS:
        return known
    ids = {customer.user_id for customer in known}
    seen = await asyncio.to_thread(seen_users, room.store, asked.contains, _CUSTOMERS)
    return [*known, *(Customer(user, None) for user in seen if user not in ids)][:_CUSTOMERS]


async def _show(room: Room, request: Request, visit: _Visit, act: _Act | None = None) -> Response:
    """Decide, and return the slate with what has changed since the page was last drawn."""
    context: dict[str, Any] = {}
    if visit.day is not None:
        context[CONTEXT_TIME] = datetime.combine(visit.day, time(12), UTC).isoformat()
    asked = RecommendRequest(user_id=visit.user, context=context, k=_SLOTS, policy=visit.policy, node=NODE)
    shown = await room.desk.show(asked, visit.after, _FRESH_S)
    acted = None if act is None else _acted(shown, visit, act, await asyncio.to_thread(_name, room, act.item))
    return room.pages.show(request, "shop_slate.html", acted=acted, **_describe(room, visit, shown))


def _describe(room: Room, visit: _Visit, shown: Shown) -> dict[str, Any]:
    before = {item: Estimate(*values) for item, values in visit.before.items()}
    answer, estimates = shown.answer, shown.estimates
    slate = [slot["item_id"] for slot in answer["items"]]
    now = {item: estimates.get(item) for item in slate}
    drawn = [one for item in slate for one in (now[item], before.get(item)) if one is not None]
    axis = span(drawn)
    cards = []
    for slot, why in zip(answer["items"], shown.explanation.items, strict=True):
        item = slot["item_id"]
        about = product(item, shown.features[item], shown.categories[item], room.config.images)
        estimate, earlier = now[item], before.get(item)
        picture = None if estimate is None else posterior(estimate, earlier, axis, _say(about.name, estimate, earlier))
        moved = None if estimate is None or earlier is None else estimate.mean - earlier.mean
        cards.append({"product": about, "slot": slot, "why": why, "picture": picture, "moved": moved})
    worth = [*visit.trail, sum(slot["score"] for slot in answer["items"])][-_KEPT:]
    return {
        "visit": visit,
        "answer": answer,
        "segment": shown.segment,
        "cards": cards,
        "learned": answer["learned_through"] >= visit.after,
        "again": visit.tries < _TRIES,
        "before": _keep(estimates, slate),
        "trail": worth,
        "trail_picture": trail(worth, f"Expected reward of the list: {worth[-1]:.2f}") if len(worth) > 1 else None,
        "currency": room.config.currency,
    }


def _acted(shown: Shown, visit: _Visit, act: _Act, name: str) -> dict[str, Any]:
    """Return what an act has changed of what is expected of its item."""
    now, values = shown.estimates.get(act.item), visit.before.get(act.item)
    before = None if values is None else Estimate(*values)
    moved = None if now is None or before is None else now.mean - before.mean
    return {"kind": act.kind, "item": act.item, "name": name, "now": now, "before": before, "moved": moved}


def _name(room: Room, item_id: str) -> str:
    item = items.get(room.store, item_id)
    return product(item_id, item.features if item else {}, ()).name


def _keep(estimates: Mapping[str, Estimate], slate: list[str]) -> dict[str, tuple[float, float | None]]:
    """Return the estimates that the page sends again: those of the slate first."""
    order = [*slate, *(item for item in estimates if item not in set(slate))]
    return {
        item: (round(e.mean, 6), e.sd if e.sd is None else round(e.sd, 6))
        for item in order[:_KEPT]
        if (e := estimates.get(item))
    }


def _say(name: str, now: Estimate, before: Estimate | None) -> str:
    sure = "" if now.sd is None else f", standard deviation {now.sd:.2f}"
    was = "" if before is None else f"; before {before.mean:.2f}"
    return f"{name}: expected reward {now.mean:.2f}{sure}{was}"
