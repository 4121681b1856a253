"""What goes past FastAPI refuses what it would not do as FastAPI does."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import pytest
from fastapi import APIRouter, Body, Depends, Header, Query, Request
from fastapi.responses import Response

from serve.http.bypass.fast_path import read_endpoint
from serve.http.edge import Allow


async def plain(body: Annotated[int, Body()], request: Request) -> Response:
    return Response()


async def with_header(body: Annotated[int, Body()], request: Request, agent: Annotated[str, Header()]) -> Response:
    return Response()


async def with_query(body: Annotated[int, Body()], request: Request, page: Annotated[int, Query()] = 1) -> Response:
    return Response()


async def paged(request: Request, page: int = 1) -> None:
    return None


def route(endpoint: Callable[..., Awaitable[Response]], path: str = "/x", method: str = "POST") -> APIRouter:
    router = APIRouter(dependencies=[Depends(Allow("node"))])
    router.add_api_route(path, endpoint, methods=[method])
    return router


def test_what_takes_body_and_request_alone_can_be_called_directly() -> None:
    endpoint = read_endpoint(route(plain).routes[0])
    assert (endpoint.route.path, len(endpoint.checks)) == ("/x", 1)
    assert endpoint.body.validate_python(3) == 3


@pytest.mark.parametrize(
    ("router", "message"),
    [
        (route(with_header), "/x takes agent, body, request"),
        (route(with_query), "/x takes body, page, request"),
        (route(plain, path="/x/{name}"), "a fixed path"),
        (route(plain, method="PUT"), "only a POST"),
    ],
)
def test_what_it_would_not_be_given_is_refused_at_the_start(router: APIRouter, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        read_endpoint(router.routes[0])


def test_a_dependency_that_takes_more_is_refused() -> None:
    router = APIRouter(dependencies=[Depends(paged)])
    router.add_api_route("/x", plain, methods=["POST"])
    with pytest.raises(TypeError, match="a dependency of /x takes request, page"):
        read_endpoint(router.routes[0])
