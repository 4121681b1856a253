"""The service tells its metrics of what it does, whichever way a request takes."""

from pathlib import Path

import pytest
from starlette.testclient import TestClient

from data.log.store import Store
from data.nodes.node import load_node
from serve.api.application import create_api
from serve.http.edge import Edge
from serve.metrics import definitions as of
from serve.metrics.meter import Meter
from serve.metrics.replica import Names, ReplicaMetrics
from tests.support.meters import Numbers
from tests.support.records import SALE
from tests.support.shops import shop_service


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def client(store: Store, tmp_path: Path, numbers: Numbers, plain: bool) -> TestClient:
    """A service of which some requests were made and all was handed on."""
    metrics = ReplicaMetrics(Meter("r1", numbers), Names(("shop",), ("view", "click")))
    service = shop_service(store, load_node("online_retail"), home=tmp_path)
    service.metrics = metrics
    for recommender in service.served.places.values():
        recommender.watch = metrics.decided
    client = TestClient(create_api(service, Edge(plain=plain, count=metrics.refused)), raise_server_exceptions=False)
    for name in ("1", "1", "2"):
        assert client.post("/v1/recommend", json={"decision_id": name, "k": 3, "node": "shop"}).status_code == 200
    report = {"feedback_id": "f", "decision_id": "1", "kind": "click"}
    for body in (report, report, {**report, "decision_id": "2"}, {"decision_id": "nobody's", "kind": "view"}, {}):
        client.post("/v1/feedback", json=body)
    client.post("/v1/events", json={"node": "online_retail", "records": [SALE, {**SALE, "Quantity": "many"}]})
    client.post("/v1/recommend", json={"k": "three"})
    client.get("/v1/nowhere")
    metrics.meter.flush()
    return client


def test_all_of_it_is_counted(client: TestClient, numbers: Numbers) -> None:
    assert numbers.by(of.DECISIONS, "loop", "node", "policy", "mode") == {
        ("v1", "shop", "linear_thompson", "explore"): 2
    }
    assert len(numbers.values(of.DECIDE)) == 3  # also of the one that was known
    assert numbers.of(of.DRAWN) == 3
    feedback = {key: n for key, n in numbers.by(of.FEEDBACK, "kind", "status").items() if n >= 1}
    assert feedback == {
        ("click", "stored"): 1,
        ("click", "known"): 1,
        ("click", "contradictory"): 1,
        ("view", "orphan"): 1,
    }
    assert numbers.by(of.EVENTS, "node", "status") == {
        ("online_retail", "stored"): 1,
        ("online_retail", "rejected"): 1,
    }
    assert numbers.by(of.REJECTS, "rule") == {("type of quantity",): 1}
    logged = {kind: round(n) for (kind,), n in numbers.by(of.LOGGED, "kind").items()}
    assert logged == {"decisions": 2, "feedback": 2, "events": 1, "rejects": 1}
    assert numbers.by(of.ERRORS, "route", "code") == {
        ("/v1/feedback", "conflict"): 1,
        ("/v1/feedback", "invalid_request"): 1,
        ("/v1/recommend", "invalid_request"): 1,
        ("other", "not_found"): 1,
    }


def test_the_same_is_answered_without_metrics(store: Store, tmp_path: Path, plain: bool) -> None:
    service = shop_service(store, home=tmp_path)
    client = TestClient(create_api(service, Edge(plain=plain)))
    assert client.post("/v1/recommend", json={"k": 3}).status_code == 200
    assert client.post("/v1/feedback", json={}).status_code == 422
