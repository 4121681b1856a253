"""The routes of version 1: which there are, who may use them, and how their errors are described."""

from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI

from serve.api.v1 import abtests, decisions, items, learning, recommend, reports, stream, users
from serve.contracts.errors import ERRORS, ErrorResponse
from serve.decisions.service import Service
from serve.http.body import JsonRoute
from serve.http.edge import Allow

PREFIX: Final = "/v1"
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse} for status in sorted({kind.status for kind in ERRORS.values()})
}


def recommend_routes(service: Service) -> APIRouter:
    """Return the route that most requests ask for."""
    routes = _asking()
    recommend.add(routes, service)
    return routes


def include(api: FastAPI, service: Service) -> None:
    """Add the other routes to an application."""
    api.include_router(learning.health(service), responses=_ERRORS)
    asking = _asking()
    reports.add(asking, service)
    api.include_router(asking)
    explaining, reader = decisions.explaining(service), [Depends(Allow("reader"))]
    api.include_router(explaining, prefix=PREFIX, dependencies=reader, responses=_ERRORS)
    for reading in (decisions.router(service), stream.router(service)):
        api.include_router(reading, prefix=PREFIX, dependencies=[Depends(Allow("node", "reader"))], responses=_ERRORS)
    api.include_router(learning.router(service), prefix=PREFIX, dependencies=[Depends(Allow())], responses=_ERRORS)
    api.include_router(abtests.router(service), prefix=PREFIX, responses=_ERRORS)
    api.include_router(items.router(service), prefix=PREFIX, responses=_ERRORS)
    api.include_router(users.router(service), prefix=PREFIX, responses=_ERRORS)


def _asking() -> APIRouter:
    """Return a router of those who ask and report."""
    allowed = [Depends(Allow("node"))]
    return APIRouter(prefix=PREFIX, route_class=JsonRoute, dependencies=allowed, responses=_ERRORS)
