"""Learning in the shop from 50,000 logged interactions alone: better than who made the log; broken learners are not.

The log is made by `Keeper`, epsilon-greedy: it goes on showing what was clicked, and has beliefs of what people like
that it never corrects. What it earns is about 7 a visit and 8.5 without exploring; the best that can be earned is 12.2.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rl.algorithms.offline.algorithm import OfflineQConfig
from rl.evaluation.returns import Returns, play
from rl.experience.checks import Columns
from rl.experience.collection import collect_transitions
from rl.experience.transitions import write
from rl.policy.arrays import FloatArray
from rl.policy.explorers import EpsilonGreedy
from rl.policy.interface import Policy
from rl.policy.queries import CLICK, ITEM, OUTCOME, Impressions, Query
from rl.simulators.shop.shop import PRODUCTS, Shop

pytestmark = pytest.mark.usefixtures("ray_local")

INTERACTIONS, EPISODES, EPSILON = 50_000, 4_000, 0.25


class Keeper(Policy):
    """Shows what has the most clicks for how often it was shown in this visit, counting its belief as one time more."""

    def __init__(self, beliefs: FloatArray, epsilon: float) -> None:
        self._beliefs = beliefs  # [10]
        self.explorer = EpsilonGreedy(epsilon=epsilon)

    def expected(self, query: Query) -> FloatArray:
        assert query.history is not None
        own = query.history[:, None, :, ITEM] == query.items[:, :, None]  # [B, A, T]
        clicks = (own & (query.history[:, None, :, OUTCOME] == CLICK)).sum(2)
        expected: FloatArray = (clicks + self._beliefs[query.items - 1]) / (own.sum(2) + 1)
        return expected

    def update(self, observations: Impressions) -> None: ...

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


@dataclass
class Log:
    """What was logged in one shop, and what was earned by who logged it."""

    columns: Columns
    behaviour: Returns
    greedy: Returns


@cache
def log(seed: int) -> Log:
    beliefs = 0.1 + 0.02 * np.random.default_rng(seed).permutation(PRODUCTS) / PRODUCTS
    keeper = Keeper(beliefs, EPSILON)
    columns = collect_transitions(keeper, Shop(100), INTERACTIONS, seed, np.random.default_rng(seed))
    return Log(columns, judged(keeper), judged(Keeper(beliefs, 0.0)))


def judged(policy: Policy) -> Returns:
    return play(policy, Shop(1000), EPISODES, seed=1_000, rng=np.random.default_rng(1))


def learned(folder: Path, columns: Columns, seed: int, passes: int = 2, **training: Any) -> Returns:
    """Return what the greedy policy earns that was learned from a table of these columns."""
    write(str(folder / "table.parquet"), columns)
    config = OfflineQConfig().offline_data(input_=str(folder / "table.parquet"))
    config.training(network={"layers": 0}, passes=passes, **training).debugging(seed=seed, log_level="ERROR")
    algorithm = config.build_algo()
    for _ in range(passes):
        algorithm.train()
    return judged(algorithm.policy)


def margin(better: Returns, worse: Returns) -> float:
    """Return by how many standard errors of the difference the one is above the other."""
    return float((better.mean - worse.mean) / np.hypot(better.standard_error, worse.standard_error))


def told(title: str, seed: int, returns: Returns) -> None:
    of_log = log(seed)
    print(
        f"seed {seed}: {title} {returns.mean:.3f} +- {returns.standard_error:.3f}, who made the log "
        f"{of_log.behaviour.mean:.3f} +- {of_log.behaviour.standard_error:.3f}, greedily {of_log.greedy.mean:.3f}"
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_conservative_q_learning_beats_who_made_the_log(tmp_path: Path, seed: int) -> None:
    returns = learned(tmp_path, log(seed).columns, seed)
    told("conservative Q", seed, returns)
    assert margin(returns, log(seed).behaviour) > 10
    assert margin(returns, log(seed).greedy) > 10
    assert returns.mean > 11


@pytest.mark.slow
def test_cloning_is_as_good_as_who_made_the_log(tmp_path: Path) -> None:
    returns = learned(tmp_path, log(0).columns, 0, method="cloning")
    told("cloning", 0, returns)
    assert margin(returns, log(0).behaviour) > 5  # it does not explore
    assert abs(returns.mean - log(0).greedy.mean) < 1


@pytest.mark.slow
def test_cloning_what_was_earned_beats_who_made_the_log(tmp_path: Path) -> None:
    returns = learned(tmp_path, log(0).columns, 0, passes=4, method="cloning", earned=True)
    told("cloning what was earned", 0, returns)
    assert margin(returns, log(0).greedy) > 5


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["rewards of the opposite sign", "rewards of other transitions"])
def test_a_learner_of_wrong_rewards_does_not(tmp_path: Path, broken: str) -> None:
    columns = dict(log(0).columns)
    opposite = broken == "rewards of the opposite sign"
    columns["rewards"] = -columns["rewards"] if opposite else np.random.default_rng(0).permutation(columns["rewards"])
    returns = learned(tmp_path, columns, 0, passes=1)
    told(broken, 0, returns)
    assert margin(returns, log(0).behaviour) < -5
