"""One contract of ids at every door, and what is in logs that were written before it. Without Ray."""

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from data.errors import DataError
from data.formats.dsjson.lines import from_line
from data.ingest.run import ingest
from data.log.store import Store
from data.nodes.node import load_node
from data.schema import (
    Decision,
    Event,
    Feedback,
    Rules,
    Slot,
)
from serve.api.application import create_api
from serve.config import ServiceConfig
from serve.decisions.service import Service
from tests.support.asgi import Answer, ask
from tests.support.personalizers import HEADERS, personalizer_loop
from tests.support.shops import served, shop_service, small_market, untrained
from tests.support.writers import StoreWriter

OLD = "row 1\nrow 2"
BAD = ["row 1\nrow 2", "a\rb", "a\tb", "\x00", "a\x7f", "a\x85b", "end\n"]
GOOD = ["a b", "ü/ö", "%", "..", "日本", "a\u200bb", "\N{NO-BREAK SPACE}", "x" * 256]


@pytest.fixture
def client(store: Store, tmp_path: Path) -> TestClient:
    service = shop_service(store, load_node("clickstream"), home=tmp_path)
    return TestClient(create_api(service), raise_server_exceptions=False)


def asks(given: str) -> list[tuple[str, Any, str]]:
    """Return requests with an id in every place, and the place's name."""
    feedback = {"decision_id": "d", "kind": "click"}
    return [
        ("/v1/recommend", {"user_id": given}, "user_id"),
        ("/v1/recommend", {"candidates": ["a", given]}, "candidates.1"),
        ("/v1/recommend", {"exclude": [given]}, "exclude.0"),
        ("/v1/recommend", {"decision_id": given}, "decision_id"),
        ("/v1/recommend", {"node": given}, "node"),
        ("/v1/recommend", [{"k": 1}, {"user_id": given}], "1.user_id"),
        ("/v1/recommend", {"rules": {"pins": {given: 0}}}, "rules.pins"),
        ("/v1/recommend", {"filter": {"categories": [given]}}, "filter.categories.0"),
        ("/v1/feedback", {**feedback, "decision_id": given}, "decision_id"),
        ("/v1/feedback", {**feedback, "item_id": given}, "item_id"),
        ("/v1/feedback", {**feedback, "feedback_id": given}, "feedback_id"),
        ("/v1/feedback", {**feedback, "kind": given}, "kind"),
        ("/v1/items", {"items": [{"item_id": given}]}, "items.0.item_id"),
    ]


@pytest.mark.heavy
@pytest.mark.parametrize("given", BAD)
def test_line_breaks_and_control_characters_are_refused_when_they_are_first_sent(
    client: TestClient, given: str
) -> None:
    for path, body, where in asks(given):
        error = client.post(path, json=body)
        assert error.status_code == 422, (path, body)
        assert error.json()["error"]["where"].startswith(where)
        assert "control character" in error.json()["error"]["message"]
    refused = client.put(f"/v1/users/{quote(given, safe='')}", json={"features": {}})
    assert (refused.status_code, refused.json()["error"]["where"]) == (422, "path.user_id")


@pytest.mark.heavy
@pytest.mark.parametrize("given", GOOD)
def test_other_ids_are_found_again_and_forgotten(client: TestClient, given: str) -> None:
    body = {"user_id": given, "decision_id": given, "candidates": ["20003", given], "k": 2}
    assert client.post("/v1/recommend", json=body).status_code == 200
    path = quote(given, safe="") if given != ".." else "%2E%2E"
    assert client.get(f"/v1/decisions/{path}").json()["user_id"] == given
    assert client.get(f"/v1/users/{path}").json()["user_id"] == given
    assert client.delete(f"/v1/users/{path}").json()["removed"]["decisions"] == 1


def test_a_key_in_a_header_is_an_id_too(client: TestClient) -> None:
    def named(key: str) -> Answer:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        return asyncio.run(ask(client.app, "/v1/recommend", [b'{"k": 1, "user_id": "u"}'], headers=headers))

    ids = {json.loads(named(key).body)["decision_id"] for key in ("key", "key", "\xc3\xa9")}
    assert len(ids) == 2
    for key in ("\xe9", "\xc2\x85", "x" * 257, "a\tb"):  # bytes as the header has them
        answer = named(key)
        assert (answer.status, answer.error["where"]) == (422, "Idempotency-Key")


def test_bytes_that_are_no_utf8_make_no_users_one(client: TestClient) -> None:
    for path in (
        "/v1/users/Jos%E9",
        "/v1/users/Jos%C3",
        "/v1/items/Jos%E9",
        "/v1/decisions/%FF",
        "/v1/items?category=%E9",
    ):
        error = client.get(path)
        assert (error.status_code, error.json()["error"]["code"]) == (422, "invalid_request"), path
        assert "not UTF-8" in error.json()["error"]["message"]
    client.put("/v1/users/Jos%EF%BF%BD", json={"features": {}}).raise_for_status()  # what replaces them is a character
    assert client.put("/v1/users/Jos%E9", json={}).status_code == 422
    assert client.delete("/v1/users/Jos%FF").status_code == 422
    assert client.get("/v1/users/Jos%EF%BF%BD").status_code == 200
    client.put("/v1/users/Jos%C3%A9", json={"features": {"a": 1}}).raise_for_status()
    assert client.get("/v1/users/Jos%C3%A9").json()["user_id"] == "José"


