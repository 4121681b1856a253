"""The service as it is deployed: two replicas and a learner on Ray Serve behind HAProxy, over real HTTP."""

import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from data.log.current import keys
from data.log.store import Store
from data.settings import Settings
from serve.audit.run import audit
from tests.support.services import Running, wait_for

pytestmark = pytest.mark.slow  # one story: each test finds what those before it have left


def test_both_replicas_learn_from_feedback(server: Running) -> None:
    decision = server.client.post("/v1/recommend", json={"k": 3, "user_id": "12000"}).json()
    report = {"decision_id": decision["decision_id"], "kind": "purchase", "item_id": decision["items"][1]["item_id"]}
    position = server.client.post("/v1/feedback", json=report).json()["results"][0]["position"]
    wait_for(lambda: server.learned_by_all(position), 60)  # how long it takes is what the demo measures


def test_what_was_learned_changes_the_answers(server: Running) -> None:
    ask = {"k": 1, "candidates": ["20003", "20004"], "policy": "rfm_bandit", "user_id": "nobody"}
    for _ in range(20):
        decision = server.client.post("/v1/recommend", json={**ask, "candidates": ["20003"]}).json()
        report = {"decision_id": decision["decision_id"], "kind": "purchase"}
        position = server.client.post("/v1/feedback", json=report).json()["results"][0]["position"]
    wait_for(lambda: server.learned_by_all(position), 60)
    item = server.client.post("/v1/recommend", json={**ask, "decision_id": "after"}).json()["items"][0]
    assert item["item_id"] == "20003"
    assert item["propensity"] == pytest.approx(0.975)  # epsilon 0.05 over two candidates
    assert item["score"] > 1


def test_the_personalizer_loop_learns_and_is_configured_in_all_replicas(server: Running) -> None:
    client, version = server.client, "/personalizer/v1.1-preview.3"
    actions = [{"id": "a", "features": [{"f": 1}]}, {"id": "b", "features": [{"f": 2}]}]
    for number in range(20):
        action, earned = actions[number % 2], 1 - number % 2
        event = client.post(f"{version}/rank", json={"actions": [action]}).json()["eventId"]
        assert client.post(f"{version}/events/{event}/reward", json={"value": earned}).status_code == 204
    configuration = client.get(f"{version}/configurations/service").json()
    changed = {**configuration, "explorationPercentage": 0.5}
    assert client.put(f"{version}/configurations/service", json=changed).status_code == 200

    def learned_and_told() -> bool:  # by whichever replicas answer
        answers = [client.post(f"{version}/rank", json={"actions": actions}).json()["ranking"] for _ in range(10)]
        probabilities = [{one["id"]: one["probability"] for one in ranking} for ranking in answers]
        return all(0.25 <= p["b"] < p["a"] for p in probabilities)

    wait_for(learned_and_told, 20)


def test_a_key_is_required(server: Running) -> None:
    response = httpx.post(f"http://127.0.0.1:{server.port}/v1/recommend", json={})
    assert response.status_code == 401


def test_a_revoked_key_ends_on_every_replica_within_two_seconds(server: Running) -> None:
    store = Store.open(f"sqlite:///{server.home / 'store.db'}")
    token = keys.create(store, "shop", "node")

    def statuses() -> set[int]:
        url, headers = f"http://127.0.0.1:{server.port}/v1/recommend", {"X-API-Key": token}
        return {httpx.post(url, json={"k": 1}, headers=headers).status_code for _ in range(10)}

    wait_for(lambda: statuses() == {200}, 5)
    keys.revoke(store, "shop")
    store.close()
    time.sleep(2)
    assert statuses() == {401}


def test_headers_that_serve_itself_would_obey_or_fail_on_are_dropped(server: Running) -> None:
    for name in ("X-Request-Id", "X-Request-Timeout-Seconds", "X-Session-Id", "Serve_Multiplexed_Model_Id"):
        response = server.client.get("/healthz", headers={name.encode(): b"\xff"})
        assert response.status_code == 200
    assert server.client.get("/healthz", headers={"X-Request-Id": "mine-1"}).headers["x-request-id"] == "mine-1"


def test_a_damaged_row_is_set_aside_and_all_others_are_learned(server: Running) -> None:
    """It stays in the log: the tests below restart and audit with it."""
    assert server.client.get("/readyz", headers={"Authorization": ""}).json()["status"] == "ready"
    before = server.client.get("/v1/learning").json()
    assert (before["learner"], [fold["state"] for fold in before["folds"]]) == ("answers", ["following"] * 2)
    made = server.client.post("/v1/recommend", json={"k": 2}).json()
    with sqlite3.connect(server.home / "store.db") as connection:
        columns = [row[1] for row in connection.execute("PRAGMA table_info(decisions)") if row[1] != "seq"]
        changed = [{"decision_id": "'damaged'", "slate": "'{'"}.get(name, f'"{name}"') for name in columns]
        connection.execute(
            f"INSERT INTO decisions ({', '.join(columns)}) SELECT {', '.join(changed)} FROM decisions "
            "WHERE decision_id = ?",
            (made["decision_id"],),
        )
    connection.close()
    for decision_id in ("damaged", made["decision_id"]):
        report = {"decision_id": decision_id, "kind": "click"}
        position = server.client.post("/v1/feedback", json=report).json()["results"][0]["position"]
    wait_for(lambda: server.learned_by_all(position), 60)
    fold = next(f for f in server.client.get("/v1/learning").json()["folds"] if f["loop"] == "v1")
    assert (fold["state"], fold["rows_set_aside"], fold["feedback_through"]) == ("set_aside", 1, position)
    assert (fold["set_aside"][0]["table"], fold["set_aside"][0]["policy"]) == ("decisions", None)
    wait_for(lambda: server.client.get("/healthz").json()["status"] == "degraded", 60)


