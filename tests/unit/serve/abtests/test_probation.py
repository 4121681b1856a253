"""A new champion on probation: the former one keeps a share, and comes back where the new one does worse."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from data.log.store import Store
from data.reward import RewardSpec
from data.settings import Settings
from rl.promotions import last_failure, promote
from rl.registry import RegistryError, register, resolve_alias, show
from serve.abtests.changes import list_tests, stop
from serve.abtests.state import ABTestState
from serve.abtests.watch import Watch
from serve.config import Champion, Probation, ServiceConfig
from serve.decisions.health import Learning
from serve.decisions.served import Served
from serve.learning.loops import Loops
from serve.learning.plans import ConfiguredPlans
from tests.support.clocks import Clock
from tests.support.gates import by_chance, learner
from tests.unit.serve.abtests.test_watch import expose

pytestmark = pytest.mark.heavy  # MLflow takes seconds to import


class Running:
    """A service's learner, with two registered policies of which the second was promoted."""

    def __init__(self, home: Path, store: Store, champion: Champion) -> None:
        self.settings, self.store = Settings(home=home, store=None, archive=None), store
        by_chance(home / "policies")
        learner(home / "policies")
        self.first = register(self.settings, home / "policies/chance", "champion")
        self.config = ServiceConfig(
            policies={}, champion=champion, reward=RewardSpec(weights={"click": 1.0}), home=str(home)
        )
        plans = ConfiguredPlans(self.config, self.settings, store)
        self.loops = Loops(store, self.settings, [plans], lambda: datetime.now(UTC))
        self.watch = Watch(store, self.config)
        self.watch.look()
        assert not list_tests(store)
        self.second = register(self.settings, home / "policies/learner")
        promote(self.settings, self.second, self.first, "run")

    def test(self) -> ABTestState:
        (state,) = list_tests(self.store).values()
        return state

    def champion(self) -> int:
        now = resolve_alias(self.settings)
        assert now is not None
        return now.version


@pytest.fixture
def running(tmp_path: Path, mlflow_tables: Path, store: Store) -> Running:
    shutil.copy(mlflow_tables, tmp_path)
    return Running(tmp_path, store, Champion())


def test_the_former_champion_keeps_a_share_until_the_new_one_is_through(running: Running, clock: Clock) -> None:
    running.watch.look()
    assert not list_tests(running.store)  # the new one does not answer yet
    assert running.loops.refresh()
    running.watch.look()
    test = running.test()
    assert test.started_by == "probation"
    assert test.shares == {"former": 0.1, "champion": 0.9}
    assert running.loops.refresh()  # the former one answers beside it
    (state,) = running.loops.states()
    assert set(state.policies) == {"champion", f"{test.test.name}.former"}
    plan = next(iter(running.loops.current.values())).plan
    assert plan.policies[f"{test.test.name}.former"] == running.first.digest
    assert plan.spec.follows == {f"{test.test.name}.former": "champion"}  # learns on as if it had stayed
    expose(
        running.store, clock, {"former": 110, "champion": 990}, {"former": 0.5, "champion": 0.6}, name=test.test.name
    )
    running.watch.look()
    assert running.champion() == 2
    assert str(running.test().history[-1].why).startswith("through: ")
    running.watch.look()
    assert len(list_tests(running.store)) == 1


def test_one_that_does_worse_is_taken_back_and_stays_so(running: Running, clock: Clock) -> None:
    running.loops.refresh()
    running.watch.look()
    running.loops.refresh()
    name = running.test().test.name
    expose(running.store, clock, {"former": 110, "champion": 990}, {"former": 0.6, "champion": 0.3}, name=name)
    running.watch.look()
    assert running.champion() == 1
    why = str(running.test().history[-1].why)
    assert why.startswith("rolled back: it earns -49.9% beside former")
    tags = {row["version"]: row for row in show(running.settings)["versions"]}
    assert tags[2]["failed_probation"] in why
    assert "rolled_back" in tags[2]
    assert running.loops.refresh()
    assert next(iter(running.loops.current.values())).plan.policies == {"champion": running.first.digest}
    served = Served({"v1": {"champion": 1.0}})
    learning = Learning(served, running.store, "r")
    served.take(running.loops.news(served.steps()))
    served.hear(running.loops.states())
    (reason,) = learning.reasons()
    assert reason.startswith("loop v1, objective default: champion: version 2 was rolled back: it earns -49.9%")

    running.watch.look()
    assert len(list_tests(running.store)) == 1  # version 1 was not promoted: it is on no probation
    again = resolve_alias(running.settings)
    assert again is not None
    with pytest.raises(RegistryError, match=r"version 2 was champion and was rolled back by itself: .* only --force"):
        promote(running.settings, running.second, again, "run")
    promote(running.settings, running.second, again, "run", forced="the shop asked for it")
    assert last_failure(running.settings) is None
    running.loops.refresh()
    running.watch.look()
    assert len(list_tests(running.store)) == 2 or running.champion() == 2


def test_a_champion_that_somebody_changed_ends_the_probation(running: Running) -> None:
    running.loops.refresh()
    running.watch.look()
    third = running.settings.home / "policies/third"
    by_chance(third.parent, "third")
    promote(running.settings, register(running.settings, third), running.second, "run")
    running.watch.look()
    assert running.test().history[-1].why == "the champion is another by now"


def test_without_a_probation_nothing_is_compared(tmp_path: Path, mlflow_tables: Path, store: Store) -> None:
    shutil.copy(mlflow_tables, tmp_path)
    running = Running(tmp_path, store, Champion(probation=None))
    running.loops.refresh()
    running.watch.look()
    assert not list_tests(store)


def test_a_probation_that_somebody_stops_is_over(running: Running) -> None:
    running.loops.refresh()
    running.watch.look()
    stop(running.store, running.test().test.name, by="me")
    running.watch.look()
    assert running.test().stopped_at is not None


def test_a_share_of_everybody_is_none() -> None:
    with pytest.raises(ValueError, match="less than 1"):
        Probation(share=1.0)
