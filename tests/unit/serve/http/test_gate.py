"""What one request, one client and all together may take."""

import asyncio
import json
from contextlib import suppress
from typing import Any

import pytest
from fastapi import APIRouter, Body, FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from serve.config import Limits
from serve.contracts.errors import Refused
from serve.http import gate as limits
from serve.http.body import JsonRoute, parse_json
from serve.http.edge import Edge
from serve.http.front import Front, middlewares
from serve.http.gate import RateLimiter
from serve.http.keys import KeyRing
from tests.support.asgi import ask

JSON = {"content-type": "application/json"}


def api(given: Limits, keys: KeyRing | None = None, started: asyncio.Event | None = None) -> FastAPI:
    """Return an application with something to wait for behind the edge."""
    app = FastAPI()
    router = APIRouter(route_class=JsonRoute)
    go_on = asyncio.Event()

    @router.post("/echo")
    async def echo(body: Any = Body()) -> Any:  # noqa: B008 - FastAPI's way
        return body

    @router.post("/wait")
    @router.get("/v1/stream")
    async def wait() -> None:
        if started:
            started.set()
        await go_on.wait()

    @router.post("/go_on")
    async def release() -> None:
        go_on.set()

    @router.get("/healthz")
    async def healthz() -> None:
        return None

    app.include_router(router)
    Edge(keys or KeyRing(), given, access_log=False).install(app)
    return app


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_grants_its_burst_and_then_its_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(rate=10, burst=3, clock=clock)
    assert [limiter.take("a") for _ in range(3)] == [0, 0, 0]
    assert limiter.take("a") == pytest.approx(0.1)
    assert limiter.take("b") == 0
    clock.now += 0.05
    assert limiter.take("a") == pytest.approx(0.05)
    clock.now += 0.05
    assert limiter.take("a") == 0
    assert limiter.take("a") == pytest.approx(0.1)
    clock.now += 100
    assert [limiter.take("a") > 0 for _ in range(4)] == [False, False, False, True]


@given(
    rate=st.floats(0.1, 1_000),
    burst=st.integers(1, 50),
    pauses=st.lists(st.floats(0, 2), min_size=1, max_size=200),
)
def test_it_decides_as_counting_tokens_does(rate: float, burst: int, pauses: list[float]) -> None:
    clock, tokens = Clock(), float(burst)
    limiter = RateLimiter(rate, burst, clock=clock)
    for pause in pauses:
        clock.now += pause
        tokens = min(burst, tokens + pause * rate)
        if abs(tokens - 1) < 1e-6:  # here floats decide
            return
        granted = limiter.take("a") == 0
        assert granted == (tokens >= 1)
        tokens -= granted


@pytest.mark.parametrize("replicas", [1, 2, 8])
def test_replicas_grant_the_rate_together(replicas: int) -> None:
    clock = Clock()
    limiters = [RateLimiter(rate=100, burst=16, clock=clock) for _ in range(replicas)]
    for limiter in limiters:
        limiter.share(replicas)
    granted = 0
    for _ in range(10_000):  # 10 s
        clock.now += 0.001
        granted += sum(limiter.take("a") == 0 for limiter in limiters)
    assert granted == pytest.approx(16 + 1_000, abs=replicas)


def test_a_replica_with_a_small_share_still_grants_one() -> None:
    limiter = RateLimiter(rate=0.1, burst=1, clock=Clock())
    limiter.share(8)
    assert limiter.take("a") == 0
    assert limiter.take("a") == pytest.approx(80)


def test_what_is_remembered_is_bounded_and_the_longest_silent_is_forgotten() -> None:
    limiter = RateLimiter(rate=1, burst=1, clients=3, clock=Clock())
    for client in "abca":  # a was refused: it has asked, and was granted nothing
        limiter.take(client)
    limiter.take("d")
    assert len(limiter._full_at) == 3
    assert [limiter.take(client) > 0 for client in "bcd"] == [True, True, True]
    for number in range(100):
        limiter.take(str(number))
    assert len(limiter._full_at) == 3


def test_a_key_that_asks_too_often_waits_and_others_do_not() -> None:
    async def run() -> None:
        app = api(Limits(requests_per_s=0.5, burst=2), KeyRing(admin_key="k"))
        key = {"x-api-key": "k", **JSON}
        assert [(await ask(app, "/echo", [b"1"], headers=key)).status for _ in range(2)] == [200, 200]
        refused = await ask(app, "/echo", [b"1"], headers=key)
        assert (refused.status, refused.headers["retry-after"]) == (429, "2")
        assert refused.error["code"] == "rate_limited"
        assert refused.read == 0
        guesses = [await ask(app, "/echo", headers={"x-api-key": str(i)}, client="192.0.2.9") for i in range(3)]
        assert [guess.status for guess in guesses] == [401, 401, 429]
        assert (await ask(app, "/healthz", method="GET", client="192.0.2.9")).status == 200

    asyncio.run(run())


def test_a_declared_body_that_is_too_large_is_not_read() -> None:
    app = api(Limits(max_body_bytes=100))
    answer = asyncio.run(ask(app, "/echo", [b"1" * 101], headers={**JSON, "content-length": "101"}))
    assert (answer.status, answer.error["code"], answer.read) == (413, "body_too_large", 0)
    assert "100 bytes" in answer.error["message"]


def test_a_body_is_counted_whatever_it_declares() -> None:
    app = api(Limits(max_body_bytes=100))
    for headers in ({"transfer-encoding": "chunked"}, {"content-length": "5"}, {"content-length": "-1"}, {}):
        answer = asyncio.run(ask(app, "/echo", (b"[[[[[[[[[[" for _ in range(50)), headers={**JSON, **headers}))
        assert (answer.status, answer.read) == (413, 110)
    answer = asyncio.run(ask(app, "/echo", [b'"', b"x" * 98, b'"'], headers=JSON))
    assert (answer.status, len(answer.body)) == (200, 100)


