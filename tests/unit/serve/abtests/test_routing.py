"""What a replica does while a test runs: who is answered by whom, what is logged, what the audit makes again."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from data.log.store import Store
from data.schema import SHADOW, Decision
from serve.abtests.changes import set_shares, start, stop, switch_off
from serve.abtests.exposures import read_shadows
from serve.abtests.specification import ABTest
from serve.abtests.state import ABTestState
from serve.api.application import create_api
from serve.contracts.decisions import RecommendRequest
from serve.decisions.recommender import to_visit
from serve.decisions.service import Service
from tests.support.shops import shop_service

OLD_NEW: dict[str, Any] = {"old": {"policy": "linear_thompson"}, "new": {"policy": "random"}}


@pytest.fixture
def store(tmp_path: Path) -> Any:
    with closing(Store.open(f"sqlite:///{tmp_path}/store.db")) as store:
        yield store


@pytest.fixture
def service(store: Store) -> Service:
    return shop_service(store)


def begin(service: Service, **fields: Any) -> ABTestState:
    test = ABTest.model_validate({"name": "t", "variants": OLD_NEW, "control": "old"} | fields)
    state = start(service.store, test, by="me")
    service.tests.refresh()
    return state


def ask(service: Service, *requests: dict[str, Any]) -> None:
    async def all_of_them() -> None:
        for at in range(0, len(requests), 500):
            await service.recommend(
                [RecommendRequest.model_validate({"k": 3} | one) for one in requests[at : at + 500]]
            )
        await service.shadows.finish()

    asyncio.run(all_of_them())


def decisions(store: Store, loop: str = "v1") -> list[Decision]:
    return [decision for _, decision in store.decisions(loop=loop)]


def of_users(n: int) -> Sequence[dict[str, Any]]:
    return [{"user_id": f"u{number}"} for number in range(n)]


def test_users_are_split_stay_and_are_logged_as_exposures(service: Service, store: Store) -> None:
    ask(service, *of_users(1))
    variants = {"old": {"policy": "linear_thompson", "share": 0.6}, "new": {"policy": "random", "share": 0.3}}
    begin(service, variants=variants)
    ask(service, *of_users(240), *of_users(240), {"user_id": "u1", "policy": "popularity"}, {})
    before, *found = decisions(store)
    assert (before.abtest, before.variant) == (None, None)
    first, again, (named, anybody) = found[:240], found[240:480], found[480:]
    assert [one.variant for one in first] == [one.variant for one in again]
    counts = Counter(one.variant for one in first)
    for variant, share in (("old", 0.6), ("new", 0.3), (None, 0.1)):  # five standard deviations of 240 users
        assert counts[variant] / 240 == pytest.approx(share, abs=5 * np.sqrt(share * (1 - share) / 240))
    for one in first:
        assert one.policy == ("random" if one.variant == "new" else "linear_thompson")
        assert one.abtest == (None if one.variant is None else "t")
    assert (named.policy, named.abtest, named.variant) == ("popularity", None, None)
    assert anybody.abtest in ("t", None)


def test_a_variant_that_is_off_and_a_test_that_is_over_give_their_users_back(service: Service, store: Store) -> None:
    begin(service)
    switch_off(store, "t", "new", by="watch", why="worse")
    service.tests.refresh()
    ask(service, *of_users(50))
    assert {(one.variant, one.policy) for one in decisions(store)} == {("old", "linear_thompson")}
    stop(store, "t", by="me")
    service.tests.refresh()
    assert service.tests.routes == {}
    ask(service, {"user_id": "later"})
    assert (decisions(store)[-1].abtest, decisions(store)[-1].variant) == (None, None)


def test_a_variant_has_its_mode_and_a_retry_is_one_all_the_same(service: Service, store: Store) -> None:
    variants = {name: one | {"mode": "exploit"} for name, one in OLD_NEW.items()}
    begin(service, variants=variants)
    client = TestClient(create_api(service))
    body = {"user_id": "ann", "decision_id": "mine", "k": 2}
    first = client.post("/v1/recommend", json=body)
    assert client.post("/v1/recommend", json=body).json()["items"] == first.json()["items"]
    stop(store, "t", by="me")
    service.tests.refresh()
    assert client.post("/v1/recommend", json=body).json()["items"] == first.json()["items"]
    assert client.post("/v1/recommend", json=body | {"k": 3}).status_code == 409
    [logged] = decisions(store)
    assert logged.mode == "exploit"
    told = client.get("/v1/decisions/mine").json()
    assert (told["abtest"], told["variant"], told["teams"]) == ("t", logged.variant, [])


def test_nobody_is_exposed_before_every_variant_can_answer(service: Service, store: Store) -> None:
    begin(service, variants=OLD_NEW | {"third": {"policy": "registry:challenger"}})
    ask(service, *of_users(20))
    assert {(one.abtest, one.policy) for one in decisions(store)} == {(None, "linear_thompson")}


def test_a_shadow_decides_after_the_answer_and_is_no_exposure(service: Service, store: Store) -> None:
    state = begin(service, kind="shadow", variants=OLD_NEW | {"best": {"policy": "popularity", "mode": "exploit"}})
    ask(service, *of_users(20), {"user_id": "ann", "policy": "rfm_bandit"}, {"user_id": "eve", "node": "screen"})
    shown, unseen = decisions(store), decisions(store, SHADOW)
    assert all((one.abtest, one.variant, one.policy == "linear_thompson") == (None, None, True) for one in shown[:20])
    assert len(unseen) == 2 * 21
    recommender = service.served.at("v1")
    for one in unseen:
        assert (one.abtest, one.policy) == ("t", {"new": "random", "best": "popularity"}[one.variant or ""])
        assert one.mode == ("exploit" if one.variant == "best" else "explore")
        assert one.node_id is None
        again = recommender.decide(to_visit(one))  # as the audit does
        assert (again.slate, again.propensities) == (one.slate, one.propensities)
    table = read_shadows(store, state)
    assert table.num_rows == 42
    assert {*table["policy_shown"].to_pylist()} == {"linear_thompson"}
    history, _ = service.users.read_history("eve", 10, None)
    assert [entry.record for entry in history] == [shown[-1]]
    client = TestClient(create_api(service))
    refused = client.post("/v1/recommend", json={"decision_id": unseen[0].decision_id})
    assert refused.json()["error"]["code"] == "invalid_request"


def test_what_fails_in_the_shadow_reaches_nobody(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(service, kind="shadow", variants=OLD_NEW | {"more": {"policy": "popularity"}})
    recommender = service.served.at("v1")

    def fail(*_: object) -> None:
        raise ZeroDivisionError("of the challenger")

    monkeypatch.setattr(recommender.artefact("random").policy, "score", fail)
    ask(service, *of_users(5))
    assert service.shadows.counts == {"made": 5, "failed": 5, "left_out": 0}


def test_only_a_share_of_the_users_is_shadowed_and_what_is_too_much_is_left_out(service: Service, store: Store) -> None:
    begin(service, kind="shadow", variants=OLD_NEW | {"new": {"policy": "random", "share": 0.25}})
    ask(service, *of_users(240))
    assert len(decisions(store, SHADOW)) / 240 == pytest.approx(0.25, abs=5 * np.sqrt(0.25 * 0.75 / 240))
    for _ in range(1_001):
        service.shadows._waiting.append(lambda: decisions(store)[0])
    service.shadows.offer(lambda: decisions(store)[0])
    assert service.shadows.counts["left_out"] == 1


def test_interleaved_slates_are_of_both_and_can_be_made_again(service: Service, store: Store) -> None:
    begin(service, kind="interleaving")
    ask(service, *of_users(100), {"user_id": "ann", "rules": {"pins": {"20001": 1}}}, {"explore": False})
    found = decisions(store)
    recommender = service.served.at("v1")
    for one in found:
        assert (one.abtest, one.variant, one.policy) == ("t", None, "linear_thompson+random")
        assert one.policy_version == recommender.version("linear_thompson+random")
        assert {*one.teams[:2]} == {"linear_thompson", "random"}
        again = recommender.decide(to_visit(one))
        assert (again.slate, again.propensities, again.teams) == (one.slate, one.propensities, one.teams)
    pinned = found[100]
    assert pinned.slate[1] == "20001"
    assert pinned.propensities[1] == pytest.approx(1.0)
    of_first = Counter(one.teams[0] for one in found[:100])
    assert of_first["random"] / 100 == pytest.approx(0.5, abs=0.25)  # five standard deviations
    client = TestClient(create_api(service))
    answer = client.post("/v1/recommend", json={"policy": "linear_thompson+random"})
    assert answer.json()["error"]["code"] == "unanswerable"
    switch_off(store, "t", "new", by="me")
    service.tests.refresh()
    ask(service, {"user_id": "ann"})
    assert (decisions(store)[-1].policy, decisions(store)[-1].variant) == ("linear_thompson", "old")


def test_shares_that_change_keep_those_who_need_not_move(service: Service, store: Store) -> None:
    begin(service)
    ask(service, *of_users(200))
    set_shares(store, "t", {"old": 0.8, "new": 0.2}, by="me")
    service.tests.refresh()
    ask(service, *of_users(200))
    found = decisions(store)
    moves = Counter((one.variant, then.variant) for one, then in zip(found[:200], found[200:], strict=True))
    assert moves[("old", "new")] == 0
    assert moves[("new", "old")] / 200 == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / 200))


def test_a_test_over_http(store: Store, service: Service) -> None:
    client = TestClient(create_api(service))
    body = {"name": "t", "variants": OLD_NEW, "control": "old", "why": "to see"}
    started = client.post("/v1/abtests", json=body)
    assert (started.status_code, started.json()["running"]) == (201, True)
    assert started.json()["history"][0]["why"] == "to see"
    assert client.post("/v1/abtests", json=body).status_code == 409
    assert client.post("/v1/abtests", json=body | {"control": "x"}).json()["error"]["code"] == "invalid_request"
    assert client.get("/v1/abtests/none").json()["error"]["code"] == "unknown_abtest"
    assert client.get("/v1/abtests/t").json()["results"] is None
    assert client.post("/v1/recommend", json={"user_id": "ann"}).status_code == 200
    assert decisions(store)[0].abtest == "t"
    assert client.get("/v1/abtests/t").json()["results"]["exposures"] == {decisions(store)[0].variant: 1}
    shared = client.post("/v1/abtests/t/shares", json={"shares": {"old": 0.9, "new": 0.1}, "why": "slowly"})
    assert shared.json()["shares"] == {"old": 0.9, "new": 0.1}
    off = client.post("/v1/abtests/t/switch_off", json={"variant": "new"})
    assert (off.json()["shares"], off.json()["switched_off"]) == ({"old": 1.0, "new": 0.0}, ["new"])
    ended = client.post("/v1/abtests/t/stop", json={})
    assert ended.json()["running"] is False
    [listed] = client.get("/v1/abtests").json()["tests"]
    assert [change["action"] for change in listed["history"]] == ["start", "shares", "switch_off", "stop"]
    assert {change["by"] for change in listed["history"]} == {"anyone"}
    assert client.post("/v1/abtests/t/shares", json={"shares": {"old": 1, "new": 0}}).status_code == 409
