"""`GET /v1/decisions/{id}/explanation`: of every kind of policy, by the version that decided, and clear where not."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from data.log.current.keys import Role, create
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import INTERLEAVED, Features, Feedback, Rules, Slot
from data.settings import Settings
from rl.artefacts.artefact import save
from rl.artefacts.shelf import shelve
from rl.encoders.visit import Visit
from rl.online.fold import FoldSpec
from rl.online.snapshots import SnapshotSettings
from rl.provenance.erasure import carry_out
from serve.api.application import create_api
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.http.edge import Edge
from serve.http.keys import KeyRing
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from tests.support.archives import archive
from tests.support.shops import of_every_kind, small_market
from tests.support.visits import visit
from tests.support.writers import StoreWriter

pytestmark = pytest.mark.heavy

DAY = timedelta(days=1)
ITEMS = small_market()[1].items
METHODS = {
    "linear_thompson": "exact",
    "rfm_bandit": "table",
    "neural_linear": "gradient",
    "crossed": "exact",
    "forgetting": "exact",
    "network": "leave_one_out",
}


class Shop:
    """A replica that answers by policies of every kind, and the learner that it follows."""

    def __init__(self, store: Store, home: Path) -> None:
        for name, artefact in of_every_kind(small_market()[1]).items():
            save(artefact, home / "policies" / name)
        settings = Settings(home=home, store=None, archive=None)
        digests = {name: shelve(home / "policies" / name, settings).digest for name in METHODS}
        plan = Plan(FoldSpec(reward=RewardSpec(wait_s=0.05), learn_from="all"), digests)
        when = SnapshotSettings(every_s=3600)
        self.store, self.settings = store, settings
        self.loops = Loops(store, settings, [lambda: [plan]], lambda: datetime.now(UTC), when)
        self.served = Served({"v1": dict.fromkeys(METHODS, 1.0)})
        self.served.take(self.loops.news(self.served.steps()))
        service = Service(self.served, store, StoreWriter(store), {}, ServiceConfig(home=str(home)))
        self.keys = KeyRing(store, "right")
        self.app: FastAPI = create_api(service, Edge(self.keys, access_log=False))
        self.client = TestClient(self.app, headers={"Authorization": "Bearer right"}, raise_server_exceptions=False)

    def decide(self, decision_id: str, policy: str, **fields: Any) -> None:
        """Decide, and log it with a click on the first item."""
        recommender = self.served.at("v1")
        given: dict[str, Any] = {"k": 3, "candidates": ITEMS} | fields
        one = visit(recommender, decision_id, datetime.now(UTC), policy=policy, **given)
        decision = recommender.decide(one)
        clicked = decision.slots[0].slot_id if decision.slots else decision.slate[0]
        click = Feedback(feedback_id=decision_id, decision_id=decision_id, kind="click", item_id=clicked)
        self.store.insert([decision, click])

    def learn(self) -> None:
        """Let the learner learn all, and the replica take it over."""
        self.loops.poll()
        self.served.take(self.loops.news(self.served.steps()))

    def explain(self, decision_id: str, **parameters: Any) -> dict[str, Any]:
        answer = self.client.get(f"/v1/decisions/{decision_id}/explanation", params=parameters)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def refuse(self, decision_id: str) -> tuple[int, str, str]:
        answer = self.client.get(f"/v1/decisions/{decision_id}/explanation")
        error = answer.json()["error"]
        return answer.status_code, error["code"], error["message"]


@pytest.fixture
def shop(store: Store, tmp_path: Path) -> Shop:
    shop = Shop(store, tmp_path)
    for n in range(45):
        shop.decide(
            f"before/{n}", list(METHODS)[n % len(METHODS)], user_id=f"1200{n % 5}", context={"page": f"p{n % 2}"}
        )
        if n % 9 == 8:
            shop.learn()
    return shop


def check(found: dict[str, Any], store: Store) -> None:
    """Check that an explanation is of what is logged, and adds up as far as it says."""
    logged = store.decision(found["decision_id"])
    assert logged is not None
    assert [item["item_id"] for item in found["items"]] == list(logged.slate)
    for slot, item in enumerate(found["items"]):
        assert (item["slot"], item["score"]) == (slot, logged.scores[slot])
        total = item["base"] + item["others"] + sum(one["contribution"] for one in item["contributions"])
        assert item["error"] == pytest.approx(total - item["score"], abs=1e-12)
        if item["method"] in ("exact", "table"):
            assert item["error"] == pytest.approx(0.0, abs=1e-9)
        drawn = item["propensity"]
        assert drawn["propensity"] == logged.propensities[slot]
        assert sum(part["probability"] for part in drawn["parts"]) == pytest.approx(drawn["propensity"], abs=1e-12)
        assert 0.0 <= drawn["explore_share"] <= 1.0 + 1e-12
        if uncertain := item["uncertainty"]:
            shares = uncertain["other_shares"] + sum(one["share"] for one in uncertain["shares"])
            assert shares == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("policy", METHODS)
def test_every_kind_of_policy_explains_itself_now_and_when_it_has_learned_more(shop: Shop, policy: str) -> None:
    shop.decide("asked", policy, user_id="12001", context={"page": "p1"})
    now = shop.explain("asked")
    check(now, shop.store)
    assert now["state"] == "served"
    assert {item["method"] for item in now["items"]} <= {METHODS[policy], "exact"}
    for n in range(12):
        shop.decide(f"after/{n}", policy, user_id="12001")
    shop.learn()
    shop.decide("later", policy, user_id="12001", context={"page": "p1"})
    again = shop.explain("asked")
    assert again == now | {"state": "made_again"}
    later = shop.explain("later")
    assert (later["state"], later["policy"]["version"] != now["policy"]["version"]) == ("served", True)


def test_names_are_those_of_the_visit(shop: Shop) -> None:
    described = Features.model_validate(
        {"context": ({"user": {"mood": "low"}},), "items": tuple(({"colour": "red"},) for _ in ITEMS)}
    )
    for n in range(3):
        shop.decide(f"red/{n}", "crossed", features=described)
    shop.learn()
    shop.decide("red", "crossed", features=described, k=1)
    names = {one["name"] for one in shop.explain("red", top=500)["items"][0]["contributions"]}
    assert {"user.mood=low", "colour=red", "user.mood=low × colour=red"} <= names
    [item] = shop.explain("red", top=2)["items"]
    assert len(item["contributions"]) == 2
    assert item["others"] != 0.0
    table = shop.explain("before/1")["items"][0]["table"]
    assert [row["state"] for row in table][1:] == [table[1]["state"], "everyone", "all items"]
    assert table[1]["state"].startswith("segment ")


def test_rules_that_touched_a_slot_are_named(shop: Shop) -> None:
    rules = Rules(
        pins={ITEMS[3]: 1},
        boosts={item: 0.5 for item in ITEMS},
        caps={"mugs": 1},
        categories={item: ("mugs",) for item in ITEMS[:10]},
    )
    shop.decide("ruled", "linear_thompson", rules=rules, mode="exploit", k=4)
    found = shop.explain("ruled")
    check(found, shop.store)
    items = found["items"]
    assert items[1]["item_id"] == ITEMS[3]
    pin, boost = items[1]["rules"]
    assert (pin["rule"], pin["slot"], pin["detail"]) == ("pin", 1, "pinned to slot 1")
    assert items[1]["propensity"]["explorer"] == "rule"
    assert items[1]["propensity"]["parts"] == [{"name": "rule", "probability": 1.0}]
    assert (boost["rule"], boost["boost"]) == ("boost", 0.5)
    assert {"name": "boost", "value": 1.0, "contribution": 0.5} in items[1]["contributions"]
    first = {rule["rule"]: rule for rule in items[0]["rules"]}  # the pinned one is all of the category there may be
    assert first["cap"]["category"] == "mugs"
    assert set(first["cap"]["items"]) == {*ITEMS[:10]} - {ITEMS[3]}
    assert items[0]["propensity"]["explorer"] == "epsilon_greedy"
    assert (items[0]["propensity"]["explore_share"], items[0]["propensity"]["best"]) == (0.0, True)


def test_a_slate_of_two_policies_says_who_has_chosen_and_how(shop: Shop) -> None:
    shop.decide("both", f"linear_thompson{INTERLEAVED}rfm_bandit", k=4)
    found = shop.explain("both")
    check(found, shop.store)
    assert {item["policy"] for item in found["items"]} == {"linear_thompson", "rfm_bandit"}
    for item in found["items"]:
        assert item["propensity"]["explorer"] == "interleaving"
        assert {part["name"].split(":")[0] for part in item["propensity"]["parts"]} <= {"linear_thompson", "rfm_bandit"}
        assert item["method"] == METHODS[item["policy"]]


def test_slots_are_explained_each_in_its_own_context(shop: Shop) -> None:
    slots = tuple(
        Slot.model_validate({"slot_id": name, "features": ({"where": name},), "exclude": out, "baseline": base})
        for name, out, base in (("top", (ITEMS[0],), ITEMS[1]), ("side", (), ITEMS[2]))
    )
    for n in range(3):
        shop.decide(f"slots/{n}", "crossed", slots=slots, k=2)
    shop.learn()
    shop.decide("slots", "crossed", slots=slots, k=2)
    found = shop.explain("slots", top=500)
    check(found, shop.store)
    assert [rule["items"] for rule in found["items"][0]["rules"]] == [[ITEMS[0]]]
    names = [{one["name"] for one in item["contributions"]} for item in found["items"]]
    assert "slot.id=top" in names[0]
    assert "slot.id=side" in names[1]
    shop.decide("baselines", "crossed", slots=slots, k=2, mode="apprentice")
    given = shop.explain("baselines")
    check(given, shop.store)
    assert [item["propensity"]["explorer"] for item in given["items"]] == ["client", "client"]


def test_what_nobody_was_shown_is_explained_too(shop: Shop) -> None:
    recommender = shop.served.at("v1")
    one = visit(recommender, "shadow:new:d1", datetime.now(UTC), 2, policy="rfm_bandit", abtest="t", variant="new")
    shop.store.insert([recommender.decide(one).model_copy(update={"loop": "shadow"})])
    check(shop.explain("shadow:new:d1"), shop.store)


def test_an_archived_decision_is_explained(shop: Shop, tmp_path: Path) -> None:
    before = shop.explain("before/0")
    later = Store.open(f"sqlite:///{tmp_path}/store.db", lambda: datetime.now(UTC) + 2 * DAY)
    assert archive(later, tmp_path / "archive").rows["decisions"] == 45
    later.close()
    assert shop.explain("before/0") == before


def test_who_is_unknown_or_forgotten_is_not_explained(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rl.provenance.erasure.run_child", carry_out)
    assert shop.refuse("nobody")[:2] == (404, "unknown_decision")
    check(shop.explain("before/1"), shop.store)
    assert shop.client.delete("/v1/users/12001").status_code == 200
    assert shop.refuse("before/1")[:2] == (404, "unknown_decision")


def test_a_version_that_cannot_be_made_again_is_a_clear_error(shop: Shop) -> None:
    row = shop.store.decision("before/2")
    assert row is not None
    other = {"decision_id": "changed", "policy_version": row.policy_version, "scores": (0.5,) * len(row.slate)}
    shop.store.insert([row.model_copy(update=other)])
    status, code, message = shop.refuse("changed")
    assert (status, code) == (409, "not_explainable")
    assert "made again, the decision is another one" in message
    digest = row.policy_version.split(".")[0]
    for n, version in enumerate((f"{digest}.nowhere.3", "imported", f"{row.policy_version}999")):
        shop.store.insert([row.model_copy(update={"decision_id": f"odd/{n}", "policy_version": version})])
        assert shop.refuse(f"odd/{n}")[:2] == (409, "not_explainable")


def test_what_takes_too_long_says_so_and_goes_on_where_it_was(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = shop.explain("before/40")
    service = Service(shop.served, shop.store, StoreWriter(shop.store), {}, ServiceConfig(home=str(shop.settings.home)))
    monkeypatch.setattr("serve.explanations.versions.monotonic", _Clock())
    client = TestClient(create_api(service), raise_server_exceptions=False)
    tries = 0
    while True:
        answer = client.get("/v1/decisions/before/40/explanation")
        tries += 1
        if answer.status_code == 200:
            break
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "making_again")
        assert answer.headers["retry-after"] == "2"
        assert tries < 20, answer.text
    assert tries > 1
    assert answer.json() == wanted


class _Clock:
    """A clock that is 4 s further at each look: of 10 s there is time for two steps."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 4.0
        return self.now


def test_only_readers_may_ask(shop: Shop) -> None:
    roles: tuple[tuple[Role, int], ...] = (("reader", 200), ("node", 403))
    for role, status in roles:
        key = create(shop.store, role, role)
        shop.keys.refresh()
        answer = shop.client.get("/v1/decisions/before/0/explanation", headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == status
    nobody = TestClient(shop.app).get("/v1/decisions/before/0/explanation")
    assert nobody.status_code == 401
    assert shop.client.get("/v1/decisions/before/0/explanation", params={"top": 0}).status_code == 422


def test_of_a_visit_without_a_user_nothing_is_missed(shop: Shop) -> None:
    recommender = shop.served.at("v1")
    shop.store.insert([recommender.decide(Visit(None, datetime.now(UTC), ["new"], decision_id="n", policy="network"))])
    check(shop.explain("n"), shop.store)
