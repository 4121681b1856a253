"""The HTTP application: the interfaces that are served, version 1 and the Personalizer API, behind one edge."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import TypeAlias

from fastapi import FastAPI

from data.settings import Settings
from serve.api.personalizer.configuration.values import LOOP
from serve.api.personalizer.routes import router as personalizer_routes
from serve.api.personalizer.routes.problems import SHAPES
from serve.api.personalizer.service import Personalizer
from serve.api.v1 import router as v1_routes
from serve.decisions.service import Service
from serve.http import paths
from serve.http.answers import Answers
from serve.http.edge import Edge

Lifespan: TypeAlias = Callable[[FastAPI], AbstractAsyncContextManager[None]]

_ABOUT = "Recommendations that learn from what people do."


def create_api(
    service: Service,
    edge: Edge | None = None,
    lifespan: Lifespan | None = None,
    personalizer: Personalizer | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        service: answers the requests of version 1.
        edge: who is let in, how much they may take, and whether `serve.http.bypass` is used; default: all are let in,
            with the default limits.
        lifespan: entered before the first request, left after the last.
        personalizer: answers those of the Personalizer API; None: it is not served.
    """
    paths.register()
    hot = v1_routes.recommend_routes(service)
    # Its routes first of all: Ray Serve looks through them for the name of a request's route.
    api = FastAPI(title="raycommend", version="1", description=_ABOUT, lifespan=lifespan, routes=list(hot.routes))
    v1_routes.include(api, service)
    if personalizer is not None:
        service.rewards[LOOP] = personalizer.reward_spec
        personalizer_routes.include(api, personalizer)
    edge = edge or Edge(answers=Answers(by_prefix=SHAPES), plain=Settings().plain)
    edge.install(api, fast=() if edge.plain else hot.routes)
    return api
