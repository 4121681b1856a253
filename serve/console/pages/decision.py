"""One decision: all that was logged of it, and what it earned."""

import asyncio
from typing import Annotated, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from starlette.responses import RedirectResponse, Response

from data.log.newest import newest_decisions
from serve.console.rendering import Page
from serve.console.room import Room
from serve.http.edge import Allow
from serve.http.paths import KnownId

PAGE: Final = Page("Decision", "/decision", "search")
_NEWEST: Final = 20


def router(room: Room) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(dependencies=[Depends(Allow("reader"))])

    @routes.get(PAGE.path)
    async def find(request: Request, id: Annotated[str, Query(max_length=320)] = "") -> Response:
        if id.strip():
            return RedirectResponse(f"{request.scope.get('root_path', '')}{PAGE.path}/{quote(id.strip())}", 303)
        newest = await asyncio.to_thread(newest_decisions, room.store, _NEWEST)
        return room.pages.show(request, "decisions.html", page=PAGE.name, newest=newest)

    @routes.get(PAGE.path + "/{decision_id:path}")
    async def one(request: Request, decision_id: KnownId) -> Response:
        decision, logged = await room.desk.decision(decision_id)
        return room.pages.show(request, "decision.html", page=PAGE.name, decision=decision, logged=logged)

    return routes
