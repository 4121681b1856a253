"""What is learned of noise and prior: against the marginal likelihood, and the same whatever rewards are counted in."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from rl.policies import (
    CrossedConfig,
    LinearThompsonConfig,
    LinUCBConfig,
    NeuralLinearConfig,
    PolicyConfig,
    RidgeConfig,
    build,
)
from rl.policies.linear.basis import Quadratic, RandomFourier
from rl.policies.linear.evidence import (
    _GRID,
    mean_and_spread,
    quadratic_forms,
    sizes,
)
from rl.policies.linear.linear import Linear
from rl.policies.linear.per_item import PerItem
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.errors import PolicyError
from rl.policy.explorers import Softmax, SquareCB, Votes
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query
from tests.support.described import COFFEES, asked

F, ITEMS = 3, 4


def seen(features: FloatArray, rewards: FloatArray, items: IntArray | int = 1) -> Impressions:
    n = len(rewards)
    return Impressions(features, np.zeros(n, dtype=np.int64), np.broadcast_to(items, n), rewards, np.ones(n))


def drawn(n: int, noise: float, size: float = 1.0) -> Impressions:
    """Rewards around 5 with weights of standard deviation `size` and noise."""
    rng = np.random.default_rng(3)
    phi = rng.standard_normal((n, 20))
    return seen(phi, 5 + phi @ (size * rng.standard_normal(20)) + noise * rng.standard_normal(n))


def test_log_determinants_and_quadratic_forms_are_those_of_each_ratio() -> None:
    rng = np.random.default_rng(0)
    for size in (1, 2, 5):
        x, z = rng.standard_normal((9, size)), rng.standard_normal((size, 2))
        log_det, inner = quadratic_forms(x.T @ x, z)
        for k, ratio in enumerate(_GRID):
            A = x.T @ x + ratio * np.eye(size)
            assert log_det[k] == pytest.approx(np.linalg.slogdet(A / ratio)[1], abs=1e-9)
            np.testing.assert_allclose(inner[k], z.T @ np.linalg.solve(A, z), rtol=1e-7)


@pytest.mark.parametrize(("noise", "size"), [(0.1, 1.0), (1.0, 1.0), (3.0, 0.5)])
def test_the_prior_is_where_the_evidence_is_largest(noise: float, size: float) -> None:
    """The marginal likelihood at the best m and σ² of each λ: of the rewards, and of one more that is √v from m; and a
    penalty of m's distance from their mean.
    """
    o = drawn(200, noise, size)
    policy = Linear(RidgeConfig(), 20)
    policy.update(o)
    prior = policy.prior
    assert prior.precision is not None
    scales = np.exp2(np.round(np.log2(sizes((o.features**2).sum(axis=0), (o.features**4).sum(axis=0)))))
    scaled = np.vstack([o.features / scales, np.zeros(20)])
    mean, ones, likelihoods, shifts = o.rewards.mean(), np.append(np.ones(200), 0.0), [], []
    for ratio in _GRID:
        K = np.eye(201) + scaled @ scaled.T / ratio
        solved = np.linalg.solve(K, ones)
        once = 1 / (1 + (scaled**2).sum() / 200 / ratio)
        shift = solved[:200] @ (o.rewards - mean) / (solved @ ones + once)
        relative = np.append(o.rewards - mean - shift, o.rewards.std())
        variance = float(relative @ np.linalg.solve(K, relative) + once * shift**2) / 201
        weak = -0.5 * (np.log2(ratio / ((scaled**2).sum() / 200)) / 4) ** 2 - once * shift**2 / (2 * variance)
        likelihoods.append(multivariate_normal(np.zeros(201), variance * K).logpdf(relative) + weak)
        shifts.append(shift)
    best = int(np.argmax(likelihoods))
    np.testing.assert_allclose(prior.precision, _GRID[best] * scales**2)
    of_prior = o.rewards.var() / 201  # one observation's worth of all the rewards' variance
    assert prior.noise_sd == pytest.approx(np.sqrt(noise**2 + of_prior), rel=0.15)
    assert prior.centre == pytest.approx(mean + shifts[best])
    assert prior.centre == pytest.approx(5, abs=4 * noise / np.sqrt(200))


def test_what_an_item_that_was_chosen_often_earns_is_not_what_a_new_one_is_taken_to_earn() -> None:
    """Two items earn 1 and 0, one was seen 100 times as often: (1 + 0 + .99) / 3, with the mean as a third item's."""
    policy = PerItem(LinearThompsonConfig(models="per_item"), 1, 3)
    items = np.array([1] * 1_000 + [2] * 10)
    policy.update(seen(np.ones((1_010, 1)), (items == 1).astype(np.float64), items))
    assert policy.prior.centre == pytest.approx(0.663, abs=0.005)


