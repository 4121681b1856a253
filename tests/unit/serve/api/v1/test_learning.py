"""How a replica says how it is: healthy, ready, and how each loop learns."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from data.log.current.keys import create
from data.log.errors import StoreUnavailable
from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import save
from rl.online.state import FoldState
from serve.api.application import create_api
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from serve.learning.loops import Loops
from serve.learning.plans import ConfiguredPlans
from tests.support.clocks import Clock
from tests.support.logs import Written
from tests.support.shops import small_market, untrained
from tests.support.writers import StoreWriter

ADMIN = {"Authorization": "Bearer right"}


class Shop:
    """A service with two objectives, whose learner does what it is told."""

    def __init__(self, home: Path, policies: tuple[str, ...]) -> None:
        for name in policies:
            save(untrained(small_market()[1], name), home / "policies" / name)
        reward = RewardSpec(wait_s=60)
        self.config = ServiceConfig(
            policies={"linear_thompson": 1.0, "rfm_bandit": 1.0},
            reward=reward,
            objectives={"margin": reward},
            learn_from="all",
            home=str(home),
        )
        self.settings: Settings = self.config.settings
        self.clock = Clock()
        self.store = Store.open(self.settings.store_url, self.clock)
        self.log = Written(self.store, self.clock)
        self.served = Served({"v1": self.config.shares}, self.config.objectives)
        self.service = Service(self.served, self.store, StoreWriter(self.store), {}, self.config, "r1")
        self.keys = KeyRing(self.store, "right")
        self.client = TestClient(create_api(self.service, Edge(self.keys)))
        self.loops: Loops | None = None

    def start(self) -> None:
        self.loops = Loops(
            self.store, self.settings, [ConfiguredPlans(self.config, self.settings, self.store)], self.clock
        )
        self.hear()

    def hear(self) -> None:
        assert self.loops is not None
        self.served.take(self.loops.news(self.served.steps()))
        self.served.hear(self.loops.states())

    def learn(self) -> None:
        assert self.loops is not None
        self.loops.poll()
        self.hear()

    def get(self, path: str, **headers: str) -> Any:
        return self.client.get(path, headers=headers or ADMIN).json()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    shop = Shop(tmp_path, ("linear_thompson", "rfm_bandit"))
    yield shop
    shop.store.close()


def test_a_replica_is_ready_when_every_objective_has_a_policy_and_the_log_answers(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = shop.client.get("/readyz")  # no key
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["code"] == "not_ready"
    assert "loop v1, objective margin" in answer.json()["error"]["message"]
    asked = shop.client.post("/v1/recommend", json={"k": 1}, headers=ADMIN)
    assert (asked.status_code, asked.json()["error"]["code"]) == (503, "not_ready")
    shop.start()
    assert shop.client.get("/readyz").json() == {"status": "ready", "replica": "r1"}

    def fail() -> int:
        raise StoreUnavailable("locked")

    monkeypatch.setattr(shop.store, "last_decision", fail)
    answer = shop.client.get("/readyz")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert answer.json()["error"]["code"] == "store_unavailable"
    assert shop.client.get("/healthz").status_code == 200


def test_how_learning_goes_is_said_fold_by_fold(shop: Shop) -> None:
    shop.start()
    for _ in range(3):
        shop.log.report(shop.log.decide("rfm_bandit"))
    shop.clock.advance(30)
    report = shop.get("/v1/learning")
    assert (report["replica"], report["learner"], len(report["folds"])) == ("r1", "answers", 2)
    default, margin = report["folds"]
    assert (default["loop"], default["objective"], margin["objective"]) == ("v1", "default", "margin")
    assert (default["state"], default["decisions_through"], default["feedback_through"]) == ("following", 0, 0)
    assert (default["decisions_behind"], default["feedback_behind"], default["seconds_behind"]) == (3, 3, 30.0)
    shop.log.damage("UPDATE decisions SET slate = '{' WHERE seq = 2")
    shop.learn()
    default = shop.get("/v1/learning")["folds"][0]
    assert (default["state"], default["rows_set_aside"], default["waiting"]) == ("set_aside", 1, 3)
    assert (default["decisions_through"], default["feedback_through"]) == (3, 3)
    assert (default["decisions_behind"], default["feedback_behind"], default["seconds_behind"]) == (0, 0, 0.0)
    (row,) = default["set_aside"]
    assert (row["table"], row["position"], row["policy"]) == ("decisions", 2, None)
    assert row["reason"].startswith("ValueError")
    health = shop.client.get("/healthz").json()
    assert (health["status"], health["replica"]) == ("degraded", "r1")
    assert health["reasons"][0] == "loop v1, objective default: 1 rows set aside"
    assert "{" not in "".join(health["reasons"])  # nothing that was stored


def test_each_report_is_counted_once_as_what_it_was(shop: Shop) -> None:
    shop.start()
    decided = shop.log.decide("rfm_bandit")
    shop.log.decide("rfm_bandit")
    shop.learn()

    def report(name: str, item: str | None = None, kind: str = "click", of: str = decided.decision_id) -> Any:
        body = {"decision_id": of, "item_id": item, "kind": kind, "feedback_id": name}
        return shop.client.post("/v1/feedback", json=[body], headers=ADMIN).json()["results"][0]["status"]

    told = [report("1"), report("1"), report("1", kind="view"), report("2", kind="applause"), report("3", item="none")]
    told.append(report("4", of="never made"))
    assert told == ["stored", "known", "conflict", "stored", "stored", "stored"]
    shop.learn()
    shop.clock.advance(61)
    shop.learn()
    assert report("5", kind="purchase") == "stored"
    shop.learn()
    learning = shop.get("/v1/learning")
    assert learning["reports"] == {"stored": 5, "duplicate": 1, "contradictory": 1, "orphan": 1}
    cases = {"counted": 1, "unknown_kind": 1, "not_in_slate": 1, "late": 1, "orphan": 1, "missing": 1}
    for fold in learning["folds"]:
        assert {case: count for case, count in fold["reports"].items() if count} == cases


def test_a_policy_that_cannot_be_loaded_is_served_as_soon_as_it_can(tmp_path: Path) -> None:
    shop = Shop(tmp_path, ("rfm_bandit",))
    shop.start()
    assert shop.loops is not None
    health = shop.client.get("/healthz").json()
    assert (health["status"], [one["name"] for one in health["policies"]]) == ("degraded", ["rfm_bandit"])
    assert health["reasons"][0] == "loop v1, objective default: not served: linear_thompson"
    assert shop.client.get("/readyz").status_code == 200
    for number in range(8):
        answer = shop.client.post("/v1/recommend", json={"k": 1, "user_id": f"u{number}"}, headers=ADMIN).json()
        assert answer["policy"]["name"] == "rfm_bandit"
    fold = shop.get("/v1/learning")["folds"][0]
    assert (fold["state"], list(fold["not_served"])) == ("following", ["linear_thompson"])
    assert not shop.loops.refresh()
    save(untrained(small_market()[1], "linear_thompson"), tmp_path / "policies" / "linear_thompson")
    assert shop.loops.refresh()
    shop.hear()
    health = shop.client.get("/healthz").json()
    assert (health["status"], health["reasons"], len(health["policies"])) == ("ok", [], 2)
    shop.store.close()


def test_it_is_said_also_while_the_learner_is_silent(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    report = shop.get("/v1/learning")  # before anything was heard
    assert (report["learner"], report["heard"], [fold["state"] for fold in report["folds"]]) == (
        "silent",
        None,
        ["failed", "failed"],
    )
    shop.start()
    shop.log.decide()

    async def silent() -> Sequence[FoldState]:
        raise ConnectionError("gone")

    async def answering() -> Sequence[FoldState]:
        assert shop.loops is not None
        return shop.loops.states()

    shop.service.learning.ask = silent
    report = shop.get("/v1/learning")
    assert (report["learner"], report["folds"][0]["state"]) == ("silent", "following")
    assert report["folds"][0]["decisions_behind"] == 1
    assert report["heard"] is not None
    shop.service.learning.ask = answering
    assert shop.get("/v1/learning")["learner"] == "answers"
    assert shop.client.get("/healthz").json()["status"] == "ok"
    monkeypatch.setattr("serve.decisions.health.SILENT_S", -1.0)
    health = shop.client.get("/healthz").json()
    assert (health["status"], "no word from the learner" in health["reasons"][0]) == ("degraded", True)


def test_learning_is_for_admins(shop: Shop) -> None:
    shop.start()
    token = create(shop.store, "reads", "reader")
    shop.keys.refresh()
    assert shop.client.get("/v1/learning").status_code == 401
    assert shop.client.get("/v1/learning", headers={"Authorization": f"Bearer {token}"}).status_code == 403
    assert shop.client.get("/v1/learning", headers=ADMIN).status_code == 200
    paths = shop.client.get("/openapi.json").json()["paths"]
    assert {"/v1/learning", "/healthz", "/readyz"} < set(paths)
    assert set(paths["/readyz"]["get"]["responses"]) > {"200", "503"}


class Newer(FoldState):
    """As a learner of newer code says it, while replicas are replaced."""

    more: int = 1


def test_what_a_learner_of_newer_code_says_more_is_left_out(shop: Shop) -> None:
    shop.start()
    assert shop.loops is not None
    shop.served.hear([Newer(**dict(state)) for state in shop.loops.states()])
    folds = shop.get("/v1/learning")["folds"]
    assert [fold["state"] for fold in folds] == ["following", "following"]
    assert "more" not in folds[0]
