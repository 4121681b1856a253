"""Every error of the table is produced here, in each shape; and nothing of ours shows in any."""

import asyncio
import json
from typing import Any, get_args

import pytest
from fastapi import APIRouter, Body, Depends, FastAPI
from starlette.responses import JSONResponse, Response

from data.feature_objects import FeatureError
from data.log.errors import StoreUnavailable
from data.log.writer.commit import StoreBusy
from rl.policy.errors import PolicyError
from serve.api.personalizer.errors import ERRORS as PERSONALIZER
from serve.api.personalizer.errors import Code as PersonalizerCode
from serve.config import Limits
from serve.contracts.errors import ERRORS, Code, Failure
from serve.http import answers as errors
from serve.http import gate as limits
from serve.http.answers import Answers
from serve.http.body import JsonRoute
from serve.http.edge import Allow, Edge
from serve.http.exchange import Exchange
from serve.http.keys import KeyRing, Principal
from tests.support.asgi import Answer, ask

HEADERS = {"content-type": "application/json", "x-api-key": "k", "x-request-id": "r-1"}
REFUSALS: dict[str, Exception] = {
    **{
        code: ERRORS.refuse(code, f"about {code}", "a.b")
        for code in ("unknown_node", "unknown_decision", "unknown_user")
    },
    **{
        code: ERRORS.refuse(code, f"about {code}")
        for code in (
            "unknown_item",
            "unknown_abtest",
            "conflict",
            "timeout",
            "not_ready",
            "making_again",
            "not_explainable",
        )
    },
    "unanswerable": PolicyError("no candidate is left"),
    "store_unavailable": StoreUnavailable("cannot open /secret/store.db"),
    "internal": RuntimeError("/secret/path"),
}


def personalizer(failure: Failure, asked: Exchange) -> Response:
    """Stand for another dialect: other codes, another status for what is invalid."""
    status = 400 if failure.code == "invalid_request" else failure.kind.status
    return JSONResponse({"error": {"code": failure.code.title(), "message": failure.message}}, status)


def application(given: Limits, mounted: bool = False, keys: KeyRing | None = None) -> FastAPI:
    """Return an application that can fail in every way, under /v1 and, in another shape, under /personalizer."""
    api = FastAPI()
    router = APIRouter(route_class=JsonRoute, dependencies=[Depends(Allow("node"))])

    @router.post("/fail/{code}")
    async def fail(code: str) -> None:
        raise REFUSALS[code]

    @router.post("/number")
    async def number(n: int = Body(embed=True)) -> int:
        return n

    @router.post("/reading", dependencies=[Depends(Allow("reader"))])
    async def reading() -> None:
        return None

    answers = Answers(by_prefix={"/personalizer": personalizer})
    api.include_router(router, prefix="/v1")
    if mounted:
        sub = FastAPI()
        sub.include_router(router)
        errors.install(sub, answers)
        api.mount("/personalizer", sub)
    else:
        api.include_router(router, prefix="/personalizer")
    Edge(keys or KeyRing(admin_key="k"), given, answers, access_log=False).install(api)
    return api


async def produce(code: str, prefix: str, mounted: bool = False) -> Answer:
    """Let an application answer with an error."""
    app = application(Limits(max_body_bytes=50, requests_per_s=0.01, burst=1, body_timeout_s=0.05), mounted)
    path, headers = f"{prefix}/number", HEADERS
    good = [b'{"n": 1}']
    match code:
        case "invalid_request":
            return await ask(app, path, [b'{"n": "x"}'], headers=headers)
        case "unauthorized":
            return await ask(app, path, good, headers={**headers, "x-api-key": "wrong"})
        case "not_found":
            return await ask(app, f"{prefix}/nothing", headers=headers)
        case "method_not_allowed":
            return await ask(app, path, method="GET", headers=headers)
        case "body_timeout":
            return await ask(app, path, good, headers=headers, ends=False)
        case "body_too_large":
            return await ask(app, path, good * 10, headers=headers)
        case "unsupported_media_type":
            return await ask(app, path, good, headers={**headers, "content-type": "text/csv"})
        case "rate_limited":
            await ask(app, path, good, headers=headers)
            return await ask(app, path, good, headers=headers)
        case "busy":
            app = application(Limits(max_buffered_bytes=1), mounted)
            return await ask(app, path, good, headers=headers)
        case "forbidden":
            return await ask(as_node(mounted), f"{prefix}/reading", headers=headers)
    return await ask(app, f"{prefix}/fail/{code}", headers=headers)


