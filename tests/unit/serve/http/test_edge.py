"""What browsers and plain HTTP tools may ask of the edge: CORS, HEAD, gzip, byte order marks. Without Ray."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ValidationError

from serve.config import Limits, ServiceConfig
from serve.http.body import JsonRoute
from serve.http.edge import Allow, Edge
from serve.http.keys import KeyRing
from tests.support.asgi import Answer, ask

SHOP = "https://shop.example"
JSON = {"Content-Type": "application/json"}
_MOST = 10_000


class Body(BaseModel):
    text: str = ""


def application(**of_edge: object) -> FastAPI:
    api = FastAPI()
    routes = APIRouter(route_class=JsonRoute, dependencies=[Depends(Allow("node"))])

    @routes.post("/v1/echo")
    async def echo(body: Body) -> int:
        return len(body.text)

    @routes.get("/v1/things")
    async def things() -> list[str]:
        return ["a", "b"]

    @routes.put("/v1/things")
    async def put() -> None:
        raise NotImplementedError

    @routes.get("/v1/stream")
    async def stream() -> StreamingResponse:
        async def endless() -> AsyncIterator[str]:
            while True:
                yield "again\n"
                await asyncio.sleep(0.01)

        return StreamingResponse(endless(), media_type="text/event-stream")

    api.include_router(routes)
    Edge(limits=Limits(max_body_bytes=_MOST), **of_edge).install(api)  # type: ignore[arg-type]
    return api


def post(api: FastAPI, body: bytes, **headers: str) -> Answer:
    given = JSON | {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(ask(api, "/v1/echo", [body], headers=given))


def preflight(api: FastAPI, origin: str = SHOP) -> Answer:
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type,x-api-key"}
    return asyncio.run(ask(api, "/v1/echo", method="OPTIONS", headers={"Origin": origin, **asked}))


def test_a_browser_of_an_allowed_page_may_ask_before_it_sends_a_key() -> None:
    api = application(keys=KeyRing(admin_key="right"), origins=(SHOP,))
    answer = preflight(api)
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type,x-api-key"
    with_key = {"Origin": SHOP, "X-API-Key": "right"}
    assert post(api, b"{}", **with_key).headers["access-control-allow-origin"] == SHOP
    refused = post(api, b"{}", Origin=SHOP)  # a page is to see why
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, SHOP)
    other = preflight(api, "https://else.example")
    assert (other.status, "access-control-allow-origin" in other.headers) == (400, False)
    answered = post(api, b"{}", **{"Origin": "https://else.example", "X-API-Key": "right"})
    assert "access-control-allow-origin" not in answered.headers


def test_nobody_elses_page_may_ask_by_default() -> None:
    answer = preflight(application())
    assert answer.status == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert preflight(application(origins=("*",))).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("origin", ["shop.example", "https://shop.example/", "https://a b", "ftp://shop.example", ""])
def test_an_origin_is_what_browsers_send(origin: str) -> None:
    assert ServiceConfig(origins=(SHOP, "http://localhost:3000", "*")).origins
    with pytest.raises(ValidationError, match="origins"):
        ServiceConfig(origins=(origin,))


def test_head_is_get_without_the_body() -> None:
    api = application()
    head, get = (asyncio.run(ask(api, "/v1/things", method=method)) for method in ("HEAD", "GET"))
    assert (head.status, head.body, get.body) == (200, b"", b'["a","b"]')
    assert head.headers == get.headers | {"x-request-id": head.headers["x-request-id"]}
    for path, status in (("/docs", 200), ("/v1/nothing", 404), ("/v1/echo", 405)):
        answer = asyncio.run(ask(api, path, method="HEAD"))
        assert (answer.status, answer.body) == (status, b"")
    assert asyncio.run(ask(application(keys=KeyRing(admin_key="right")), "/v1/things", method="HEAD")).status == 401


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/v1/things", "GET, HEAD, PUT"), ("/v1/echo", "POST"), ("/docs", "GET, HEAD")],
)
def test_allow_names_every_method_of_a_path(path: str, allowed: str) -> None:
    for method in ("DELETE", "PATCH"):
        answer = asyncio.run(ask(application(), path, method=method))
        assert (answer.status, answer.headers["allow"]) == (405, allowed)


def test_head_of_an_endless_answer_ends() -> None:
    api = application()

    async def heads() -> list[Answer]:
        return [await asyncio.wait_for(ask(api, "/v1/stream", method="HEAD", ends=False), 5) for _ in range(3)]

    assert [(head.status, head.body) for head in asyncio.run(heads())] == [(200, b"")] * 3


@pytest.mark.heavy
def test_gzip_is_taken_within_the_limit_of_the_body() -> None:
    api = application()
    text = json.dumps({"text": "a" * 9_000}).encode()
    for coding in ("gzip", "GZIP", "x-gzip"):
        answer = post(api, gzip.compress(text), Content_Encoding=coding)
        assert (answer.status, answer.body) == (200, b"9000")
    assert post(api, text, Content_Encoding="identity").status == 200
    bomb = gzip.compress(b" " * 100_000_000)
    answer = post(api, bomb[:_MOST], Content_Encoding="gzip")
    assert (answer.status, answer.error["code"]) == (413, "body_too_large")
    assert post(api, gzip.compress(b" " * (_MOST + 1)), Content_Encoding="gzip").status == 413


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"k":1}', "not gzip"),
        (gzip.compress(b"{}", mtime=0)[:-3], "one whole gzip stream"),
        (gzip.compress(b"{}", mtime=0) * 2, "one whole gzip stream"),
        (zlib.compress(b"{}"), "not gzip"),
        (b"", "one whole gzip stream"),
    ],
)
def test_what_is_no_gzip_is_refused(body: bytes, message: str) -> None:
    answer = post(application(), body, Content_Encoding="gzip")
    assert (answer.status, answer.error["code"]) == (422, "invalid_request")
    assert message in answer.error["message"]


@pytest.mark.parametrize("coding", ["br", "deflate", "gzip, gzip", "zstd"])
def test_other_codings_are_refused_by_name(coding: str) -> None:
    answer = post(application(), b"{}", Content_Encoding=coding)
    assert (answer.status, answer.error["code"]) == (415, "unsupported_media_type")
    assert coding in answer.error["message"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_called_by_its_name(encoding: str) -> None:
    answer = post(application(), '{"text":"a"}'.encode(encoding))
    assert answer.status == 422
    assert "begins with a byte order mark" in answer.error["message"]