def test_the_noise_of_many_items_is_one() -> None:
    rng = np.random.default_rng(0)
    phi, items = rng.standard_normal((2_000, 4)), rng.integers(1, 11, size=2_000)
    weights = rng.standard_normal((11, 4))
    policy = PerItem(LinearThompsonConfig(models="per_item"), 4, 10)
    policy.update(seen(phi, (weights[items] * phi).sum(axis=1) + 0.4 * rng.standard_normal(2_000), items))
    assert policy.prior.noise_sd == pytest.approx(0.4, rel=0.05)


def test_a_feature_is_as_large_as_it_is_where_it_is_there() -> None:
    rare = np.zeros((1_000, 3))
    rare[:3, 0], rare[:, 1], rare[0, 2] = 1.0, 7.0, 0.0
    np.testing.assert_allclose(sizes((rare**2).sum(axis=0), (rare**4).sum(axis=0)), [1.0, 7.0, 1.0])


def test_rewards_that_are_alike_have_no_spread() -> None:
    assert mean_and_spread(0, 0, 0) == (0.0, 0.0)
    assert mean_and_spread(3, 3e6, 3e12) == (1e6, 0.0)
    np.testing.assert_allclose(mean_and_spread(2, 2002, 1000**2 + 1002**2), (1001.0, 1.0))


def test_the_unit_is_that_of_rewards_of_nought_and_one() -> None:
    policy = Linear(RidgeConfig(explorer=Softmax(temperature=0.2)), 1)
    policy.update(seen(np.ones((4, 1)), np.array([0.0, 1.0, 0.0, 1.0])))
    assert policy.explorer == Softmax(temperature=0.2)
    policy = Linear(RidgeConfig(explorer=SquareCB(gamma=50.0)), 1)
    policy.update(seen(np.ones((4, 1)), np.array([3.0, 13.0, 3.0, 13.0])))
    assert policy.explorer == SquareCB(gamma=5.0)
    assert Linear(RidgeConfig(noise_sd=2.0, explorer=SquareCB(gamma=50.0)), 1).explorer == SquareCB(gamma=50.0)


def test_what_is_given_of_noise_and_prior_is_not_learned() -> None:
    for config, noise, ratio in (
        (RidgeConfig(noise_sd=0.3), 0.3, 1.0),
        (RidgeConfig(regularisation=4.0), 1.0, 4.0),
        (RidgeConfig(noise_sd=0.3, regularisation=4.0), 0.3, 4.0),
    ):
        policy = Linear(config, 2)
        policy.update(seen(np.array([[1.0, 0.0]]), np.array([10.0])))
        assert policy.prior.noise_sd == noise
        np.testing.assert_allclose(policy.mean, [10 / (1 + ratio), 0.0])
        assert policy.state_dict().keys() == {"A", "b"}  # as it was saved before anything was learned


