"""The log: one JSON object a line, a line for each request, and no secret in any."""

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response, StreamingResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from data import json_lines as logs
from data.json_lines import JsonFormatter, Redact
from data.log.current import keys
from data.log.store import Store
from data.settings import Settings
from serve.config import Limits
from serve.http.access_log import Recorder
from serve.http.answers import Answers
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from tests.support.asgi import ask

TOKEN = "rk_0123456789abcdef_aB3-_xYz0123456789012345678901234567890123"
SECRET = "the environment's"


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    service, other = logging.getLogger("raycommend"), logging.getLogger("raycommend_other")
    kept = service.handlers[:], service.level, service.propagate
    logs.setup([SECRET], stream, others=["raycommend_other"])
    yield stream
    service.handlers[:], service.level, service.propagate = kept
    other.filters.clear()


def lines(log: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


def application(keys: KeyRing | None = None, **edge: Any) -> FastAPI:
    api = FastAPI()

    @api.get("/v1/decisions/{decision_id}")
    async def decision(decision_id: str) -> str:
        logging.getLogger("raycommend.service").warning("looked for it with %s", f"Bearer {TOKEN}")
        return decision_id

    @api.get("/v1/files/{path:path}")
    async def files(path: str) -> str:
        return path

    @api.get("/v1/fail")
    async def fail() -> None:
        raise RuntimeError(f"cannot reach https://user:{SECRET}@host")

    @api.get("/v1/half")
    async def half() -> Response:
        async def parts() -> Any:
            yield b"half"
            raise RuntimeError("the rest is lost")

        return StreamingResponse(parts(), headers={"Cache-Control": "no-cache"})

    Edge(keys or KeyRing(), Limits(), redact=Redact([SECRET]), plain=Settings().plain, **edge).install(api)
    return api


def get(path: str, api: FastAPI | None = None, **headers: str) -> Any:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(ask(api or application(), path, method="GET", headers=given))


@pytest.mark.usefixtures("plain")
def test_a_request_is_one_line(log: io.StringIO) -> None:
    answer = get("/v1/files/a/b", x_request_id="mine-1")
    assert answer.headers["x-request-id"] == "mine-1"
    (line,) = lines(log)
    assert line.pop("ms") > 0
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "raycommend.access",
        "request_id": "mine-1",
        "method": "GET",
        "path": "/v1/files/{path}",
        "status": 200,
    }


@pytest.mark.usefixtures("plain")
def test_requests_of_one_turn_of_the_loop_are_a_line_each(log: io.StringIO) -> None:
    api = application()

    async def together() -> None:
        await asyncio.gather(
            *(ask(api, f"/v1/files/{n}", method="GET", headers={"x-request-id": f"r{n}"}) for n in range(5))
        )

    for _ in range(2):
        asyncio.run(together())
    access = [line["request_id"] for line in lines(log) if line["logger"] == "raycommend.access"]
    assert sorted(access) == sorted(2 * [f"r{n}" for n in range(5)])


@pytest.mark.usefixtures("plain")
def test_what_else_is_logged_meanwhile_has_its_id_and_no_key(log: io.StringIO) -> None:
    get("/v1/decisions/secret-id", x_request_id="mine-2")
    warning, access = lines(log)
    assert warning["message"] == "looked for it with Bearer ***"
    assert warning["request_id"] == access["request_id"] == "mine-2"
    assert access["path"] == "/v1/decisions/{decision_id}"
    assert "secret-id" not in log.getvalue()


@pytest.mark.usefixtures("plain")
def test_the_key_is_named_and_not_shown(log: io.StringIO, tmp_path: Any) -> None:
    store = Store.open(f"sqlite:///{tmp_path / 'store.db'}")
    token = keys.create(store, "shop", "reader")
    api = application(KeyRing(store))
    get("/v1/files/x", api, authorization=f"Bearer {token}")
    get("/v1/files/x", api, authorization=f"Bearer {token}x")
    get(f"/v1/{token}", api, authorization=f"Bearer {token}")
    store.close()
    new, first, second, third = lines(log)
    assert new["message"].endswith("is a new log")
    assert (first["key"], first["status"]) == (token.split("_")[1], 200)
    assert (second["status"], second["error"]) == (401, "unauthorized")
    assert "key" not in second
    assert (third["path"], third["status"], third["error"]) == ("unmatched", 404, "not_found")
    assert token.split("_", 2)[2] not in log.getvalue()


