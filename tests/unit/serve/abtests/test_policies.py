"""What tests ask of the learner: policies of the registry, pinned to a version, and who learns from whom."""

import shutil
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.artefacts.artefact import save
from rl.registry import register, set_alias
from serve.abtests.changes import find_test, start, stop
from serve.abtests.specification import ABTest
from serve.config import ServiceConfig
from serve.learning.loops import Loops
from serve.learning.plans import ConfiguredPlans
from tests.support.shops import save_policies, small_market, untrained

pytestmark = pytest.mark.heavy  # MLflow takes seconds to import

CONFIG = ServiceConfig(policies={"linear_thompson": 1.0}, reward=RewardSpec(wait_s=60))


@pytest.fixture
def settings(tmp_path: Path, mlflow_tables: Path) -> Settings:
    shutil.copy(mlflow_tables, tmp_path)
    save_policies(tmp_path, small_market()[1])
    return Settings(home=tmp_path, store=None, archive=None)


def challenger(settings: Settings, name: str) -> int:
    folder = settings.home / "new" / name
    save(untrained(small_market()[1], name), folder)
    return register(settings, folder, "challenger").version


def ab(name: str = "t", **fields: Any) -> ABTest:
    variants = {"old": {"policy": "linear_thompson"}, "new": {"policy": "registry:challenger"}}
    return ABTest.model_validate({"name": name, "variants": variants, "control": "old"} | fields)


def test_a_variant_of_the_registry_is_served_while_its_test_runs(settings: Settings) -> None:
    with closing(Store.open(settings.store_url)) as store:
        loops = Loops(store, settings, [ConfiguredPlans(CONFIG, settings, store)], lambda: datetime.now(UTC))
        state = start(store, ab(), by="me")
        assert not loops.refresh()  # the registry has none yet: what is served goes on
        [fold] = loops.states()
        assert state.pinned == {}
        version = challenger(settings, "rfm_bandit")
        plans = ConfiguredPlans(CONFIG, settings, store)
        loops = Loops(store, settings, [plans], lambda: datetime.now(UTC))
        pinned = find_test(store, "t").pinned["new"]
        assert (pinned.version, [change.action for change in find_test(store, "t").history]) == (
            version,
            ["start", "pin"],
        )
        [fold] = loops.states()
        assert {*fold.policies} == {"linear_thompson", "t.new"}
        other = challenger(settings, "popularity")
        assert other != version
        set_alias(settings, "challenger", other)
        assert not loops.refresh()  # it stays what it was found to be
        by_digest = ab("again", variants=ab().model_dump()["variants"] | {"new": {"policy": f"shelf:{pinned.digest}"}})
        stop(store, "t", by="me")
        start(store, by_digest, by="me")
        assert loops.refresh()
        [fold] = loops.states()
        assert {*fold.policies} == {"linear_thompson", "again.new"}
        stop(store, "again", by="me")
        assert loops.refresh()
        [fold] = loops.states()
        assert {*fold.policies} == {"linear_thompson"}


@pytest.mark.parametrize(
    ("kind", "training", "learn_from", "said"),
    [
        ("split", "isolated", "own", {}),
        ("split", "shared", "all", {}),
        ("split", "shared", "own", {"shared": {"t": ("linear_thompson", "random")}}),
        ("interleaving", "isolated", "all", {"isolated": ("t",)}),
        ("shadow", "isolated", "own", {}),
    ],
)
def test_a_fold_is_told_of_a_test_what_it_does_not_do_anyway(
    settings: Settings, kind: str, training: str, learn_from: str, said: dict[str, Any]
) -> None:
    variants = {"old": {"policy": "linear_thompson"}, "new": {"policy": "random"}}
    config = CONFIG.model_copy(update={"learn_from": learn_from, "policies": {"linear_thompson": 1.0, "random": 0.0}})
    with closing(Store.open(settings.store_url)) as store:
        plans = ConfiguredPlans(config, settings, store)
        [before] = plans()
        start(store, ab(kind=kind, training=training, variants=variants), by="me")
        [during] = plans()
        assert during.spec.model_dump(include={"shared", "isolated", "imitates", "follows"}) == said
        assert (during == before) == (not said)
        stop(store, "t", by="me")
        assert plans() == [during]  # what it has taught stays taught


@pytest.mark.parametrize(("kind", "field"), [("apprentice", "imitates"), ("shadow", "follows")])
def test_who_is_in_the_shadow_learns_from_the_control(settings: Settings, kind: str, field: str) -> None:
    challenger(settings, "rfm_bandit")
    with closing(Store.open(settings.store_url)) as store:
        plans = ConfiguredPlans(CONFIG, settings, store)
        start(store, ab(kind=kind, training="shared"), by="me")
        [plan] = plans()
        assert getattr(plan.spec, field) == {"t.new": "linear_thompson"}
        stop(store, "t", by="me")
        [plan] = plans()
        assert getattr(plan.spec, field) == {}