CONFIGS: list[PolicyConfig] = [
    LinearThompsonConfig(models="per_item"),
    LinearThompsonConfig(basis=Quadratic(), explorer=Votes(floor=0.0)),
    LinUCBConfig(models="per_item", basis=RandomFourier(n=8)),
    RidgeConfig(models="per_item", explorer=Softmax()),
    RidgeConfig(models="per_item", explorer=SquareCB()),
    NeuralLinearConfig(refresh_every=40, capacity=100, hidden=(6,), steps=30, batch=32),
    CrossedConfig(),
    CrossedConfig(explorer=SquareCB(), interactions=()),
    CrossedConfig(explorer=Softmax(), cell_sd=0.0),
]


def played(
    config: PolicyConfig, told: Callable[[float], float], steps: int = 120
) -> tuple[Policy, list[int], FloatArray]:
    """Play; returns the policy, the positions that it chose, and what it expected of every item at every step."""
    policy, rng = build(config, F, 1, np.zeros(ITEMS + 1)), np.random.default_rng(0)
    positions, expected = [], []
    for _ in range(steps):
        context, luck = rng.standard_normal(F), rng.random()
        if isinstance(config, CrossedConfig):
            query = asked(COFFEES, {"x": float(context[0]), "kind": f"k{int(4 * luck)}"})
        else:
            items = np.arange(1, ITEMS + 1)[None]
            query = Query(context[None, None], np.zeros(1, np.int64), items, np.ones((1, ITEMS), np.bool_))
            if getattr(config, "models", "per_item") == "shared":  # joint features
                query = replace(query, features=context * np.arange(1, ITEMS + 1)[None, :, None])
        slates = policy.decide(query, 1, rng)
        position = int(slates.positions[0, 0])
        reward = float(context[0] * (position == 1) + 0.5 * (position == 2) + 0.3 * luck > 0.4)
        expected.append(policy.expected(query)[0])
        positions.append(position)
        policy.update(Impressions.of_slates(query, slates, np.array([[told(reward)]])))
    return policy, positions, np.array(expected)


@pytest.mark.slow
@pytest.mark.parametrize(("times", "plus"), [(100.0, 0.0), (1.0, 1_000.0), (1e-3, -3.0), (7.0, 0.1)])
@pytest.mark.parametrize("config", CONFIGS, ids=lambda c: f"{c.kind}-{CONFIGS.index(c)}")
def test_decisions_are_the_same_whatever_rewards_are_measured_in(
    config: PolicyConfig, times: float, plus: float
) -> None:
    _, positions, expected = played(config, lambda reward: reward)
    _, same, other = played(config, lambda reward: times * reward + plus)
    assert same == positions
    np.testing.assert_allclose((other[1:] - plus) / times, expected[1:], atol=1e-6)


def test_a_given_noise_does_depend_on_it() -> None:
    config = LinearThompsonConfig(models="per_item", noise_sd=1.0)
    assert played(config, lambda reward: reward)[1] != played(config, lambda reward: 100 * reward)[1]


def test_a_correction_without_squares_is_refused() -> None:
    o = seen(np.ones((1, 1)), np.ones(1))
    with pytest.raises(PolicyError, match=r"a correction \(count 0\) needs squares"):
        Impressions(o.features, o.state, o.items, o.rewards, np.zeros(1))


def test_a_policy_that_was_saved_with_its_noise_is_as_it_was() -> None:
    """Saved before anything was learned: with noise and prior, or with the prior alone."""
    A, b = np.array([[[1.0]], [[3.0]]]), np.array([[0.0], [6.0]])
    query = Query(np.ones((1, 1, 1)), np.zeros(1, np.int64), np.ones((1, 1), np.int64), np.ones((1, 1), np.bool_))
    for saved in ({"noise_sd": 1.0, "regularisation": 1.0}, {"regularisation": 1.0}):
        policy = PerItem(RidgeConfig.model_validate({"models": "per_item", **saved}), 1, 1)
        policy.load_state_dict({"A": A, "b": b})
        np.testing.assert_allclose(policy.expected(query), [[2.0]])
