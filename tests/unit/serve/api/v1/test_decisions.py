"""Lists of users, CSV, objectives, retries, decisions by id, what is served, and the stream."""

import csv
import io
import json
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient

from data.log.store import Store
from data.reward import RewardSpec
from rl.online.fold import Publication
from serve.api.application import create_api
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from tests.support.rows import count_rows
from tests.support.servers import listening
from tests.support.shops import POLICIES, small_market, untrained
from tests.support.writers import StoreWriter

CONFIG = ServiceConfig(objectives={"clicks": RewardSpec(weights={"click": 1.0}, default=-0.25)})


@pytest.fixture
def service(store: Store) -> Service:
    encoder = small_market()[1]
    served = Served({"v1": {"linear_thompson": 1.0}})
    for objective in ("default", "clicks"):
        artefacts = {name: untrained(encoder, name) for name in POLICIES}
        served.take({("v1", objective): Publication(f"of-{objective}", 0, 7, artefacts)})
    return Service(served, store, StoreWriter(store), {}, CONFIG, "replica-1")


def test_a_list_of_users_is_answered_in_order_and_committed_together(client: TestClient, store: Store) -> None:
    asks = [{"user_id": f"1200{n}", "k": n + 1, "decision_id": f"d{n}"} for n in range(3)]
    answers = client.post("/v1/recommend", json=asks).json()
    assert [(a["decision_id"], len(a["items"])) for a in answers] == [("d0", 1), ("d1", 2), ("d2", 3)]
    assert [decision.user_id for _, decision in store.decisions()] == ["12000", "12001", "12002"]
    one_is_bad = client.post("/v1/recommend", json=[{"k": 1}, {"k": 0}])
    assert one_is_bad.json()["error"]["where"] == "1.k"
    assert count_rows(store)["decisions"] == 3


def test_csv_has_a_row_for_each_slot(client: TestClient) -> None:
    body = [{"k": 2, "decision_id": "a"}, {"k": 1, "decision_id": "b"}]
    response = client.post("/v1/recommend", json=body, headers={"accept": "text/csv"})
    assert response.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(response.text)))
    assert [(row["decision_id"], row["slot"]) for row in rows] == [("a", "0"), ("a", "1"), ("b", "0")]
    again = client.post("/v1/recommend", json=body).json()
    assert [float(row["propensity"]) for row in rows] == [i["propensity"] for a in again for i in a["items"]]
    served = client.get("/v1/policy", headers={"accept": "text/csv;q=0.9, application/json;q=0.1"})
    assert len(list(csv.DictReader(io.StringIO(served.text)))) == 2 * len(POLICIES)


@pytest.mark.parametrize(
    "accept", ["*/*", "application/json", "text/csv;q=0.5, application/json", "text/csv;q=x", "text/html"]
)
def test_json_unless_csv_is_preferred(client: TestClient, accept: str) -> None:
    response = client.post("/v1/recommend", json={"k": 1}, headers={"accept": accept})
    assert response.headers["content-type"] == "application/json"


def test_a_retry_gets_the_same_decision(client: TestClient, store: Store) -> None:
    key = {"idempotency-key": "basket 7"}
    first = client.post("/v1/recommend", json={"k": 3, "policy": "random"}, headers=key).json()
    again = client.post("/v1/recommend", json={"k": 3, "policy": "random"}, headers=key).json()
    other = client.post("/v1/recommend", json={"k": 3, "policy": "random"}, headers={"idempotency-key": "8"}).json()
    assert again == first
    assert other["decision_id"] != first["decision_id"]
    assert count_rows(store)["decisions"] == 2


def test_a_retry_is_answered_even_when_the_request_could_not_be_any_more(client: TestClient) -> None:
    ask = {"k": 1, "decision_id": "d", "user_id": "ann", "candidates": ["lamp"], "filter": {"exclude_bought": True}}
    first = client.post("/v1/recommend", json=ask).json()
    client.post("/v1/feedback", json={"decision_id": "d", "kind": "purchase"}).raise_for_status()
    assert client.post("/v1/recommend", json=ask).json()["items"] == first["items"]
    unknown = client.post("/v1/recommend", json=[ask, {**ask, "decision_id": "new"}])
    assert unknown.json()["error"]["code"] == "unanswerable"


def test_a_request_for_another_policy_is_no_retry(client: TestClient) -> None:
    client.post("/v1/recommend", json={"k": 1, "decision_id": "d"}).raise_for_status()
    other = client.post("/v1/recommend", json={"k": 1, "decision_id": "d", "policy": "retired"})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    assert "policy" in other.json()["error"]["message"]


def test_without_exploration_the_best_is_certain(client: TestClient) -> None:
    ask = {"k": 1, "policy": "popularity", "explore": False}
    answer = client.post("/v1/recommend", json=ask).json()
    assert answer["items"][0]["propensity"] == 1.0
    logged = client.get(f"/v1/decisions/{answer['decision_id']}").json()
    assert logged["mode"] == "exploit"
    drawn = client.post("/v1/recommend", json={**ask, "policy": "random", "explore": False}).json()
    assert drawn["items"][0]["propensity"] == pytest.approx(
        1 / 12
    )  # all twelve are equally good: a draw among the best


