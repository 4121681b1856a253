"""A shop with nothing but a catalogue: a policy that learns from what is said of visits, users and items, over v1."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from data.log.current.items import Item, upsert
from data.log.store import Store
from data.settings import Settings
from rl import train
from rl.artefacts.artefact import load_served
from serve.api.application import create_api
from serve.audit.run import audit
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.decisions.service import Service
from serve.learning.loops import Loops
from serve.learning.plans import ConfiguredPlans
from tests.support.writers import StoreWriter

MAKE = ["--policy.kind", "described", "--source", "nothing", "--name", "described", "--no-track"]
ITEMS = [
    *({"item_id": f"mug{n}", "features": {"kind": "mug"}} for n in range(4)),
    *({"item_id": f"hat{n}", "features": {"kind": "hat"}} for n in range(4)),
]


def fault(name: str) -> Any:
    return json.loads((Path(__file__).parents[3] / "faults" / name).read_bytes())


class Shop:
    """A service that learns whenever it is told to."""

    def __init__(self, home: Path, store: Store) -> None:
        config = ServiceConfig(policies={"described": 1.0}, home=str(home))
        self.loops = Loops(
            store, config.settings, [ConfiguredPlans(config, config.settings, store)], lambda: datetime.now(UTC)
        )
        self.served = Served({"v1": config.shares})
        self.client = TestClient(create_api(Service(self.served, store, StoreWriter(store), {}, config)))
        self.learn()

    def learn(self) -> None:
        self.loops.poll()
        self.served.take(self.loops.news(self.served.steps()))

    def scores(self, user: str, items: list[str]) -> list[float]:
        ask = {"user_id": user, "candidates": items, "k": len(items), "explore": False}
        shown = {i["item_id"]: i["score"] for i in self.client.post("/v1/recommend", json=ask).json()["items"]}
        return [shown[item] for item in items]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    assert train.main(MAKE) == 0
    return tmp_path


@pytest.fixture
def store(home: Path) -> Iterator[Store]:
    store = Store.open(f"sqlite:///{home / 'store.db'}")
    yield store
    store.close()


@pytest.fixture
def shop(home: Path, store: Store) -> Shop:
    return Shop(home, store)


def live(shop: Shop, visits: int) -> None:
    """Tea drinkers click mugs and nothing else, the others hats."""
    client = shop.client
    assert client.post("/v1/items", json={"items": ITEMS}).status_code == 200
    for user, drink in (("ann", "tea"), ("bob", "coffee")):
        client.put(f"/v1/users/{user}", json={"features": {"drinks": drink}})
    for n in range(visits):
        user, liked = (("ann", "mug"), ("bob", "hat"))[n % 2]
        answer: dict[str, Any] = client.post("/v1/recommend", json={"user_id": user, "k": 2}).json()
        reports = [{"decision_id": answer["decision_id"], "kind": "view"}]
        reports += [
            {"decision_id": answer["decision_id"], "kind": "click", "item_id": item["item_id"]}
            for item in answer["items"]
            if item["item_id"].startswith(liked)
        ]
        client.post("/v1/feedback", json=reports)
        if n % 10 == 9:
            shop.learn()


@pytest.mark.heavy
def test_a_cold_item_is_known_by_its_features_and_a_cold_user_by_his(shop: Shop, store: Store, home: Path) -> None:
    live(shop, 120)
    new = [{"item_id": f"new {kind}", "features": {"kind": kind}} for kind in ("mug", "hat")]
    shop.client.post("/v1/items", json={"items": new})
    shop.client.put("/v1/users/cold", json={"features": {"drinks": "tea"}})
    for user in ("ann", "cold"):
        mug, hat = shop.scores(user, ["new mug", "new hat"])
        assert mug > hat + 0.3, user
    mug, hat = shop.scores("bob", ["new mug", "new hat"])
    assert hat > mug + 0.3
    where, now = Settings(home=home, store=None, archive=None), datetime.now(UTC)
    found = audit(store, where, now - timedelta(days=1), now + timedelta(days=1))
    assert (found.decisions, found.mismatches) == (123, [])


@pytest.mark.heavy
def test_it_can_be_trained_from_the_log(shop: Shop, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    live(shop, 60)
    monkeypatch.setattr("rl.training.kinds.retail.GRACE", timedelta(seconds=-600.5))  # as if all windows had closed
    assert train.main(["--policy.kind", "described", "--source", "log", "--name", "logged", "--no-track"]) == 0
    logged = load_served(home / "policies" / "logged")
    assert logged.learned_until is not None
    assert any(array.any() for array in logged.policy.state_dict().values())


@pytest.mark.heavy
def test_tags_are_learned_and_never_stop_recommendations(shop: Shop, store: Store, home: Path) -> None:
    client = shop.client
    assert client.post("/v1/items", json=fault("01-item-with-tags.json")).json()["results"][0]["status"] == "created"
    assert client.put("/v1/users/u-1", json=fault("01-user-with-likes.json")).status_code == 200
    assert client.post("/v1/recommend", json=fault("01-recommend.json")).status_code == 200
    tagged = [
        {"item_id": f"{tag}{n}", "features": {"tags": [f"of {n}", tag], "stock": [{"shop": "Ulm"}, None, True]}}
        for n in range(4)
        for tag in ("outdoor", "indoor")
    ]
    assert client.post("/v1/items", json={"items": tagged}).status_code == 200
    for n in range(60):
        asked = client.post("/v1/recommend", json={"user_id": "u-1", "k": 1, "decision_id": f"d{n}"}).json()
        [shown] = asked["items"]
        if shown["item_id"].startswith("outdoor"):
            client.post("/v1/feedback", json={"decision_id": f"d{n}", "kind": "click"})
        else:
            client.post("/v1/feedback", json={"decision_id": f"d{n}", "kind": "view"})
        if n % 10 == 9:
            shop.learn()
    new = [{"item_id": f"new {tag}", "features": {"tags": [tag, "of 9"]}} for tag in ("outdoor", "indoor")]
    client.post("/v1/items", json={"items": new})
    outdoor, indoor = shop.scores("u-1", ["new outdoor", "new indoor"])
    assert outdoor > indoor + 0.3


@pytest.mark.parametrize(
    ("number", "shown"), [("1" + "0" * 400, "an integer that no float holds"), ("1.7e308", "1.7e+308")]
)
def test_a_number_beyond_the_bound_is_refused_and_the_largest_within_is_learned(
    shop: Shop, home: Path, number: str, shown: str
) -> None:
    client = shop.client
    refused = client.post(
        "/v1/recommend",
        content=f'{{"k": 1, "candidates": ["a"], "context": {{"page": "home", "x": {number}}}}}',
        headers={"content-type": "application/json"},
    )
    assert refused.status_code == 422
    error = refused.json()["error"]
    assert (error["code"], error["where"]) == ("invalid_request", "context")
    assert error["message"] == f"x must be a number from -1e+15 to 1e+15, got {shown}"
    for n in range(3):
        ask = {"k": 1, "candidates": ["a", "b"], "context": {"x": 1e15, "y": -(10**15)}, "decision_id": f"d{n}"}
        assert client.post("/v1/recommend", json=ask).status_code == 200
        told = client.post("/v1/feedback", json={"decision_id": f"d{n}", "kind": "click"}).json()["results"][0]
        shop.learn()
        after = client.post("/v1/recommend", json={"k": 1, "candidates": ["a"]}).json()
        assert after["learned_through"] == told["position"]


def test_rows_from_before_there_were_bounds_are_served_and_learned(shop: Shop, store: Store) -> None:
    deep: Any = {"x": 1}
    for _ in range(90):
        deep = {"n": [deep]}
    old = Item.model_construct(
        item_id="old", features={"x": 10**400, "y": 1.7e308, "deep": deep, "many": {str(n): n for n in range(3000)}},
        categories=(), available=True, expires_at=None,
    )  # fmt: skip
    upsert(store, [old])
    ask = {"k": 1, "candidates": ["old", "new"], "decision_id": "d"}
    assert shop.client.get("/v1/items/old").status_code == 200
    shop.client.post("/v1/items", json={"items": [{"item_id": "new"}]})
    assert shop.client.post("/v1/recommend", json=ask).status_code == 200
    told = shop.client.post("/v1/feedback", json={"decision_id": "d", "kind": "click"}).json()["results"][0]
    shop.learn()
    assert shop.client.post("/v1/recommend", json={"k": 1}).json()["learned_through"] == told["position"]


@pytest.mark.heavy
def test_a_row_that_cannot_be_learned_is_set_aside_by_a_training_from_the_log(
    shop: Shop, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    live(shop, 12)
    with store.writing() as connection:
        connection.exec_driver_sql('UPDATE decisions SET features = \'{"context": [{"x": 1e300}]}\' WHERE seq = 3')
        connection.exec_driver_sql("UPDATE decisions SET slate = '{' WHERE seq = 5")
        connection.exec_driver_sql("UPDATE feedback SET value = 'much' WHERE seq = 2")
    monkeypatch.setattr("rl.training.kinds.retail.GRACE", timedelta(seconds=-600.5))
    capsys.readouterr()
    assert train.main(["--policy.kind", "described", "--source", "log", "--name", "logged", "--no-track"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["outcomes"], report["set_aside"]) == (10, 3)


def test_a_simulator_says_nothing_of_items(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--policy.kind", "described", "--out", str(tmp_path), "--no-track"]
    assert train.main(arguments) == 2
    assert "give --source nothing" in capsys.readouterr().err