def test_a_killed_replica_is_replaced_and_knows_everything(server: Running) -> None:
    before = server.health_of_all()
    server.gateways()[0].kill()

    def replaced() -> bool:
        try:
            health = server.client.get("/healthz").json()
        except httpx.TransportError:  # it was answering just this request
            return False
        after[health["replica"]] = health
        return len(after.keys() - before.keys()) == 1

    after: dict[str, dict[str, Any]] = {}
    wait_for(replaced, 60)
    [new] = after.keys() - before.keys()
    assert after[new]["policies"] == next(iter(before.values()))["policies"]


def insist(server: Running, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """Ask until there is an answer, always the same."""
    with httpx.Client(base_url=server.client.base_url, headers=server.client.headers, timeout=10) as client:
        for _ in range(200):
            with suppress(httpx.TransportError):
                response = client.post(path, json=body)
                if response.status_code == 200:
                    answer: dict[str, Any] = response.json()
                    return answer
                assert response.status_code in (500, 502, 503), response.text  # the proxy's, while it does not know yet
            time.sleep(0.05)
    raise AssertionError(f"{path} was never answered")


def test_retries_while_a_replica_dies_count_once(server: Running) -> None:
    def visit(n: int) -> dict[str, Any]:
        if n == 40:
            server.gateways()[0].kill()
        answer = insist(server, "/v1/recommend", {"k": 2, "user_id": f"1200{n % 9}", "decision_id": f"dying {n}"})
        for _ in range(2):  # each report is sent twice
            insist(server, "/v1/feedback", {"decision_id": f"dying {n}", "kind": "click"})
        return answer

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(visit, range(160)))
    store = Store.open(f"sqlite:///{server.home / 'store.db'}")
    logged = store.decisions_by_id([f"dying {n}" for n in range(160)])
    assert [list(logged[a["decision_id"]].slate) for a in answers] == [
        [i["item_id"] for i in a["items"]] for a in answers
    ]
    assert {len(reports) for reports in store.feedback_of(list(logged)).values()} == {1}
    assert len(store.feedback_of(list(logged))) == 160
    store.close()
    for n in range(0, 160, 20):
        body = {"k": 2, "user_id": f"1200{n % 9}", "decision_id": f"dying {n}"}
        assert insist(server, "/v1/recommend", body)["items"] == answers[n]["items"]
        other = server.client.post("/v1/recommend", json={**body, "k": 9})
        assert (other.status_code, other.json()["error"]["code"]) == (409, "conflict")


def test_restarted_it_comes_back_with_what_it_had_learned(server: Running) -> None:
    body = {"k": 2, "user_id": "12003", "policy": "linear_thompson"}
    first = server.client.post("/v1/recommend", json={**body, "decision_id": "kept"}).json()
    before, [versions, *_] = scores(server), [health["policies"] for health in server.health_of_all().values()]
    server.stop()
    server.start()
    server.wait()
    after = [health["policies"] for health in server.health_of_all().values()]
    assert after[0] == after[1]
    for old, new in zip(versions, after[0], strict=True):
        assert new["version"].split(".")[0] == old["version"].split(".")[0]
    assert scores(server) == pytest.approx(before, rel=1e-8, abs=1e-9)  # sums are grouped otherwise
    assert any(before.values())
    repeated = server.client.post("/v1/recommend", json={**body, "decision_id": "kept"}).json()
    assert repeated["items"] == first["items"]


def test_every_decision_of_all_this_can_be_made_again(server: Running) -> None:
    where, now = Settings(home=server.home, store=None, archive=None), datetime.now(UTC)
    found = audit(Store.open(where.store_url), where, now - timedelta(days=1), now)
    assert found.decisions > 190
    assert found.mismatches == []
    assert len(found.unreadable) == 1  # the damaged row


def scores(server: Running) -> dict[str, float]:
    """Return what each policy expects of some items."""
    found = {}
    for policy in ("linear_thompson", "rfm_bandit"):
        for item in ("20003", "20004", "20005"):
            ask = {
                "user_id": "12003",
                "policy": policy,
                "candidates": [item],
                "context": {"time": "2011-05-02T12:00:00Z"},
            }
            found[f"{policy} {item}"] = server.client.post("/v1/recommend", json=ask).json()["items"][0]["score"]
    return found
