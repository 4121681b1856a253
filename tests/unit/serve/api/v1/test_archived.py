"""What is archived is answered over HTTP as what is in the log: decisions by id, retries, late reports, histories."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from data.log.store import Store
from rl.online.fold import Publication
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from tests.support.archives import DAY, archive
from tests.support.rows import count_rows
from tests.support.shops import POLICIES, small_market, untrained
from tests.support.writers import StoreWriter


@pytest.fixture
def service(store: Store, tmp_path: Path) -> Service:
    served = Served({"v1": {"linear_thompson": 1.0}})
    artefacts = {name: untrained(small_market()[1], name) for name in POLICIES}
    served.take({("v1", "default"): Publication("of", 0, 7, artefacts)})
    config = ServiceConfig(home=str(tmp_path))
    return Service(served, store, StoreWriter(store), {}, config, "replica-1")


def test_nobody_sees_that_it_is_archived(client: TestClient, store: Store, tmp_path: Path) -> None:
    asks = [{"user_id": "12003", "k": 2, "decision_id": f"d{n}", "context": {"n": n}} for n in range(3)]
    answers = client.post("/v1/recommend", json=asks).json()
    click = {"decision_id": "d1", "kind": "click", "feedback_id": "f1"}
    assert client.post("/v1/feedback", json=click).status_code == 200
    paths = ("/v1/decisions/d1", "/v1/users/12003")
    before = [client.get(path).json() for path in paths]
    later = Store.open(f"sqlite:///{tmp_path}/store.db", lambda: datetime.now(UTC) + 2 * DAY)
    assert archive(later, tmp_path / "archive").rows == {"decisions": 3, "feedback": 1}
    later.close()
    assert count_rows(store)["decisions"] == 0
    assert [client.get(path).json() for path in paths] == before
    assert client.post("/v1/recommend", json=asks).json() == answers
    other = client.post("/v1/recommend", json={**asks[1], "context": {"n": 7}})
    assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")
    known, late = client.post("/v1/feedback", json=[click, {**click, "feedback_id": "f2"}]).json()["results"]
    assert (known["status"], late["status"], late["orphan"]) == ("known", "stored", False)
    assert len(client.get(paths[0]).json()["feedback"]) == 2
    seen = client.post("/v1/recommend", json={"user_id": "12003", "k": 50, "filter": {"exclude_seen": True}}).json()
    assert answers[1]["items"][0]["item_id"] not in {item["item_id"] for item in seen["items"]}
    assert answers[0]["items"][0]["item_id"] in {item["item_id"] for item in seen["items"]} | {
        answers[1]["items"][0]["item_id"]
    }
    removed = client.delete("/v1/users/12003").json()["removed"]
    assert (removed["decisions"], removed["feedback"]) == (4, 2)
    assert client.get(paths[0]).status_code == 404
    assert list((tmp_path / "archive/log").rglob("*.parquet")) == []
