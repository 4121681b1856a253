"""The HTTP interface over a real store, without Ray: every route, every error, and what a retry changes."""

import json
import sqlite3
from typing import Any
from uuid import RFC_4122, UUID

import pytest
from fastapi.testclient import TestClient
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from data.log.errors import StoreUnavailable
from data.log.store import Store
from data.log.writer.commit import StoreBusy
from data.nodes.node import load_node
from data.settings import Settings
from serve.api.application import create_api
from serve.decisions.service import Service
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from tests.support.rows import count_rows, feedback_rows
from tests.support.shops import shop_service

ROW = {
    "InvoiceNo": "536365",
    "StockCode": "85123A",
    "Description": "WHITE HANGING HEART",
    "Quantity": 6,
    "InvoiceDate": "2010-12-01T08:26:00",
    "UnitPrice": 2.55,
    "CustomerID": 17850,
    "Country": "United Kingdom",
}

pytestmark = pytest.mark.usefixtures("plain")

EARLY = {"decision_id": "d", "time": "0001-01-01T00:00:00+14:00"}


@pytest.fixture
def service(store: Store) -> Service:
    return shop_service(store, load_node("online_retail"))


def problem(response: Any) -> dict[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    return error


def test_a_recommendation_is_in_the_log_when_it_is_answered(client: TestClient, store: Store) -> None:
    answer = client.post("/v1/recommend", json={"user_id": "12000", "k": 4}).json()
    decision = store.decision(answer["decision_id"])
    assert decision is not None
    assert [item["item_id"] for item in answer["items"]] == list(decision.slate)
    assert [item["propensity"] for item in answer["items"]] == list(decision.propensities)
    assert answer["policy"] == {"name": "linear_thompson", "version": decision.policy_version}
    assert len(answer["items"]) == 4


def test_new_decision_ids_are_uuids_that_grow_with_time(client: TestClient, store: Store) -> None:
    ids = [answer["decision_id"] for answer in client.post("/v1/recommend", json=[{"k": 1}] * 100).json()]
    ids.append(client.post("/v1/recommend", json={"k": 1}).json()["decision_id"])
    assert len(set(ids)) == 101
    for decision_id in ids:
        read, decision = UUID(decision_id), store.decision(decision_id)
        assert decision is not None
        assert (read.hex, read.variant, read.version) == (decision_id, RFC_4122, 7)
        assert read.int >> 80 == int(decision.time.timestamp() * 1_000)
    drawn = [UUID(decision_id).int for decision_id in ids]
    for bit in [*range(62), *range(64, 76)]:  # all but the variant, the version and the time
        assert {number >> bit & 1 for number in drawn} == {0, 1}


def test_recommendations_go_past_fastapi_but_for_requests_without_a_body(service: Service, plain: bool) -> None:
    api, passed = create_api(service), list[str]()

    async def pass_by(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["path"])
        await Response(status_code=204)(scope, receive, send)

    api.router.middleware_stack = pass_by
    client = TestClient(api)
    assert client.post("/v1/recommend", json={"k": 1}).status_code == (204 if plain else 200)
    assert client.post("/v1/feedback", json={}).status_code == 204
    assert client.post("/v1/recommend").status_code == 204
    assert passed == [*(["/v1/recommend"] if plain else []), "/v1/feedback", "/v1/recommend"]


def test_asking_again_with_the_same_id_is_the_same_decision(client: TestClient, store: Store) -> None:
    body = {"user_id": "12000", "k": 4, "decision_id": "mine", "policy": "random"}
    first = client.post("/v1/recommend", json=body).json()
    assert client.post("/v1/recommend", json=body).json() == first
    assert count_rows(store)["decisions"] == 1


def test_fewer_candidates_than_k(client: TestClient) -> None:
    answer = client.post("/v1/recommend", json={"k": 10, "candidates": ["20001", "cold"]}).json()
    assert sorted(item["item_id"] for item in answer["items"]) == ["20001", "cold"]


def test_feedback_one_or_many(client: TestClient, store: Store) -> None:
    decision_id = client.post("/v1/recommend", json={"k": 2}).json()["decision_id"]
    one = client.post("/v1/feedback", json={"decision_id": decision_id, "kind": "view"})
    many = client.post(
        "/v1/feedback", json=[{"decision_id": decision_id, "kind": "click"}, {"decision_id": "?", "kind": "click"}]
    )
    assert [(r["status"], r["orphan"]) for r in one.json()["results"]] == [("stored", False)]
    assert [(r["status"], r["orphan"]) for r in many.json()["results"]] == [("stored", False), ("stored", True)]
    assert [r["position"] for r in many.json()["results"]] == [seq for seq, _ in feedback_rows(store)][1:]


def test_a_report_sent_twice_counts_once(client: TestClient, store: Store) -> None:
    report = {"decision_id": "d", "kind": "rating", "value": 4.5}
    first = client.post("/v1/feedback", json=report).json()["results"][0]
    again = client.post("/v1/feedback", json=report).json()["results"][0]
    other = client.post("/v1/feedback", json={**report, "value": 3.0}).json()["results"][0]
    assert again == {**first, "status": "known"}
    assert other["feedback_id"] != first["feedback_id"]
    assert count_rows(store)["feedback"] == 2


def test_events_are_stored_or_rejected_one_by_one(client: TestClient, store: Store) -> None:
    rows = [ROW, {**ROW, "Quantity": "six"}, {**ROW, "StockCode": "POST"}, ROW, {**ROW, "CustomerID": None}]
    rows.append({**ROW, "InvoiceDate": "9999-12-31T23:59:59-12:00"})  # no year 10000
    results = client.post("/v1/events", json={"node": "online_retail", "records": rows}).json()["results"]
    assert [r["status"] for r in results] == ["stored", "rejected", "rejected", "known", "rejected", "rejected"]
    assert [(r["rule"], r["value"]) for r in results if r["status"] == "rejected"] == [
        ("type of quantity", "six"),
        ("goods code", "POST"),
        ("customer present", None),
        ("type of invoice_date", "9999-12-31T23:59:59-12:00"),
    ]
    assert results[0]["event_id"] == results[3]["event_id"]
    assert count_rows(store) == {"decisions": 0, "feedback": 0, "events": 1, "rejects": 4, "versions": 0}
    [(_, event)] = store.events("online_retail")
    assert (event.user_id, event.item_id, event.outcome) == ("17850", "85123A", 6.0)
    assert event.record["session"] == "536365"


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("path", "body", "status", "code", "where", "message"),
    [
        ("/v1/recommend", {"k": 0}, 422, "invalid_request", "k", "greater than or equal to 1"),
        ("/v1/recommend", {"k": 101}, 422, "invalid_request", "k", "less than or equal to 100"),
        ("/v1/recommend", {"user": "x"}, 422, "invalid_request", "user", "Extra inputs"),
        ("/v1/recommend", {"candidates": []}, 422, "invalid_request", "candidates", "at least 1"),
        ("/v1/recommend", {"candidates": ["i"] * 1001}, 422, "invalid_request", "candidates", "at most 1000"),
        ("/v1/recommend", {"candidates": ["a"], "exclude": ["a"]}, 422, "unanswerable", None, "no candidate is left"),
        ("/v1/recommend", {"policy": "x"}, 422, "unanswerable", None, "'x' is not served"),
        ("/v1/recommend", {"context": {"time": "now"}}, 422, "unanswerable", None, "ISO 8601"),
        ("/v1/recommend", {"context": {"a": [1]}}, 422, "invalid_request", "context.a", "a finite number"),
        ("/v1/feedback", [], 422, "invalid_request", None, "at least 1"),
        ("/v1/feedback", {"decision_id": "d"}, 422, "invalid_request", "kind", "Field required"),
        ("/v1/feedback", {"decision_id": "d", "kind": "c", "value": 1e10}, 422, "invalid_request", None, "1000000000"),
        ("/v1/events", {"node": "nowhere", "records": [{}]}, 404, "unknown_node", "node", "taken are online_retail"),
        ("/v1/recommend", {"context": {"a": "\ud800"}}, 422, "invalid_request", None, "hex escape"),
        ("/v1/recommend", {"user_id": "\udcff"}, 422, "invalid_request", None, "hex escape"),
        ("/v1/feedback", {**EARLY, "kind": "c"}, 422, "invalid_request", "time", "years 1 and 9999"),
        ("/v1/nothing", {}, 404, "not_found", None, "Not Found"),
    ],
)
def test_bad_requests_say_what_where_and_what_would_be_right(
    client: TestClient, path: str, body: Any, status: int, code: str, where: str | None, message: str
) -> None:
    response = client.post(path, content=json.dumps(body), headers={"content-type": "application/json"})
    error = problem(response)
    assert (response.status_code, error["code"]) == (status, code)
    assert message in error["message"]
    if where:
        assert error["where"] == where


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"", b"[" * 5_000, b'{"k": NaN}'])
def test_what_is_not_json_is_refused_and_the_service_lives(client: TestClient, body: bytes) -> None:
    response = client.post("/v1/recommend", content=body, headers={"content-type": "application/json"})
    assert 400 <= response.status_code < 500
    assert problem(response)["message"]
    assert client.get("/healthz").json()["status"] == "ok"


