"""The service on PostgreSQL, over real HTTP: it learns, says 503 while the database is gone, and goes on by itself."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from data.log.store import Store
from data.settings import Settings
from serve.audit.run import audit
from serve.config import ServiceConfig
from tests.support.ledger import Ledger
from tests.support.packages import needs_package
from tests.support.postgres import Cluster, cluster
from tests.support.services import service
from tests.support.shops import save_policies, small_market

pytestmark = needs_package("postgresql")


@dataclass
class Shop:
    """A service and its database, with what it has acknowledged."""

    home: Path
    database: Cluster
    store_url: str
    client: httpx.Client
    ledger: Ledger = field(default_factory=Ledger)
    refusals: list[httpx.Response] = field(default_factory=list)

    def visit(self, name: str) -> int:
        """Ask for a slate and report a click about it; returns the report's log position, 0 if any was refused."""
        answer = self.client.post("/v1/recommend", json={"k": 2, "decision_id": name, "user_id": f"u-{name[-1]}"})
        if answer.status_code != 200:
            self.refusals.append(answer)
            return 0
        self.ledger.decisions.add(name)
        report = {"decision_id": name, "kind": "click", "feedback_id": name}
        answer = self.client.post("/v1/feedback", json=report)
        if answer.status_code != 200:
            self.refusals.append(answer)
            return 0
        position = int(answer.json()["results"][0]["position"])
        self.ledger.reports[name] = position
        return position

    def visits(self, name: str, number: int) -> int:
        return [self.visit(f"{name}-{place}") for place in range(number)][-1]

    def wait_until_learned(self, position: int) -> None:
        deadline = time.monotonic() + 60
        while self.client.get("/healthz").json()["learned_through"] < position:
            assert time.monotonic() < deadline, "feedback is not learned"
            time.sleep(0.1)

    def wait_until_answered(self) -> None:
        deadline = time.monotonic() + 60
        while not self.visit(f"again-{time.monotonic()}"):
            assert time.monotonic() < deadline, self.refusals[-1].text
            time.sleep(0.1)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("home")
    save_policies(home, small_market()[1])
    config = ServiceConfig(policies={"linear_thompson": 1})
    with cluster() as database:
        url = database.new_database()
        with service(config, RAYCOMMEND_HOME=str(home), RAYCOMMEND_STORE=url) as running:
            running.wait()
            yield Shop(home, database, url, running.client)


def test_it_learns_from_what_is_in_the_database(shop: Shop) -> None:
    shop.wait_until_learned(shop.visits("first", 20))
    assert not shop.refusals
    assert not (shop.home / "store.db").exists()


def test_it_says_503_while_the_database_is_gone_and_goes_on_when_it_is_back(shop: Shop) -> None:
    replica = shop.client.get("/healthz").json()["replica"]
    shop.visits("before", 10)
    for _ in range(2):
        shop.database.kill()
        shop.visits("meanwhile", 5)
        report = {"decision_id": "first-1", "kind": "click", "feedback_id": "lost"}
        refused = [*shop.refusals, shop.client.post("/v1/feedback", json=report), shop.client.get("/v1/users/u-1")]
        assert {(answer.status_code, answer.headers.get("Retry-After")) for answer in refused} == {(503, "1")}
        assert {answer.json()["error"]["code"] for answer in refused} == {"store_unavailable"}
        assert all(str(shop.database.port) not in answer.text for answer in refused)
        assert shop.client.get("/readyz").status_code == 503
        shop.database.start()
        shop.wait_until_answered()
    position = shop.visits("after", 10)
    shop.wait_until_learned(position)
    assert shop.client.get("/readyz").status_code == 200
    assert shop.client.get("/healthz").json()["replica"] == replica  # the same one, all the time


def test_what_was_acknowledged_is_in_the_log_and_every_decision_can_be_made_again(shop: Shop) -> None:
    assert shop.ledger.compare(shop.store_url) == ([], [])
    with closing(Store.open(shop.store_url)) as store:
        now = datetime.now(UTC)
        settings = Settings(home=shop.home, store=shop.store_url, archive=None)
        found = audit(store, settings, now - timedelta(days=1), now)
    assert found.decisions >= len(shop.ledger.decisions) > 40
    assert (found.mismatches, found.unreadable, found.erased) == ([], [], {})


def test_a_user_is_forgotten_in_the_database(shop: Shop) -> None:
    answer = shop.client.delete("/v1/users/u-1")
    assert answer.status_code == 200
    assert answer.json()["removed"]["decisions"] >= 2
    with closing(Store.open(shop.store_url)) as store:
        assert not any(decision.user_id == "u-1" for _, decision in store.decisions())
    shop.wait_until_answered()