def test_an_objective_has_policies_and_rewards_of_its_own(client: TestClient) -> None:
    answer = client.post("/v1/recommend", json={"k": 2, "objective": "clicks"}).json()
    assert ".of-clicks." in answer["policy"]["version"]
    client.post("/v1/feedback", json={"decision_id": answer["decision_id"], "kind": "click"})
    assert client.get(f"/v1/decisions/{answer['decision_id']}").json()["rewards"] == [1.0, -0.25]
    wrong = client.post("/v1/recommend", json={"objective": "profit"}).json()["error"]
    assert wrong["message"] == "objective 'profit' is not served; served are clicks, default"


def test_a_decision_by_its_id(client: TestClient) -> None:
    ask = {"k": 2, "user_id": "12000", "node": "till 4", "context": {"page": "home"}, "decision_id": "a/b c"}
    answer = client.post("/v1/recommend", json=ask).json()
    bought = answer["items"][1]["item_id"]
    reports = [
        {"decision_id": "a/b c", "kind": "purchase", "item_id": bought, "value": 2},
        {"decision_id": "a/b c", "kind": "custom", "weight": 0.5, "value": 3, "item_id": answer["items"][0]["item_id"]},
    ]
    assert client.post("/v1/feedback", json=reports).status_code == 200
    logged = client.get("/v1/decisions/a%2Fb%20c").json()
    assert logged["items"] == answer["items"]
    assert (logged["user_id"], logged["node"], logged["context"]["page"]) == ("12000", "till 4", "home")
    assert logged["rewards"] == [1.5, 10.0]
    assert not logged["closed"]
    assert [report["kind"] for report in logged["feedback"]] == ["purchase", "custom"]
    unknown = client.get("/v1/decisions/never")
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "unknown_decision")


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"kind": "click", "weight": 2.0}, "only feedback of kind custom has a weight"),
        ({"kind": "custom", "weight": 1e9, "value": 2.0}, "between -1e9 and 1e9"),
    ],
)
def test_weights_are_for_custom_feedback(client: TestClient, report: dict[str, Any], message: str) -> None:
    assert message in client.post("/v1/feedback", json={"decision_id": "d", **report}).json()["error"]["message"]


def test_what_is_served_and_since_when(client: TestClient) -> None:
    answer = client.get("/v1/policy").json()
    assert answer["replica"] == "replica-1"
    assert {(p["loop"], p["objective"]) for p in answer["policies"]} == {("v1", "default"), ("v1", "clicks")}
    first = answer["policies"][0]
    assert first["version"] == f"{'0' * 8}.of-clicks.0"
    assert (first["learned_through"], first["since"][:2]) == (7, "20")


def events_of(response: httpx.Response, count: int) -> list[dict[str, Any]]:
    """Return the first events of a stream."""
    found: list[dict[str, Any]] = []
    event: dict[str, Any] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            event[name] = json.loads(value) if name == "data" else value
        elif event:
            found.append(event)
            event = {}
            if len(found) == count:
                break
    return found


def test_the_stream_tells_a_node_what_is_for_it(service: Service) -> None:
    with (
        listening(create_api(service)) as port,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=20) as client,
    ):
        with client.stream("GET", "/v1/stream", params={"node": "till"}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            lines = response.iter_lines()
            assert next(lines) == "event: policy"
            for n, node in enumerate(["till", "window", "till", None]):
                client.post("/v1/recommend", json={"k": 1, "node": node, "decision_id": f"d{n}"})
            got = [next(lines) for _ in range(9)]
            ids = [line for line in got if line.startswith("id: ")]
            slates = [json.loads(line[6:]) for line in got if line.startswith('data: {"decision_id"')]
        assert [slate["decision_id"] for slate in slates] == ["d0", "d2"]
        assert set(slates[0]) == {"decision_id", "items", "policy"}
        client.post("/v1/recommend", json={"k": 1, "node": "till", "decision_id": "while away"})
        headers = {"last-event-id": ids[0].removeprefix("id: ")}
        with client.stream("GET", "/v1/stream", params={"node": "till"}, headers=headers) as response:
            events = events_of(response, 3)
        assert [event["data"].get("decision_id") for event in events] == [None, "d2", "while away"]


def test_the_stream_tells_when_policies_change(service: Service) -> None:
    with (
        listening(create_api(service)) as port,
        httpx.stream("GET", f"http://127.0.0.1:{port}/v1/stream", timeout=20) as response,
    ):
        lines = response.iter_lines()
        assert next(lines) == "event: policy"
        encoder = small_market()[1]
        news = Publication("another", 0, 9, {"random": untrained(encoder, "random")})
        service.served.take({("v1", "default"): news})
        data = next(line for line in list(next(lines) for _ in range(5)) if "another" in line)
        assert '"learned_through":9' in data


def test_ids_of_the_other_interface_are_refused(client: TestClient) -> None:
    response = client.post("/v1/recommend", json={"decision_id": "personalizer:1"})
    assert (response.status_code, response.json()["error"]["where"]) == (422, "decision_id")
