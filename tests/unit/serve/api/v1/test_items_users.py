"""Items and users over HTTP, without Ray: what is put comes back, what is forgotten does not, and every error."""

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from data.archive.parquet import Archive
from data.log.erasures import NotScrubbed
from data.log.store import Store
from data.nodes.node import load_node
from data.schema import Event
from serve.api.application import create_api
from tests.support.rows import count_rows
from tests.support.shops import POLICIES, save_policies, shop_service, small_market

ENCODER = small_market()[1]
FORGOTTEN = "17850"


@pytest.fixture
def client(store: Store, tmp_path: Path) -> TestClient:
    service = shop_service(store, load_node("online_retail"), home=tmp_path)
    return TestClient(create_api(service), raise_server_exceptions=False)


def put(client: TestClient, *items: dict[str, Any]) -> Any:
    response = client.post("/v1/items", json={"items": items})
    assert response.status_code == 200, response.text
    return [result["status"] for result in response.json()["results"]]


def test_items_are_put_listed_and_taken_out(client: TestClient) -> None:
    a = {"item_id": "a", "features": {"price": 2.5, "tags": ["x"]}, "categories": ["red"], "ttl_s": 3600}
    assert put(client, a, {"item_id": "b/c d"}, {"item_id": "hidden", "available": False}) == ["created"] * 3
    assert put(client, {"item_id": "b/c d"}) == ["unchanged"]
    found = client.get("/v1/items/a").json()
    ends = datetime.fromisoformat(found.pop("expires_at")) - datetime.fromisoformat(found.pop("updated_at"))
    assert 3590 < ends.total_seconds() <= 3600
    assert found == {"item_id": "a", "features": a["features"], "categories": ["red"], "available": True, "revision": 1}
    assert client.get("/v1/items/b%2Fc%20d").json()["item_id"] == "b/c d"
    page = client.get("/v1/items", params={"limit": 2}).json()
    assert ([item["item_id"] for item in page["items"]], page["next"], page["more"]) == (["a", "b/c d"], 2, True)
    rest = client.get("/v1/items", params={"after": 2}).json()
    assert ([item["item_id"] for item in rest["items"]], rest["next"], rest["more"]) == (["hidden"], 3, False)
    assert client.get("/v1/items", params={"after": 3}).json() == {"items": [], "next": 3, "more": False}
    assert [i["item_id"] for i in client.get("/v1/items?category=red&available=true").json()["items"]] == ["a"]
    assert client.delete("/v1/items/a").status_code == 204
    for method in ("GET", "DELETE"):
        error = client.request(method, "/v1/items/a")
        assert (error.status_code, error.json()["error"]["code"]) == (404, "unknown_item")


def test_an_expired_item_is_unavailable(client: TestClient) -> None:
    put(client, {"item_id": "old", "expires_at": "2020-01-01T00:00:00Z"})
    assert client.get("/v1/items/old").json()["available"] is False
    assert client.get("/v1/items?available=true").json()["items"] == []


def test_users_are_kept_with_their_history(client: TestClient) -> None:
    assert client.get("/v1/users/u").json()["error"]["code"] == "unknown_user"
    kept = client.put("/v1/users/u", json={"features": {"age": 40}}).json()
    assert (kept["user_id"], kept["features"]) == ("u", {"age": 40})
    ids = [client.post("/v1/recommend", json={"user_id": "u", "k": 2}).json()["decision_id"] for _ in range(3)]
    client.post("/v1/feedback", json={"decision_id": ids[0], "kind": "click"})
    first = client.get("/v1/users/u", params={"limit": 2}).json()
    assert (first["features"], first["updated_at"]) == ({"age": 40}, kept["updated_at"])
    rest = client.get("/v1/users/u", params={"limit": 2, "before": first["next"]}).json()
    assert rest["next"] is None
    entries = first["history"] + rest["history"]
    assert [entry["decision"]["decision_id"] for entry in entries] == ids[::-1]
    assert [f["kind"] for f in entries[2]["decision"]["feedback"]] == ["click"]
    assert entries[2]["decision"]["rewards"] == [1.0, 0.0]


def test_a_user_is_known_by_his_events_alone(client: TestClient, store: Store) -> None:
    event = Event(node_id="online_retail", event_id="e", user_id="a/b", item_id="x", record={"country": "France"})
    store.insert([event])
    found = client.get("/v1/users/a%2Fb").json()
    assert (found["features"], found["updated_at"], found["next"]) == ({}, None, None)
    [entry] = found["history"]
    told = {"node": "online_retail", "event_id": "e", "item_id": "x", "time": None, "outcome": None}
    assert entry["event"] == told | {"record": {"country": "France"}}


def test_forgetting_reaches_every_place(client: TestClient, store: Store, tmp_path: Path) -> None:
    user = ENCODER.users[0]
    save_policies(tmp_path, ENCODER)
    decision = client.post("/v1/recommend", json={"user_id": user}).json()["decision_id"]
    client.post("/v1/feedback", json={"decision_id": decision, "kind": "view"})
    client.put(f"/v1/users/{user}", json={"features": {}})
    removed = client.delete(f"/v1/users/{user}").json()["removed"]
    assert {name: count for name, count in removed.items() if count} == {
        "artefacts": len(POLICIES), "feedback": 1, "decisions": 1, "users": 1
    }  # fmt: skip
    assert client.get(f"/v1/users/{user}").status_code == 404
    assert client.get(f"/v1/decisions/{decision}").status_code == 404
    assert set(client.delete(f"/v1/users/{user}").json()["removed"].values()) == {0}
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or f'"{user}"'.encode() not in path.read_bytes()
    late = client.post("/v1/feedback", json={"decision_id": decision, "kind": "purchase"}).json()["results"][0]
    assert late["orphan"]


