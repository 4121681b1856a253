"""A/B tests of a service that runs, over real HTTP: started by the command, followed by all replicas, stopped."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import SHADOW, Decision
from rl.artefacts.artefact import save
from rl.registry import register
from serve.audit.run import audit
from serve.config import ServiceConfig
from tests.support.services import Running, service, wait_for
from tests.support.shops import save_policies, small_market, untrained

pytestmark = pytest.mark.slow  # one story: each test finds what those before it have left

_USERS = 300


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """Two replicas; the registry has a challenger."""
    home = tmp_path_factory.mktemp("home")
    save_policies(home, small_market()[1])
    config = ServiceConfig(policies={"linear_thompson": 1}, reward=RewardSpec(wait_s=2), home=str(home))
    save(untrained(small_market()[1], "rfm_bandit"), home / "challenger")
    register(config.settings, home / "challenger", "challenger")
    with service(config, replicas=2) as found:
        found.wait()
        yield found


def run(server: Running, *arguments: str) -> dict[str, Any]:
    """Run the command, as beside a service."""
    environment = {"RAYCOMMEND_HOME": str(server.home), "PYTHONPATH": ".", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-m", "serve.abtest", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ask(server: Running, n: int, **fields: Any) -> list[str]:
    """Ask for n users, one after the other, and report clicks; return the ids of the decisions."""
    ids = []
    for number in range(n):
        body = {"user_id": f"u{number}", "k": 3} | fields
        answer = server.client.post("/v1/recommend", json=body).json()
        report = {"decision_id": answer["decision_id"], "kind": "click", "item_id": answer["items"][0]["item_id"]}
        if number % 3 == 0:
            assert server.client.post("/v1/feedback", json=report).status_code == 200
        ids.append(answer["decision_id"])
    return ids


def read(server: Running, ids: list[str]) -> list[Decision]:
    store = Store.open(f"sqlite:///{server.home / 'store.db'}")
    try:
        found = store.decisions_by_id(ids)
    finally:
        store.close()
    return [found[one] for one in ids]


def followed(server: Running, test: str | None) -> bool:
    """Return whether all of several requests, whichever replicas answer, are exposures of a test, or of none."""
    return {one.abtest for one in read(server, ask(server, 12))} == {test}


def test_a_split_is_followed_without_a_restart_and_holds_its_shares(running: Running) -> None:
    variants = ["--variant", "old=linear_thompson,share=0.7", "--variant", "new=registry:challenger,share=0.3"]
    started = run(running, "start", "--name", "first", "--control", "old", *variants, "--why", "to see")
    assert started["waits_for"] == ["new"]
    wait_for(lambda: followed(running, "first"), 60)
    decisions = read(running, ask(running, _USERS))
    shares = Counter(one.variant for one in decisions)
    # Five standard deviations of so many users.
    assert shares["new"] / _USERS == pytest.approx(0.3, abs=5 * np.sqrt(0.3 * 0.7 / _USERS))
    assert {(one.variant, one.policy) for one in decisions} == {("old", "linear_thompson"), ("new", "first.new")}
    again = read(running, ask(running, 50))
    assert [one.variant for one in again] == [one.variant for one in decisions[:50]]
    shown = run(running, "show", "first")
    assert [change["action"] for change in shown["history"]] == ["start", "pin"]
    assert shown["results"] is not None
    assert running.client.get("/v1/abtests/first").json()["test"]["control"] == "old"


def test_a_variant_is_switched_off_and_the_test_stopped(running: Running) -> None:
    run(running, "off", "first", "new", "--why", "enough")
    wait_for(lambda: {one.variant for one in read(running, ask(running, 30))} == {"old"}, 20)
    run(running, "stop", "first")
    wait_for(lambda: followed(running, None), 20)
    assert {one.policy for one in read(running, ask(running, 20))} == {"linear_thompson"}


def test_an_apprentice_learns_unseen_what_the_control_shows(running: Running) -> None:
    body = {
        "name": "trainee",
        "kind": "apprentice",
        "control": "master",
        "variants": {"master": {"policy": "linear_thompson"}, "pupil": {"policy": "registry:challenger"}},
    }
    assert running.client.post("/v1/abtests", json=body).status_code == 201

    def shadows() -> list[Decision]:
        store = Store.open(f"sqlite:///{running.home / 'store.db'}")
        try:
            return [decision for _, decision in store.decisions(loop=SHADOW)]
        finally:
            store.close()

    wait_for(lambda: bool(ask(running, 10) and shadows()), 60)
    made = shadows()[-1]
    assert (made.abtest, made.variant, made.policy, made.mode) == ("trainee", "pupil", "trainee.pupil", "exploit")
    wait_for(lambda: running.client.get("/v1/abtests/trainee").json()["results"] is not None, 20)
    assert running.client.get("/v1/abtests/trainee").json()["results"]["over_time"]
    assert running.client.post("/v1/abtests/trainee/stop", json={"why": "seen"}).status_code == 200


def test_interleaving(running: Running) -> None:
    variants = {"old": {"policy": "linear_thompson"}, "new": {"policy": "registry:challenger"}}
    body = {"name": "mixed", "kind": "interleaving", "control": "old", "variants": variants, "training": "shared"}
    assert running.client.post("/v1/abtests", json=body).status_code == 201
    wait_for(lambda: followed(running, "mixed"), 60)
    for one in read(running, ask(running, 20)):
        assert (one.policy, {*one.teams}) == ("linear_thompson+mixed.new", {"linear_thompson", "mixed.new"})


def test_the_audit_makes_all_of_it_again(running: Running) -> None:
    settings, now = ServiceConfig(home=str(running.home)).settings, datetime.now(UTC)
    store = Store.open(settings.store_url)
    found = audit(store, settings, now - timedelta(days=1), now + timedelta(minutes=1))
    store.close()
    assert found.mismatches == []
    assert found.decisions == found.repeated > 400
    assert Path(settings.home, "archive").exists()
