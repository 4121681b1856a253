"""A learner on another node goes on with what the first one had: log, archive and nothing else are shared."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from data.log.loops import begun_folds
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Feedback
from data.settings import Settings
from rl.artefacts.errors import ArtefactError
from rl.online.snapshots import SnapshotSettings
from serve.audit.run import audit
from serve.config import ServiceConfig
from serve.decisions.served import Served
from serve.learning.loops import Loops
from serve.learning.plans import ConfiguredPlans
from tests.support.objects import object_store
from tests.support.shops import save_policies, small_market
from tests.support.visits import visit

CONFIG = ServiceConfig(policies={"linear_thompson": 1.0}, reward=RewardSpec(wait_s=60), learn_from="all")


@pytest.fixture
def bucket() -> Iterator[str]:
    with object_store() as uri:
        yield uri


def node(home: Path, bucket: str) -> Settings:
    return Settings(home=home, store=None, archive=bucket)


def learner(settings: Settings, store: Store) -> Loops:
    sources = [ConfiguredPlans(CONFIG, settings, store)]
    return Loops(store, settings, sources, lambda: datetime.now(UTC), SnapshotSettings(every_s=1e-9))


def visits(loops: Loops, store: Store, name: str) -> None:
    served = Served({"v1": {"linear_thompson": 1.0}})
    for number in range(20):
        served.take(loops.news(served.steps()))
        recommender = served.at("v1")
        decision = recommender.decide(visit(recommender, f"{name}-{number}", datetime.now(UTC), 2, user_id="ann"))
        report = Feedback(feedback_id=decision.decision_id, decision_id=decision.decision_id, kind="click")
        store.insert([decision, report])
        loops.poll()
        loops.save()


@pytest.mark.slow
def test_it_begins_from_the_snapshot_and_the_policies_of_the_other(store: Store, tmp_path: Path, bucket: str) -> None:
    first, second = node(tmp_path / "first", bucket), node(tmp_path / "second", bucket)
    save_policies(first.home, small_market()[1])
    visits(learner(first, store), store, "first")
    elsewhere = learner(second, store)
    visits(elsewhere, store, "second")
    begun = begun_folds(store, "v1", "default")
    assert [bool(version.begins and "from" in version.begins) for version in begun] == [True, False]
    assert list(elsewhere.current["v1", "default"].plan.policies) == ["linear_thompson"]
    now = datetime.now(UTC)
    report = audit(store, second, now - timedelta(hours=1), now + timedelta(hours=1))
    assert (report.decisions, report.mismatches) == (40, [])


def test_what_was_never_served_must_be_in_the_home(store: Store, tmp_path: Path, bucket: str) -> None:
    with pytest.raises(ArtefactError, match="no policy in"):
        learner(node(tmp_path / "first", bucket), store)