@pytest.mark.usefixtures("plain")
def test_a_fault_is_logged_with_its_traceback_and_answered_without(log: io.StringIO) -> None:
    answer = get("/v1/fail")
    assert (answer.status, answer.error["code"]) == (500, "internal")
    failed, access = lines(log)
    assert failed["level"] == "error"
    assert 'raise RuntimeError(f"cannot reach' in failed["traceback"]
    assert "RuntimeError: cannot reach https://user:***@host" in failed["traceback"]
    assert failed["request_id"] == access["request_id"] == answer.headers["x-request-id"] == answer.error["request_id"]
    assert (access["status"], access["error"]) == (500, "internal")
    assert SECRET not in log.getvalue()
    assert b"RuntimeError" not in answer.body


def test_a_fault_amid_an_answer_ends_it(log: io.StringIO) -> None:
    with pytest.raises(AssertionError):  # it has no end
        get("/v1/half")
    failed, access = lines(log)
    assert "the rest is lost" in failed["traceback"]
    assert access["status"] == 200


def test_a_client_that_left_is_499(log: io.StringIO) -> None:
    async def wait(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(60)

    async def run() -> None:
        task = asyncio.create_task(ask(Recorder(wait, Answers(), Redact())))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert lines(log)[0]["status"] == 499


def test_the_access_log_can_be_off_and_the_id_left_to_a_front(log: io.StringIO) -> None:
    answer = get("/v1/files/x", application(access_log=False, answer_id=False))
    assert "x-request-id" not in answer.headers
    assert log.getvalue() == ""


@pytest.mark.parametrize(
    "given", ["", "a" * 65, "a b", "é", "-a", 'a"b', f"a{TOKEN}", TOKEN, "{}", "../x", SECRET.replace(" ", "")]
)
def test_a_request_id_that_is_none_is_replaced(given: str, log: io.StringIO) -> None:
    answered = get("/v1/files/x", x_request_id=given).headers["x-request-id"]
    assert answered != given
    assert len(answered) == 32
    assert lines(log)[0]["request_id"] == answered


def test_every_answer_has_the_headers_of_security() -> None:
    for path in ("/v1/files/x", "/v1/nothing", "/v1/fail", "/openapi.json"):
        headers = get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"


def test_an_answer_may_say_itself_how_long_it_keeps() -> None:
    seen: list[Any] = []

    async def send(message: Any) -> None:
        seen.append(message)

    async def keep(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(headers={"Cache-Control": "max-age=60"})(scope, receive, send)

    assert asyncio.run(ask(Recorder(keep, Answers(), Redact()))).headers["cache-control"] == "max-age=60"


@pytest.mark.parametrize(
    "text",
    [
        TOKEN,
        f"key {TOKEN}, and on",
        f"Authorization: Bearer {TOKEN}",
        "Authorization: Basic dXNlcjpwYXNz",
        "{'authorization': 'Bearer opaque-value'}",
        "[(b'authorization', b'Bearer opaque-value')]",
        "X-API-Key=opaque-value",
        "(b'x-api-key', b'opaque-value')",
        '{"Ocp-Apim-Subscription-Key": "opaque-value"}',
        "RAYCOMMEND_API_KEY=opaque-value",
        "api_key='opaque-value'",
        f"it was {SECRET}!",
    ],
)
def test_what_carries_a_secret_is_hidden(text: str) -> None:
    shown = Redact([SECRET]).text(text)
    for secret in (TOKEN.split("_", 2)[2], "opaque-value", "dXNlcjpwYXNz", SECRET):
        assert secret not in shown
    assert "***" in shown


def test_the_id_of_a_key_stays() -> None:
    assert Redact().text(TOKEN) == "rk_0123456789abcdef_***"


def test_what_carries_none_stays() -> None:
    text = "user 12 of node online_retail asked for 3 items; the bearer of bad news"
    assert Redact([SECRET]).text(text.replace("bearer of", "bearer")) == text.replace("bearer of bad", "bearer ***")
    assert Redact(["", SECRET]).text("decision rk9 of 2026-01-01T00:00:00+00:00") == (
        "decision rk9 of 2026-01-01T00:00:00+00:00"
    )


secrets = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=8).filter(lambda s: "*" not in s)


@given(before=st.text(), secret=secrets, after=st.text())
def test_a_given_secret_is_never_logged(before: str, secret: str, after: str) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    handler.addFilter(Redact([secret]))
    logger = logging.Logger("of its own")
    logger.addHandler(handler)
    logger.warning("%s", before + secret + after)
    logger.warning(f"{before}{secret}{after}".replace("%", "%%"), extra={"fields": {"x": secret}})
    try:
        raise ValueError(before + secret + after)
    except ValueError:
        logger.exception("failed")
    for line in stream.getvalue().splitlines():
        record = json.loads(line)
        assert not any(secret in str(value) for key, value in record.items() if key not in ("time", "level", "logger"))


def test_other_loggers_keep_their_handlers_and_lose_secrets(log: io.StringIO, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("raycommend_other").warning("with %s", TOKEN)
    assert "rk_0123456789abcdef_***" in caplog.text
    assert TOKEN not in caplog.text
    assert log.getvalue() == ""


def test_setting_up_again_does_not_double_the_lines() -> None:
    first, second = io.StringIO(), io.StringIO()
    logger = logging.getLogger("raycommend")
    kept = logger.handlers[:], logger.level, logger.propagate
    logs.setup([], first, others=["raycommend_other"])
    logs.setup([], second, others=["raycommend_other"])
    logger.info("once")
    assert (first.getvalue(), len(second.getvalue().splitlines())) == ("", 1)
    assert len(logging.getLogger("raycommend_other").filters) == 1
    logging.getLogger("raycommend_other").filters.clear()
    logger.handlers[:], logger.level, logger.propagate = kept


PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.usefixtures("plain")
def test_a_trace_names_a_request_that_has_no_id(log: io.StringIO) -> None:
    trace = PARENT.split("-")[1]
    assert get("/v1/files/x", traceparent=PARENT).headers["x-request-id"] == trace
    assert get("/v1/files/x", traceparent=PARENT, x_request_id="mine").headers["x-request-id"] == "mine"
    assert get("/v1/files/x", traceparent=f"{PARENT}-").headers["x-request-id"] != trace
    assert [line["request_id"] for line in lines(log)][:2] == [trace, "mine"]


@pytest.mark.usefixtures("plain")
def test_a_line_says_which_decisions_it_is_about_and_by_which_version(log: io.StringIO) -> None:
    api = FastAPI()

    @api.get("/note")
    async def note(count: int) -> None:
        logs.note_decisions((f'd"{n}-{SECRET}-{TOKEN}', "v1" if n < 2 else "v2") for n in range(count))
        logging.getLogger("raycommend.service").warning("meanwhile")

    Edge(KeyRing(), Limits(), redact=Redact([SECRET]), plain=Settings().plain).install(api)

    async def ask_for(count: int) -> None:
        scope_path = "/note"
        await ask(with_query(api, f"count={count}"), scope_path, method="GET")

    for count in (0, 1, 3, 200):
        asyncio.run(ask_for(count))
    hidden = 'd"{}-***-rk_0123456789abcdef_***'
    for both in zip(*[iter(lines(log))] * 2, strict=True):
        assert both[0]["message"] == "meanwhile"
    meanwhile, access = lines(log)[0::2], lines(log)[1::2]
    for said in (meanwhile, access):
        none, one, three, many = said
        assert "decision_id" not in none
        assert (one["decision_id"], one["policy_version"]) == (hidden.format(0), "v1")
        assert "decisions" not in one
        assert (three["decisions"], three["policy_versions"]) == (3, ["v1", "v2"])
        assert three["decision_ids"] == [hidden.format(n) for n in range(3)]
        assert (many["decisions"], len(many["decision_ids"])) == (200, 100)


def with_query(app: ASGIApp, query: str) -> ASGIApp:
    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "query_string": query.encode()}, receive, send)

    return asked