def test_a_body_that_does_not_come_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "_LINGER_S", 0.05)
    app = api(Limits(body_timeout_s=0.1))
    answer = asyncio.run(ask(app, "/echo", [b"[1,"], headers=JSON, ends=False))
    assert (answer.status, answer.error["code"], answer.headers["connection"]) == (408, "body_timeout", "close")
    assert "3 bytes did" in answer.error["message"]


@pytest.mark.parametrize(("path", "method"), [("/wait", "POST"), ("/v1/stream", "GET")])
def test_more_than_the_replica_takes_is_told_to_come_back(path: str, method: str) -> None:
    async def run() -> None:
        started = asyncio.Event()
        app = api(Limits(max_in_flight=1, max_streams=1), started=started)
        first = asyncio.create_task(ask(app, path, method=method, headers=JSON))
        await started.wait()
        refused = await ask(app, path, method=method, headers=JSON)
        assert (refused.status, refused.error["code"], refused.headers["retry-after"]) == (503, "busy", "1")
        assert (await ask(app, "/healthz", method="GET")).status == 200
        other = await ask(app, "/echo", [b"1"], headers=JSON)
        assert other.status == (503 if path == "/wait" else 200)  # a stream takes no room of others
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        assert (await ask(app, "/echo", [b"1"], headers=JSON)).status == 200  # what was cancelled left

    asyncio.run(run())


def test_arriving_bodies_together_are_bounded() -> None:
    async def run() -> None:
        app = api(Limits(max_buffered_bytes=1_000, body_timeout_s=60))
        slow = [asyncio.create_task(ask(app, "/echo", [b"x" * 400], headers=JSON, ends=False)) for _ in range(3)]
        await asyncio.sleep(0.05)
        refused = await ask(app, "/echo", [b"1"], headers=JSON)
        assert (refused.status, refused.error["code"]) == (503, "busy")
        for task in slow:
            task.cancel()
        await asyncio.gather(*slow, return_exceptions=True)
        assert (await ask(app, "/echo", [b"1"], headers=JSON)).status == 200

    asyncio.run(run())


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"",
        b"\xff\xfe",
        b'"\xc3("',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"[" * 250 + b"]" * 250,
        b"NaN",
        b'{"a": [1, -Infinity]}',
        b'{"a": {"b": [1e999]}}',
        b"[-1" + b"0" * 400 + b".5]",
        b"1" * 5_000,
        b'"\\ud800"',
        b"[1] x",
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_is_invalid(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        parse_json(body)
    assert caught.value.failure.code == "invalid_request"
    answer = asyncio.run(ask(api(Limits()), "/echo", [body], headers=JSON))
    assert (answer.status, answer.error["code"]) == (422, "invalid_request")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value


@given(st.binary(max_size=200))
def test_no_bytes_break_the_parser(body: bytes) -> None:
    with suppress(Refused):
        parse_json(body)


@pytest.mark.parametrize(
    ("media_type", "status"),
    [
        ("application/json", 200),
        ("Application/JSON; charset=utf-8", 200),
        ("application/problem+json", 200),
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("application/xml", 415),
        (None, 415),
    ],
)
def test_a_body_is_sent_as_json(media_type: str | None, status: int) -> None:
    headers = {"content-type": media_type} if media_type else {}
    assert asyncio.run(ask(api(Limits()), "/echo", [b"1"], headers=headers)).status == status


header_names = st.sampled_from(
    ["authorization", "x-api-key", "content-length", "transfer-encoding", "content-type", "x-request-id", "expect"]
)


@pytest.mark.heavy
@given(headers=st.dictionaries(header_names, st.text(st.characters(max_codepoint=255)), max_size=5))
def test_no_header_is_a_fault_of_ours(headers: dict[str, str]) -> None:
    app = api(Limits(), KeyRing(admin_key="a key that no header is"))
    answer = asyncio.run(ask(app, "/echo", [b"1"], headers=headers))
    assert answer.status == 401


def test_only_the_front_steers_serve() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        names = ",".join(name.decode() for name, _ in scope["headers"])
        await Response(names)(scope, receive, send)

    def kept(headers: dict[str, str]) -> str:
        return asyncio.run(ask(Front(echo), headers=headers)).body.decode()

    steering = {name: "1" for name in ("X-Request-Timeout-Seconds", "X_Session_Id", "serve_multiplexed_model_id")}
    ours = "x-request-disconnect-disabled"
    assert kept({"Accept": "*/*", **steering, ours: "?0", "X-Request-Id": "mine-1"}) == f"accept,x-request-id,{ours}"
    for wrong in ("é", "", "a" * 65, "rk_01_secret"):
        assert kept({"X-Request-Id": wrong}) == ours
    (middleware,) = middlewares()
    assert repr(middleware).startswith("Middleware(Front")


def test_the_front_refuses_what_is_for_another_replica() -> None:
    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("echo")(scope, receive, send)

    front = Front(echo, "qk3x8a1z")
    for headers in ({}, {"X-Serve-Server": "SERVE_REPLICA_raycommend-Gateway-qk3x8a1z"}):
        assert asyncio.run(ask(front, headers=headers)).status == 200
    answer = asyncio.run(ask(front, headers={"X-Serve-Server": "SERVE_REPLICA_raycommend-Gateway-other000"}))
    assert (answer.status, answer.headers["retry-after"], answer.error["code"]) == (503, "1", "not_ready")
