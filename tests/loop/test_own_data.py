"""From a shop's own file to a served policy: a declaration, an ingestion, a training, and requests over HTTP."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from data.archive.parquet import read_events
from data.ingest.run import main as ingest_main
from data.log.store import Store
from data.nodes.node import load_node
from rl import evaluate, train
from rl.artefacts.artefact import load_served
from serve.api.application import create_api
from serve.decisions.service import Service
from tests.support.shops import served
from tests.support.writers import StoreWriter

pytestmark = pytest.mark.usefixtures("ray_local")

PRODUCTS, HOUSEHOLDS = 12, 40
# Of a grocer, as the README declares it: what was paid for a line, and not a price.
README = (Path(__file__).parents[2] / "data" / "README.md").read_text()
JOURNEY = re.search(r"## Bring your own data.*?```toml\n(.*?)```", README, re.DOTALL)[1]  # type: ignore[index]
# Of a radio: who played what when, and nothing else.
PLAYS = """
name = "plays"
[csv]
delimiter = "\\t"
header = ["listener", "at", "song"]
extensions = [".tsv"]
[[columns]]
name = "listener"
type = "string"
role = "user"
missing = "reject"
[[columns]]
name = "song"
type = "string"
role = "item"
missing = "reject"
[[columns]]
name = "at"
type = "timestamp"
format = "epoch_s"
role = "time"
missing = "reject"
"""


@dataclass
class Shop:
    """A node of one's own and its file."""

    node: Path
    file: Path
    name: str
    good: int
    bad: int
    event: dict[str, object]
    """As it is sent over HTTP."""


def bought(rng: np.random.Generator) -> Iterator[tuple[int, int, datetime]]:
    """Household, product and time of each line: each household likes four products in a row."""
    for household in range(HOUSEHOLDS):
        for visit in range(8):
            at = datetime(2017, 1, 1, 9) + timedelta(days=int(rng.integers(40)) + 40 * visit, minutes=household)
            for product in sorted({(household % PRODUCTS + int(step)) % PRODUCTS for step in rng.integers(4, size=3)}):
                yield household, product, at


@pytest.fixture(params=["journey", "plays"])
def shop(request: pytest.FixtureRequest, tmp_path: Path) -> Shop:
    lines = list(bought(np.random.default_rng(0)))
    if request.param == "journey":
        header = "household_id,store_id,basket_id,product_id,quantity,sales_value,transaction_timestamp\n"
        rows = [f"{h},330,{h}{at:%m%d},{1000 + p},2,{(p + 1) * 2},{at:%Y-%m-%d %H:%M:%S}\n" for h, p, at in lines]
        bad = [",330,1,1000,2,1.5,2017-01-01 10:00:00\n", '3,330,1,"1000,2,1.5,2017-01-01 10:00:00\n']
        text, name, event = header + bad[0] + "".join(rows[:9]) + bad[1] + "".join(rows[9:]), "transactions.csv", {
            "household_id": 7, "basket_id": 1, "product_id": 1003, "quantity": 1, "sales_value": 8,
            "transaction_timestamp": "2017-12-30T10:00:00",
        }  # fmt: skip
    else:
        rows = [f"listener {h}\t{int(at.timestamp())}\t{1000 + p}\n" for h, p, at in lines]
        bad = ["listener 7\tyesterday\t1000\n"]
        text, name = "".join(rows) + bad[0], "plays.tsv"
        event = {"listener": "listener 7", "song": "1003", "at": 1514628000}
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_text(text)
    (tmp_path / "node.toml").write_text(JOURNEY if request.param == "journey" else PLAYS)
    return Shop(tmp_path / "node.toml", tmp_path / "in", request.param, len(set(rows)), len(bad), event)


@pytest.mark.slow
def test_ones_own_file_becomes_a_served_policy(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path / "home"))
    archive = str(tmp_path / "home" / "archive")
    assert ingest_main(["--node", str(shop.node), str(shop.file), "--archive", archive]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["events"], sum(summary["rejected"].values())) == (shop.good, shop.bad)
    assert (summary["read"], summary["unaccounted"]) == (shop.good + shop.bad, 0)

    small = ["--encoder.rank", "3", "--decisions", "2000", "--slate_size", "3", "--no-track"]
    held_out = ["--before", "2017-10-01T00:00:00Z", "--name", "own"]
    assert train.main(["--kind", "retail", "--node", str(shop.node), *held_out, *small]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["curve"][-1] > 1.2 * report["random"]

    folder = tmp_path / "home" / "policies" / "own"
    since = ["--since", "2017-10-01T00:00:00Z", "-k", "4", "--no-track"]
    assert evaluate.main([str(folder), "--node", str(shop.node), *since]) == 0
    scores = json.loads(capsys.readouterr().out)["own"]
    assert scores["customers"] == HOUSEHOLDS
    assert scores["ndcg@4"] > 0.6  # random: .25

    node = load_node(shop.node)
    store = Store.open(f"sqlite:///{tmp_path / 'home' / 'store.db'}")
    service = Service(
        served({"own": load_served(folder)}, {"own": 1.0}), store, StoreWriter(store), {shop.name: (node, None)}
    )
    client = TestClient(create_api(service))
    user = read_events(archive, node).to_table(columns=["user_id"])["user_id"].to_pylist()[0]
    answer = client.post("/v1/recommend", json={"user_id": user, "k": 3}).json()
    assert {item["item_id"] for item in answer["items"]} < {str(1000 + p) for p in range(PRODUCTS)}
    report = {"decision_id": answer["decision_id"], "kind": "click", "item_id": answer["items"][0]["item_id"]}
    assert client.post("/v1/feedback", json=report).json()["results"][0]["status"] == "stored"
    events = client.post("/v1/events", json={"node": shop.name, "records": [shop.event, {}]}).json()["results"]
    assert [event["status"] for event in events] == ["stored", "rejected"]

    # What came over HTTP is learned with what came in files.
    assert train.main(["--kind", "retail", "--node", str(shop.node), "--name", "both", *small]) == 0
    assert json.loads(capsys.readouterr().out)["events"] == shop.good + 1
    store.close()


def test_what_cannot_be_learned_from_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RAYCOMMEND_HOME", str(tmp_path))
    (tmp_path / "node.toml").write_text(PLAYS.replace('role = "item"\n', ""))
    assert train.main(["--kind", "retail", "--node", str(tmp_path / "node.toml")]) == 2
    assert "node plays has no column with the role item" in capsys.readouterr().err
