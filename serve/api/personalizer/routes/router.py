"""The Personalizer API as part of an application: its routes in every dialect, who may use them, its errors."""

from typing import Any

from fastapi import APIRouter, Depends, FastAPI

from serve.api.personalizer.errors import PersonalizerErrorResponse
from serve.api.personalizer.routes import admin_routes as administration
from serve.api.personalizer.routes import evaluation_routes
from serve.api.personalizer.routes import rank_routes as events
from serve.api.personalizer.routes.dialects import PREFIX
from serve.api.personalizer.routes.problems import PersonalizerRoute
from serve.api.personalizer.service import Personalizer
from serve.http.edge import Allow

_ERRORS: dict[int | str, dict[str, Any]] = {status: {"model": PersonalizerErrorResponse} for status in ("4XX", "5XX")}


def include(api: FastAPI, personalizer: Personalizer) -> None:
    """Add the Personalizer API to an application; its errors need `serve.api.personalizer.routes.problems.SHAPES`."""
    # Paths without a version first: "multislot" and "model" are none.
    for prefix in (PREFIX, PREFIX + "/{version}"):
        asking, reading, changing = (
            APIRouter(
                prefix=prefix,
                route_class=PersonalizerRoute,
                dependencies=[Depends(Allow(*roles))],
                responses=_ERRORS,
                tags=["personalizer"],
            )
            for roles in (("node",), ("node", "reader"), ())
        )
        events.add(asking, personalizer)
        administration.add_reading(reading, personalizer)
        administration.add_changing(changing, personalizer)
        evaluation_routes.add_reading(reading, personalizer.evaluations)
        evaluation_routes.add_changing(changing, personalizer.evaluations)
        administration.add_closed(changing)
        for routes in (asking, reading, changing):
            api.include_router(routes)
