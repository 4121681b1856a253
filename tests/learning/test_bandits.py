"""Bandits learn: probes with exact answers, the coffee machine through RLlib, and a learner broken on purpose.

A probe has contexts (±1, 1), drawn evenly, and three arms; its rewards have no noise.
"""

from collections.abc import Callable

import numpy as np
import pytest

from rl.algorithms.bandit.algorithm import BanditConfig
from rl.algorithms.bandit.learner import BanditLearner
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    PolicyConfig,
    RidgeConfig,
    build,
)
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.explorers import EpsilonGreedy, SquareCB
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query

ARMS, BATCH, STEPS = 3, 10, 60
Reward = Callable[[FloatArray, IntArray], FloatArray]
"""From contexts' signs [B] and the positions shown [B] to rewards [B]."""

POLICIES: list[PolicyConfig] = [
    RidgeConfig(models="per_item", noise_sd=1.0, explorer=EpsilonGreedy(epsilon=0.2)),
    RidgeConfig(models="per_item", noise_sd=1.0, explorer=SquareCB(gamma=20.0)),
    LinUCBConfig(models="per_item", noise_sd=1.0),
    LinearThompsonConfig(models="per_item", noise_sd=0.3),
    NeuralLinearConfig(
        head=LinearThompsonConfig(models="per_item", noise_sd=0.3), hidden=(8,), refresh_every=200, steps=100, batch=64
    ),
    RidgeConfig(models="per_item", explorer=SquareCB(gamma=20.0)),
    LinUCBConfig(models="per_item"),
    LinearThompsonConfig(models="per_item"),
    NeuralLinearConfig(hidden=(8,), refresh_every=200, steps=100, batch=64),
]
"""The first four are given noise and prior, so that what they expect can be reckoned; the last four learn both."""
each_policy = pytest.mark.parametrize("config", POLICIES, ids=lambda c: getattr(c, "explorer", c).kind)


def asked(signs: FloatArray) -> Query:
    n = len(signs)
    features = np.stack([signs, np.ones(n)], axis=1)[:, None, :]
    return Query(features, np.zeros(n, np.int64), np.tile(np.arange(1, ARMS + 1), (n, 1)), np.ones((n, ARMS), np.bool_))


def learn(config: PolicyConfig, reward: Reward, sign: float = 1.0) -> tuple[Policy, IntArray]:
    """Let a policy learn in a probe; returns it, and how often each arm was shown to either sign, [2, arms]."""
    policy, rng = build(config, 2, 1, np.zeros(ARMS + 1)), np.random.default_rng(0)
    shown = np.zeros((2, ARMS), dtype=np.int64)
    for _ in range(STEPS):
        signs = rng.choice([-1.0, 1.0], BATCH)
        query = asked(signs)
        slates = policy.decide(query, 1, rng)
        position = slates.positions[:, 0]
        np.add.at(shown, ((signs > 0).astype(int), position), 1)
        policy.update(Impressions.of_slates(query, slates, sign * reward(signs, position)[:, None]))
    return policy, shown


def constant(signs: FloatArray, shown: IntArray) -> FloatArray:
    return np.full(len(signs), 0.7)


def of_context(signs: FloatArray, shown: IntArray) -> FloatArray:
    return signs


def of_action(signs: FloatArray, shown: IntArray) -> FloatArray:
    return np.array([0.0, 1.0, 0.5])[shown]


def of_both(signs: FloatArray, shown: IntArray) -> FloatArray:
    """Arm 1 is right for -1, arm 3 for 1."""
    return np.equal(shown, np.where(signs > 0, 2, 0)).astype(np.float64)


def ridge_answer(shown: IntArray, reward: Reward) -> FloatArray:
    """Return what ridge regression with λ = 1 must expect of each sign and arm, [2, arms], from the counts alone."""
    answer = np.empty((2, ARMS))
    phi = np.array([[-1.0, 1.0], [1.0, 1.0]])
    for arm in range(ARMS):
        counts = shown[:, arm]
        A = np.eye(2) + (phi * counts[:, None]).T @ phi
        b = (reward(np.array([-1.0, 1.0]), np.array([arm, arm])) * counts) @ phi
        answer[:, arm] = phi @ np.linalg.solve(A, b)
    return answer


@pytest.mark.parametrize("reward", [constant, of_context, of_action, of_both])
@pytest.mark.parametrize("config", POLICIES[:4], ids=lambda c: c.explorer.kind)
def test_a_probe_is_learned_exactly(config: PolicyConfig, reward: Reward) -> None:
    policy, shown = learn(config, reward)
    expected = policy.expected(asked(np.array([-1.0, 1.0])))
    np.testing.assert_allclose(expected, ridge_answer(shown, reward), atol=1e-9)


@each_policy
def test_the_constant_reward_is_expected_of_what_was_shown(config: PolicyConfig) -> None:
    policy, shown = learn(config, constant)
    often = shown.min(axis=0) >= 40
    assert often.any()
    np.testing.assert_allclose(policy.expected(asked(np.array([-1.0, 1.0])))[:, often], 0.7, atol=0.03)


def finds_the_best(config: PolicyConfig, reward: Reward, best: tuple[int, int], sign: float = 1.0) -> bool:
    """Return whether the learned distribution has its mode at the best arm of both signs."""
    policy, _ = learn(config, reward, sign)
    p = policy.distribution(asked(np.array([-1.0, 1.0])), np.random.default_rng(0))
    return bool((p[[0, 1], best] > 0.8).all())


@each_policy
def test_the_best_action_is_found(config: PolicyConfig) -> None:
    assert finds_the_best(config, of_action, (1, 1))


@each_policy
def test_the_best_action_of_each_context_is_found(config: PolicyConfig) -> None:
    assert finds_the_best(config, of_both, (0, 2))


@each_policy
def test_a_learner_of_the_opposite_does_not_find_it(config: PolicyConfig) -> None:
    assert not finds_the_best(config, of_action, (1, 1), sign=-1.0)
    assert not finds_the_best(config, of_both, (0, 2), sign=-1.0)


class Opposite(BanditLearner):
    """Broken on purpose: it takes rewards for costs."""

    def update(self, *args: object, **kwargs: object) -> object:
        kwargs["training_data"].batch["default_policy"]["rewards"] *= -1  # type: ignore[attr-defined]
        return super().update(*args, **kwargs)  # type: ignore[arg-type]


def coffee_reward(learner: type[BanditLearner]) -> float:
    """Return the mean reward of 3,000 requests that were learned from through RLlib."""
    config = (
        BanditConfig()
        .environment("raycommend/Coffee-v0")
        .learners(learner_class=learner)
        .training(policy=LinearThompsonConfig(models="per_item", noise_sd=0.2, samples=20))
        .reporting(metrics_num_episodes_for_smoothing=3_000, min_sample_timesteps_per_iteration=3_000)
        .debugging(seed=1, log_level="ERROR")
    )
    algorithm = config.build_algo()
    reward = float(algorithm.train()["env_runners"]["episode_return_mean"])
    algorithm.stop()
    return reward


@pytest.mark.usefixtures("ray_local")
def test_coffee_is_learned_through_rllib() -> None:
    reward = coffee_reward(BanditLearner)
    print(f"mean reward: {reward:.3f}; random .25, best fixed .306, oracle 1")
    assert reward > 0.9


@pytest.mark.usefixtures("ray_local")
def test_coffee_is_not_learned_by_the_broken_learner() -> None:
    assert coffee_reward(Opposite) < 0.25
