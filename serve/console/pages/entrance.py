"""Logging in and out, the first page, and what every page follows: what the service has learned."""

import asyncio
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.responses import RedirectResponse, Response, StreamingResponse

from serve.console.forms import read_form
from serve.console.room import Room
from serve.console.streams import News, stream
from serve.console.visitors import LOGIN, STREAM, set_cookie, visitor
from serve.contracts.errors import Refused

_MAX_PATH: Final = 500


class _Login(BaseModel):
    model_config = ConfigDict(extra="forbid")
    key: SecretStr = Field(max_length=1_000)
    next: str = Field(default="/", max_length=_MAX_PATH)


def router(room: Room) -> APIRouter:
    """Return the routes."""
    routes = APIRouter()
    news = News(lambda: _learned(room))

    @routes.get("/")
    async def first(request: Request) -> Response:
        return RedirectResponse(request.scope.get("root_path", "") + room.pages.navigation[0].path, 303)

    @routes.get(LOGIN)
    async def ask_key(request: Request, next: Annotated[str, Query(max_length=_MAX_PATH)] = "/") -> Response:
        return room.pages.show(request, "login.html", page=None, next=_own_path(next), wrong=False)

    @routes.post(LOGIN)
    async def log_in(request: Request) -> Response:
        form = await read_form(request, _Login)
        begun = await asyncio.to_thread(room.sessions.begin, form.key.get_secret_value())
        if begun is None:
            return room.pages.show(request, "login.html", 401, page=None, next=_own_path(form.next), wrong=True)
        response = RedirectResponse(request.scope.get("root_path", "") + _own_path(form.next), 303)
        set_cookie(request.scope, response, begun.secret, room.sessions.lifetime.total_seconds())
        return response

    @routes.post("/logout")
    async def log_out(request: Request) -> Response:
        await asyncio.to_thread(room.sessions.end, visitor(request.scope).secret)
        response = RedirectResponse(request.scope.get("root_path", "") + LOGIN, 303)
        set_cookie(request.scope, response, room.sessions.make_secret())
        return response

    @routes.get(STREAM)
    async def follow() -> StreamingResponse:
        """Send event `learned` whenever what is served has learned something."""
        return stream("learned", news.follow())

    return routes


async def _learned(room: Room) -> str:
    """Return what is served and how far it has learned, as HTML for the head of a page."""
    try:
        policies = await room.desk.policies()
    except Refused:
        policies = []
    return room.pages.render_part("learned.html", policies=policies)


def _own_path(given: str) -> str:
    """Return a path of ours: what else is given leads to the first page, so that no link leads elsewhere."""
    is_own = given.startswith("/") and not given.startswith("//") and "\\" not in given and given.isprintable()
    return given if is_own else "/"
