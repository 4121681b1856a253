"""The console's HTTP application: pages behind sessions, within the same edge as the service's interfaces."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Final, TypeAlias

from fastapi import FastAPI
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from data.json_lines import Redact
from data.log.store import Store
from serve.config import ConsoleConfig
from serve.console.desk import Desk
from serve.console.formatting import STATIC
from serve.console.pages import decision, entrance, experiments, learning, nodes, shop
from serve.console.problems import problems
from serve.console.protection import Protection
from serve.console.rendering import Pages
from serve.console.room import Room
from serve.console.sessions import Sessions
from serve.console.visitors import ConsoleGate, Visitors
from serve.http.answers import Answers
from serve.http.edge import Edge
from serve.http.keys import KeyRing

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]
_PAGES: Final = (shop, learning, experiments, nodes, decision)
"""Modules of pages, in the order of the navigation."""


def create_console(
    desk: Desk,
    store: Store,
    keys: KeyRing,
    config: ConsoleConfig,
    lifespan: Lifespan | None = None,
    redact: Redact | None = None,
    answer_id: bool = True,
) -> FastAPI:
    """Build the application.

    Args:
        desk: the recommender.
        store: the log.
        keys: by which visitors log in; where there are none, all are let in.
        config: what is configured.
        lifespan: entered before the first request, left after the last.
        redact: what access and error logs do not show.
        answer_id: send `X-Request-Id`; Ray Serve does that itself.
    """
    pages = Pages([module.PAGE for module in _PAGES])
    answers = Answers(problems(pages))
    sessions = Sessions(store, keys, timedelta(hours=config.session_hours))
    room = Room(pages, desk, store, sessions, config)
    console = FastAPI(title="raycommend console", lifespan=lifespan, openapi_url=None)
    for module in (entrance, *_PAGES):
        console.include_router(module.router(room))
    console.mount("/static", _Files(directory=STATIC))
    console.add_middleware(Visitors, sessions=sessions, answers=answers)
    edge = Edge(
        keys,
        config.limits,
        answers,
        redact or Redact(),
        access_log=config.access_log,
        answer_id=answer_id,
        plain=config.settings.plain,
        gate=ConsoleGate,
    )
    edge.install(console)
    console.add_middleware(Protection, images=config.images)
    return console


class _Files(StaticFiles):
    """Files whose addresses say which version they are of, so that a browser asks once."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Return a file."""
        response = await super().get_response(path, scope)
        response.headers["cache-control"] = "public, max-age=31536000, immutable"
        return response