def as_node(mounted: bool) -> FastAPI:
    """Return the application as a key of role node finds it."""
    ring = KeyRing(admin_key="k")
    node = Principal("id", "shop", "node")
    ring.authenticate = lambda *_: node  # type: ignore[method-assign]
    return application(Limits(), mounted, ring)


@pytest.fixture(autouse=True)
def short_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_LINGER_S", 0.01)


@pytest.mark.parametrize("code", ERRORS)
def test_every_error_is_produced(code: Code) -> None:
    kind, answer = ERRORS[code], asyncio.run(produce(code, "/v1"))
    assert (answer.status, answer.error["code"]) == (kind.status, code)
    assert answer.error["message"]
    assert answer.error["request_id"] == answer.headers["x-request-id"] == "r-1"
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (kind.retry_after_s is not None)
    assert answer.headers.get("www-authenticate") == ("Bearer" if code == "unauthorized" else None)
    assert answer.headers.get("allow") == ("POST" if code == "method_not_allowed" else None)
    assert b"secret" not in answer.body
    assert b"Traceback" not in answer.body


@pytest.mark.parametrize("mounted", [False, True])
@pytest.mark.parametrize("code", ERRORS)
def test_and_in_the_shape_of_its_path(code: Code, mounted: bool) -> None:
    kind, answer = ERRORS[code], asyncio.run(produce(code, "/personalizer", mounted))
    assert answer.status == (400 if code == "invalid_request" else kind.status)
    assert set(answer.error) == {"code", "message"}
    assert answer.error["code"] == code.title()
    assert ("retry-after" in answer.headers) == (kind.retry_after_s is not None)
    assert b"secret" not in answer.body


def test_a_prefix_is_a_whole_part_of_a_path() -> None:
    answer = asyncio.run(ask(application(Limits()), "/personalizers", headers=HEADERS))
    assert answer.error["code"] == "not_found"


def test_what_and_where_are_said() -> None:
    answer = asyncio.run(produce("unknown_node", "/v1"))
    assert answer.error == {
        "code": "unknown_node",
        "message": "about unknown_node",
        "where": "a.b",
        "request_id": "r-1",
    }
    wrong = asyncio.run(produce("invalid_request", "/v1"))
    assert wrong.error["where"] == "n"
    forbidden = asyncio.run(produce("forbidden", "/v1"))
    assert forbidden.error["message"] == "a key of role reader or admin may do this, and this one's is node"


def test_a_busy_log_is_unavailable_and_the_log_alone_says_why(caplog: pytest.LogCaptureFixture) -> None:
    REFUSALS["busy_log"] = StoreBusy("10000 records wait")
    answer = asyncio.run(produce("busy_log", "/v1"))
    assert (answer.status, answer.error["code"]) == (503, "store_unavailable")
    assert "10000 records wait" in caplog.text
    assert b"10000" not in answer.body


def test_an_answer_does_not_grow_with_the_request() -> None:
    async def run(body: Any) -> Answer:
        return await ask(application(Limits()), "/v1/number", [json.dumps(body).encode()], headers=HEADERS)

    assert len(asyncio.run(run({"x" * 100_000: 1})).body) < 2_000
    REFUSALS["long"] = ERRORS.refuse("conflict", "m" * 5_000, "w" * 5_000)
    assert len(asyncio.run(produce("long", "/v1")).body) < 2_000


def test_a_code_that_is_not_in_the_table_cannot_be_raised() -> None:
    with pytest.raises(KeyError):
        ERRORS.refuse("no_such_code", "x")  # type: ignore[arg-type]


def test_each_code_has_a_row_and_no_status_by_chance() -> None:
    for table, code in ((ERRORS, Code), (PERSONALIZER, PersonalizerCode)):
        assert tuple(table) == get_args(code)
    for kind in ERRORS.values():
        assert kind.right
        assert kind.retry_after_s is None or kind.status in (429, 503)
        assert kind.status not in (429, 503) or kind.retry_after_s is not None


def test_features_that_cannot_be_encoded_are_the_clients() -> None:
    failure = errors.to_failure(FeatureError("must be a number", "a.b[0]"))
    assert (failure.code, failure.kind.status, failure.where) == ("invalid_request", 422, "a.b[0]")
    assert failure.message == "a.b[0] must be a number"
    assert FeatureError in errors.HANDLED