def old_decision() -> Decision:
    """Return a decision as an earlier version has written it."""
    return Decision(
        decision_id=OLD,
        time=datetime.now(UTC),
        user_id=OLD,
        candidates=(OLD, "b"),
        slate=(OLD,),
        propensities=(0.5,),
        scores=(0.0,),
        policy="linear_thompson",
        policy_version="v",
        rules=Rules(pins={OLD: 0}, boosts={OLD: 1.0}, categories={OLD: ("c",)}),
        slots=(Slot(slot_id=OLD, exclude=(OLD,)),),
    )


def test_what_an_earlier_log_has_is_read_and_can_be_forgotten(store: Store, client: TestClient) -> None:
    event = Event(node_id="n", event_id=OLD, user_id=OLD, item_id=OLD)
    feedback = Feedback(feedback_id=OLD, decision_id=OLD, kind="click", item_id=OLD)
    store.insert([old_decision(), event, feedback])
    read = store.decision(OLD)
    assert read is not None
    assert read.model_dump(exclude={"time"}) == old_decision().model_dump(exclude={"time"})
    path = quote(OLD, safe="")
    assert client.get(f"/v1/decisions/{path}").json()["rewards"] == [1.0]
    assert {entry["kind"] for entry in client.get(f"/v1/users/{path}").json()["history"]} == {"decision", "event"}
    assert client.delete(f"/v1/users/{path}").json()["removed"]["decisions"] == 1
    assert client.get(f"/v1/users/{path}").status_code == 404


@pytest.mark.heavy
@pytest.mark.usefixtures("ray_local")
def test_rows_of_nodes_with_such_ids_are_rejects(store: Store, client: TestClient, tmp_path: Path) -> None:
    node = load_node("online_retail")
    row = {
        "InvoiceNo": "536365",
        "StockCode": "85123A",
        "Description": "WHITE",
        "Quantity": 6,
        "InvoiceDate": "2010-12-01T08:26:00",
        "UnitPrice": 2.55,
        "CustomerID": 17850,
        "Country": "United Kingdom",
    }
    bad = row | {"StockCode": "85123A\nB"}
    lines = tmp_path / "rows.jsonl"
    lines.write_text("\n".join(map(json.dumps, (row, bad))))
    service = Service(
        served({"random": untrained(small_market()[1], "random")}, {"random": 1.0}),
        store,
        StoreWriter(store),
        {node.name: (node, None)},
        ServiceConfig(home=str(tmp_path)),
    )
    api = TestClient(create_api(service))
    results = api.post("/v1/events", json={"node": node.name, "records": [row, bad]}).json()["results"]
    assert [result["status"] for result in results] == ["stored", "rejected"]
    summary = ingest([str(lines)], node, str(tmp_path / "archive"))
    assert (summary.read, summary.events, sum(summary.rejected.values())) == (2, 1, 1)


def test_lines_with_such_ids_are_refused() -> None:
    line = {
        "Timestamp": "2026-01-05T12:00:00Z",
        "EventId": OLD,
        "_label_cost": -1,
        "_label_probability": 0.5,
        "_labelIndex": 0,
        "a": [1, 2],
        "p": [0.5, 0.5],
        "c": {"_multi": [{"i": {"id": "a"}}, {"i": {"id": "b"}}]},
    }
    with pytest.raises(DataError, match="control character"):
        from_line(json.dumps(line))
    read = from_line(json.dumps(line | {"EventId": "row 1 row 2"}))
    assert read is not None
    assert read.decision is not None
    assert read.decision.decision_id == "personalizer:row 1 row 2"


@pytest.mark.heavy
def test_the_personalizer_refuses_them_in_its_own_words(tmp_path: Path) -> None:
    with personalizer_loop(tmp_path) as loop:
        client = TestClient(loop.app, headers=HEADERS, raise_server_exceptions=False)
        version, action = "/personalizer/v1.1-preview.3", {"id": "a", "features": [{"f": 1}]}
        slot = {"id": OLD, "baselineAction": "a"}
        for path, body, code in (
            ("/rank", {"actions": [action], "eventId": OLD}, "InvalidRankRequest"),
            ("/rank", {"actions": [action | {"id": OLD}]}, "InvalidRankRequest"),
            (f"/events/{quote(OLD, safe='')}/reward", {"value": 1.0}, "InvalidRewardRequest"),
            (f"/events/{quote(OLD, safe='')}/activate", None, "InvalidEventIdToActivate"),
        ):
            answer = client.post(version + path, json=body)
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, code), answer.text
            assert "control characters" in answer.json()["error"]["message"]
        rank = {"actions": [action], "slots": [slot]}
        answer = client.post(f"{version}/multislot/rank", json=rank)
        assert (answer.status_code, answer.json()["error"]["target"]) == (400, "slots[0].id")
        answer = client.post(f"{version}/events/%FF/reward", json={"value": 1.0})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "BadRequest")