def test_an_ingestion_in_the_way_is_a_conflict_that_passes(client: TestClient, store: Store, tmp_path: Path) -> None:
    archive = Archive.at(str(tmp_path / "archive"))
    (tmp_path / "archive" / "events" / "node_id=online_retail").mkdir(parents=True)
    store.insert([Event(node_id="online_retail", event_id="e", user_id=FORGOTTEN)])
    with archive.lock("online_retail"):
        error = client.delete(f"/v1/users/{FORGOTTEN}")
    assert (error.status_code, error.json()["error"]["code"]) == (409, "conflict")
    assert error.json()["error"]["message"] == (
        "forgotten in the trained policies and the log and the snapshots; not finished in the archive: a node is being "
        "ingested, ask again when that has ended"
    )
    assert count_rows(store)["events"] == 0  # the other places are done
    assert client.delete(f"/v1/users/{FORGOTTEN}").status_code == 200


def test_an_archive_that_does_not_answer_is_503(
    client: TestClient, store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "events").write_text("not a folder")
    store.insert([Event(node_id="online_retail", event_id="e", user_id=FORGOTTEN)])
    error = client.delete(f"/v1/users/{FORGOTTEN}")
    assert (error.status_code, error.json()["error"]["code"]) == (503, "store_unavailable")
    assert error.json()["error"]["message"] == (
        "forgotten in the trained policies and the log and the snapshots; not finished in the archive: the archive "
        "does not answer or lacks a file, the service's log says which: ask again when it is there"
    )
    assert f"{tmp_path}/archive does not answer: " in caplog.text
    assert str(tmp_path) not in error.text
    assert count_rows(store)["events"] == 0  # the other places are done
    (tmp_path / "archive" / "events").unlink()
    assert client.delete(f"/v1/users/{FORGOTTEN}").status_code == 200


def test_a_store_that_cannot_answer_is_503(client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, text: str) -> None:
        raise NotScrubbed("in use")

    store.insert([Event(node_id="online_retail", event_id="e", user_id=FORGOTTEN)])
    with monkeypatch.context() as patch:
        patch.setattr("data.log.sqlite.backend.scrub", fail)
        error = client.delete(f"/v1/users/{FORGOTTEN}")
    assert (error.status_code, error.json()["error"]["code"]) == (503, "store_unavailable")
    assert error.headers["Retry-After"] == "1"
    message = error.json()["error"]["message"]
    assert message.startswith(
        "forgotten in the trained policies and the archive and the snapshots; not finished in the log: the rows "
    )
    assert "nothing was stored" not in message
    assert client.delete(f"/v1/users/{FORGOTTEN}").json()["removed"]["events"] == 0


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("method", "path", "body", "where", "message"),
    [
        ("POST", "/v1/items", {"items": []}, "items", "at least 1"),
        ("POST", "/v1/items", {"items": [{"item_id": str(n)} for n in range(1001)]}, "items", "at most 1000"),
        ("POST", "/v1/items", {"items": [{"item_id": ""}]}, "items.0.item_id", "1 to 256 characters"),
        ("POST", "/v1/items", {"items": [{"item_id": "a", "features": [1]}]}, "items.0.features", "dictionary"),
        ("POST", "/v1/items", {"items": [{"item_id": "a", "ttl_s": 0}]}, "items.0.ttl_s", "greater than 0"),
        ("POST", "/v1/items", {"items": [{"item_id": "a", "ttl_s": 1, "expires_at": "2030-01-01T00:00:00Z"}]},
         "items.0", "not both"),
        ("GET", "/v1/items?limit=0", None, "query.limit", "greater than or equal to 1"),
        ("GET", "/v1/items?after=-1", None, "query.after", "greater than or equal to 0"),
        ("GET", "/v1/items/", None, "path.item_id", "at least 1"),
        ("GET", "/v1/users/" + "u" * 257, None, "path.user_id", "at most 256"),
        ("GET", "/v1/users/u?before=1", None, "query.before", "match pattern"),
        ("PUT", "/v1/users/u", {}, "features", "required"),
        ("PUT", "/v1/users/u", {"features": {}, "name": "x"}, "name", "Extra inputs"),
        ("POST", "/v1/recommend", {"k": 2, "rules": {"pins": {"a": 5}}}, None, "slots 0 to 1"),
    ],
)  # fmt: skip
def test_bad_requests_say_what_and_where(
    client: TestClient, method: str, path: str, body: Any, where: str | None, message: str
) -> None:
    response = client.request(method, path, json=body) if body is not None else client.request(method, path)
    error = response.json()["error"]
    assert (response.status_code, error["code"]) == (422, "invalid_request")
    assert message in error["message"]
    if where:
        assert error["where"] == where


def test_features_that_cannot_be_stored_are_refused(client: TestClient) -> None:
    for text in (b'{"features": {"a": NaN}}', b'{"features": {"a": "\\ud800"}}', b'{"features": {"a": 1e999}}'):
        headers = {"content-type": "application/json"}
        response = client.put("/v1/users/u", content=text, headers=headers)
        assert response.status_code == 422, response.text
    assert client.get("/v1/users/u").status_code == 404


def test_cursors_that_nobody_gave_out_are_harmless(client: TestClient, store: Store) -> None:
    client.put("/v1/users/u", json={"features": {}})
    far = "9" * 18
    assert client.get(f"/v1/users/u?before={far}.{far}").json()["history"] == []
    assert client.get(f"/v1/items?after={2**62}").json()["items"] == []
