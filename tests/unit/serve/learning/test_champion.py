"""The served champion is the registry's: swapped when the alias moves, kept when what it names is bad."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch

from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Feedback
from data.settings import Settings
from rl.artefacts.artefact import Artefact, save
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import open_shelf
from rl.encoders.catalogue import CatalogueEncoder
from rl.policies import RandomConfig, TransformerConfig, build
from rl.policies.transformer.config import QNetworkConfig
from rl.policy.explorers import EpsilonGreedy
from rl.policy.queries import CLICK, IGNORED
from rl.promotions import promote, roll_back
from rl.registry import RegisteredPolicy, register, resolve_alias
from serve.audit.run import audit
from serve.config import Champion, ServiceConfig
from serve.decisions.health import Learning
from serve.decisions.served import Served
from serve.learning.loops import Loops
from serve.learning.plan import Plan
from serve.learning.plans import ConfiguredPlans
from tests.support.shops import DAY, small_market, untrained
from tests.support.visits import visit

pytestmark = pytest.mark.heavy  # MLflow takes seconds to import

NETWORK = TransformerConfig(network=QNetworkConfig(width=8), explorer=EpsilonGreedy(epsilon=0.2))
ITEMS = ("red", "green", "blue", "grey")


@pytest.fixture
def settings(tmp_path: Path, mlflow_tables: Path) -> Settings:
    shutil.copy(mlflow_tables, tmp_path)
    return Settings(home=tmp_path, store=None, archive=None)


def transformer(folder: Path, seed: int) -> Path:
    torch.manual_seed(seed)
    encoder = CatalogueEncoder(ITEMS)
    policy = build(NETWORK, 0, 1, encoder.popularity)
    with torch.no_grad():
        for weights in policy.network.parameters():  # type: ignore[attr-defined]
            weights.normal_(0, 0.3)
    save(Artefact(name=f"net{seed}", config=NETWORK, policy=policy, encoder=encoder, history=6), folder)
    return folder


def bandit(folder: Path) -> Path:
    save(untrained(small_market()[1], "linear_thompson"), folder)
    return folder


def loops(settings: Settings, store: Store) -> Loops:
    config = ServiceConfig(policies={}, champion=Champion(), reward=RewardSpec(wait_s=60))
    return Loops(store, settings, [ConfiguredPlans(config, settings, store)], lambda: datetime.now(UTC))


def spoil(settings: Settings, version: RegisteredPolicy) -> None:
    """Change what the registry holds of a version that was not fetched yet."""
    for path in (settings.home / "mlartifacts").rglob("policy.json"):
        if version.name in path.read_text():
            path.write_text(path.read_text().replace(version.name, "evil"))


def test_the_alias_decides_and_what_is_bad_is_refused(settings: Settings, store: Store, tmp_path: Path) -> None:
    first = register(settings, transformer(tmp_path / "a", 1), "champion")
    running = loops(settings, store)
    served = Served({"v1": {"champion": 1.0}})
    served.take(running.news(served.steps()))
    before = served.at("v1").decide(visit(served.at("v1"), "d0", datetime.now(UTC), 2, user_id="ann"))
    assert before.policy_version.startswith(first.digest)
    assert not running.refresh()

    second = register(settings, bandit(tmp_path / "b"))
    promote(settings, second, first, "run")
    assert running.refresh()
    served.take(running.news(served.steps()))
    after = served.at("v1").decide(visit(served.at("v1"), "d1", datetime.now(UTC), 2, user_id="ann"))
    assert after.policy_version.startswith(second.digest)
    assert not set(after.candidates) & set(ITEMS)

    bad = register(settings, transformer(tmp_path / "c", 2))
    spoil(settings, bad)
    promote(settings, bad, second, "run")
    assert not running.refresh()
    unchanged = served.at("v1").decide(visit(served.at("v1"), "d2", datetime.now(UTC), 2))
    assert unchanged.policy_version.startswith(second.digest)
    assert not open_shelf(settings).has(bad.digest)

    store.insert([before, after])
    again = loops(settings, store)  # restarted while the champion is bad: the last good one is served
    news = Served({"v1": {"champion": 1.0}})
    news.take(again.news({}))
    assert news.at("v1").digest("champion") == second.digest

    promote(settings, first, bad, "run")
    assert again.refresh()


def test_without_any_champion_it_says_what_to_do(settings: Settings, store: Store) -> None:
    with pytest.raises(ArtefactError, match=r"rl\.registry register FOLDER --alias champion"):
        loops(settings, store)


def test_a_transformer_reads_the_history_that_the_log_has(settings: Settings, store: Store, tmp_path: Path) -> None:
    register(settings, transformer(tmp_path / "a", 1), "champion")
    running = loops(settings, store)
    served = Served({"v1": {"champion": 1.0}})
    for n in range(40):
        served.take(running.news(served.steps()))
        decision = served.at("v1").decide(visit(served.at("v1"), f"d{n}", datetime.now(UTC), 2, user_id=f"u{n % 3}"))
        store.insert([decision])
        running.poll()
        if n % 2:
            store.insert([Feedback(feedback_id=f"f{n}", decision_id=decision.decision_id, kind="click")])
        running.poll()
    served.take(running.news(served.steps()))
    recommender = served.at("v1")
    assert recommender._histories is not None
    history = recommender._histories.encode(
        "u0", recommender.artefact("champion").encoder
    )  # the last, d39, has a click
    assert history.shape == (6, 3)
    shown = [served.at("v1").catalogue("champion").index(item) + 1 for item in store.decision("d39").slate]  # type: ignore[union-attr]
    assert history[-2:].tolist() == [[shown[0], CLICK, 1], [shown[1], IGNORED, 1]]
    assert history[:, 2].tolist() == [3, 3, 2, 2, 1, 1]

    cold = served.at("v1").decide(visit(served.at("v1"), "x", datetime.now(UTC), 2, user_id="nobody", mode="exploit"))
    scores = {
        n: served.at("v1").decide(visit(served.at("v1"), "x", datetime.now(UTC), 2, user_id=n, mode="exploit")).scores
        for n in ("u0", "u1")
    }
    assert len({cold.scores, *scores.values()}) == 3  # what a user did changes what they are shown
    now = datetime.now(UTC)
    version = audit(store, settings, now - DAY, now + DAY)
    assert (version.decisions, version.mismatches) == (40, [])


def test_random_policies_need_no_training(settings: Settings, store: Store, tmp_path: Path) -> None:
    encoder = CatalogueEncoder(ITEMS)
    policy = build(RandomConfig(), 0, 1, encoder.popularity)
    save(Artefact(name="random", config=RandomConfig(), policy=policy, encoder=encoder), tmp_path / "random")
    register(settings, tmp_path / "random", "champion")
    served = Served({"v1": {"champion": 1.0}})
    served.take(loops(settings, store).news({}))
    assert served.at("v1").decide(visit(served.at("v1"), "d", datetime.now(UTC), 1)).propensities == (0.25,)


def test_a_source_that_fails_does_not_stop_the_others(settings: Settings, store: Store, tmp_path: Path) -> None:
    first = register(settings, transformer(tmp_path / "a", 1), "champion")
    config = ServiceConfig(policies={}, champion=Champion(), reward=RewardSpec(wait_s=60))
    broken = False

    def other() -> list[Plan]:
        if broken:
            raise ArtefactError("something else")
        return []

    running = Loops(store, settings, [other, ConfiguredPlans(config, settings, store)], lambda: datetime.now(UTC))
    broken = True
    second = register(settings, bandit(tmp_path / "b"))
    promote(settings, second, first, "run")
    assert running.refresh()
    assert [loop.plan.policies["champion"] for loop in running.current.values()] == [second.digest] != [first.digest]


def test_who_was_promoted_by_force_is_in_the_health(settings: Settings, store: Store, tmp_path: Path) -> None:
    first = register(settings, transformer(tmp_path / "a", 1), "champion")
    running, served = loops(settings, store), Served({"v1": {"champion": 1.0}})
    learning = Learning(served, store, "r")
    served.hear(running.states())
    assert learning.reasons() == ["loop v1, objective default: no policy"]
    second = register(settings, bandit(tmp_path / "b"))
    promote(settings, second, first, "run", forced="the shop asked for it")
    assert running.refresh()
    served.take(running.news(served.steps()))
    served.hear(running.states())
    assert learning.reasons() == ["loop v1, objective default: champion was promoted by force: the shop asked for it"]
    assert roll_back(settings) == (2, 1)
    assert running.refresh()
    served.hear(running.states())
    assert learning.reasons() == []


def test_who_passes_the_gate_after_all_is_not_forced_any_more(settings: Settings, store: Store, tmp_path: Path) -> None:
    first = register(settings, transformer(tmp_path / "a", 1), "champion")
    second = register(settings, bandit(tmp_path / "b"))
    promote(settings, second, first, "run", forced="in a hurry")
    running = loops(settings, store)
    assert [state.forced for state in running.states()] == [{"champion": "in a hurry"}]
    now = resolve_alias(settings)
    assert now is not None
    promote(settings, now, now, "another run")
    assert not running.refresh()  # it is the same policy, and goes on
    assert [state.forced for state in running.states()] == [{}]