@pytest.mark.parametrize("error", [StoreUnavailable("locked"), StoreBusy("full")])
def test_a_store_that_cannot_commit_is_503_and_nothing_is_kept(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(records: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(store, "insert", fail)
        response = client.post("/v1/recommend", json={"decision_id": "mine"})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert problem(response)["code"] == "store_unavailable"
    assert store.decision("mine") is None
    assert client.post("/v1/recommend", json={"decision_id": "mine"}).status_code == 200


def test_a_fault_of_ours_shows_no_trace(client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(records: object) -> None:
        raise sqlite3.Error("/secret/path")

    monkeypatch.setattr(store, "insert", fail)
    response = client.post("/v1/recommend", json={})
    assert response.status_code == 500
    assert problem(response)["code"] == "internal"
    assert "secret" not in json.dumps(response.json())


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"X-API-Key": "wrong"}, 401),
        ({"Authorization": "Bearer clé".encode().decode("latin-1")}, 401),
        ({"Authorization": "Bearer right"}, 200),
        ({"X-API-Key": "right"}, 200),
    ],
)
def test_a_configured_key_is_required(service: Service, headers: dict[str, str], status: int) -> None:
    client = TestClient(create_api(service, Edge(KeyRing(admin_key="right"), plain=Settings().plain)))
    response = client.post("/v1/recommend", json={}, headers={k: v.encode("latin-1") for k, v in headers.items()})
    assert response.status_code == status
    if status == 401:
        assert problem(response)["code"] == "unauthorized"
        assert response.headers["WWW-Authenticate"] == "Bearer"
    assert client.get("/healthz").status_code == 200


@pytest.mark.heavy
def test_other_methods_and_media_types_are_refused(client: TestClient) -> None:
    for method in ("GET", "HEAD", "PUT"):
        response = client.request(method, "/v1/recommend")
        assert (response.status_code, response.headers["Allow"]) == (405, "POST")
    for media_type in ("text/plain", "application/x-www-form-urlencoded", ""):
        response = client.post("/v1/recommend", content=b"{}", headers={"content-type": media_type})
        assert (response.status_code, problem(response)["code"]) == (415, "unsupported_media_type")
    answer = client.post("/v1/recommend", content=b'{"k": 2}', headers={"content-type": "application/x.shop+json"})
    assert len(answer.json()["items"]) == 2


def test_openapi_says_that_bodies_have_no_further_fields(client: TestClient) -> None:
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    assert "RecommendResponse" in schemas
    assert [
        name for name, s in schemas.items() if "properties" in s and s.get("additionalProperties") is not False
    ] == []


def test_openapi_describes_the_routes(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/v1/recommend", "/v1/feedback", "/v1/events", "/healthz"} < set(paths)
    assert client.get("/docs").status_code == 200
