"""Linear policies with a model for each item, and the bases: numbers by hand and against a second way to get them."""

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    RidgeConfig,
    build,
)
from rl.policies.linear.basis import Quadratic, RandomFourier
from rl.policies.linear.config import LinearConfig, Relevance
from rl.policies.linear.per_item import PerItem
from rl.policies.linear.posterior import Gaussian
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError
from rl.policy.explorers import EpsilonGreedy, Votes
from rl.policy.queries import DENSE, Impressions, Query

# By hand: with λ = 1, item 1's (1, 0) earning 1 and (1, 1) earning 2 give A = [[3, 1], [1, 2]] and b = (3, 2), so
# A⁻¹ = [[2, -1], [-1, 3]] / 5 and A⁻¹b = (4/5, 3/5). Item 2's (0, 1) earning 4 gives A = diag(1, 2) and A⁻¹b = (0, 2).


def by_hand(config: LinearConfig) -> PerItem:
    policy = PerItem(config, n_features=2, n_items=3)
    policy.update(seen([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [1, 2, 1], [1.0, 4.0, 2.0]))
    return policy


def seen(features: Any, items: list[int], rewards: list[float]) -> Impressions:
    n = len(items)
    return Impressions(np.array(features), np.zeros(n, dtype=np.int64), np.array(items), np.array(rewards), np.ones(n))


def ask(context: list[float], items: list[int]) -> Query:
    """One question about items, with features of the context alone."""
    shape = (1, len(items))
    return Query(np.array([[context]]), np.zeros(1, dtype=np.int64), np.array([items]), np.ones(shape, dtype=np.bool_))


def some(n: int = 300, f: int = 3, n_items: int = 4) -> Impressions:
    rng = np.random.default_rng(4)
    items, features = rng.integers(n_items + 1, size=n), rng.standard_normal((n, f))
    return Impressions(features, np.zeros(n, dtype=np.int64), items, rng.standard_normal(n) + items, np.ones(n))


def test_every_item_has_its_own_posterior() -> None:
    expected = by_hand(RidgeConfig(noise_sd=1.0)).expected(ask([1.0, 1.0], [2, 1, 3, 0]))
    np.testing.assert_allclose(expected, [[2.0, 7 / 5, 0.0, 0.0]])


def test_upper_bounds_by_hand() -> None:
    """Of (1, 1): √(3/5) with item 1, √(3/2) with item 2, √2 with the prior of items 3 and 0."""
    scores = by_hand(LinUCBConfig(alpha=2.0, noise_sd=1.0)).scores(
        ask([1.0, 1.0], [1, 2, 3, 0]), np.random.default_rng(0)
    )
    bounds = np.array([7 / 5, 2.0, 0.0, 0.0]) + 2 * np.sqrt([3 / 5, 3 / 2, 2.0, 2.0])
    np.testing.assert_allclose(scores, [[bounds]])


def test_joint_features_are_those_of_the_candidate() -> None:
    query = Query(
        np.array([[[1.0, 1.0], [2.0, 0.0]]]), np.zeros(1, dtype=np.int64), np.array([[1, 1]]), np.ones((1, 2), np.bool_)
    )
    np.testing.assert_allclose(by_hand(RidgeConfig(noise_sd=1.0)).expected(query), [[7 / 5, 8 / 5]])


@pytest.mark.parametrize("regularisation", [0.1, 1.0, 25.0])
def test_the_mean_is_that_of_scikit_learn_for_each_item(regularisation: float) -> None:
    observations, contexts = some(), np.random.default_rng(9).standard_normal((20, 3))
    policy = PerItem(RidgeConfig(regularisation=regularisation), 3, 4)
    policy.update(observations)
    for item in range(1, 5):
        of_item = observations.items == item
        model = Ridge(alpha=regularisation, fit_intercept=False)
        model.fit(observations.features[of_item], observations.rewards[of_item])
        expected = [policy.expected(ask(context.tolist(), [item]))[0, 0] for context in contexts]
        np.testing.assert_allclose(expected, model.predict(contexts), rtol=1e-9)


def test_thompson_samples_have_each_items_moments() -> None:
    """100,000 samples; tolerance four standard errors of each mean and variance."""
    n = 100_000
    policy = by_hand(LinearThompsonConfig(noise_sd=0.5, samples=n))
    samples = policy.scores(ask([1.0, 1.0], [1, 2, 3, 0]), np.random.default_rng(3))[0]  # [S, A]
    means, variances = np.array([7 / 5, 2, 0, 0]), 0.25 * np.array([3 / 5, 3 / 2, 2, 2])
    assert (np.abs(samples.mean(axis=0) - means) <= 4 * np.sqrt(variances / n)).all()
    assert (np.abs(samples.var(axis=0) - variances) <= 4 * variances * np.sqrt(2 / n)).all()
    correlation = np.corrcoef(samples.T) - np.eye(4)
    assert np.abs(correlation).max() <= 4 / np.sqrt(n)  # models of different items are independent


def test_unknown_and_new_items_have_the_prior() -> None:
    policy = by_hand(LinearThompsonConfig(noise_sd=1.0, samples=20_000))
    before = policy.state_dict()
    policy.update(seen([[1.0, 0.0]] * 9, [0] * 9, [100.0] * 9))
    for name, array in policy.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
    query = ask([3.0, 4.0], [3, 0])
    assert policy.expected(query).tolist() == [[0.0, 0.0]]
    deviations = policy.scores(query, np.random.default_rng(0)).std(axis=1)
    np.testing.assert_allclose(deviations, 5.0, rtol=0.03)  # |φ| / √λ


def test_all_samples_of_a_call_are_shared_by_its_questions() -> None:
    query = Query(np.ones((2, 1, 2)), np.zeros(2, np.int64), np.array([[1, 2], [2, 1]]), np.ones((2, 2), np.bool_))
    scores = by_hand(LinearThompsonConfig(samples=50, noise_sd=1.0)).scores(query, np.random.default_rng(0))
    np.testing.assert_array_equal(scores[0, :, 0], scores[1, :, 1])
    np.testing.assert_array_equal(scores[0, :, 1], scores[1, :, 0])


def test_the_votes_are_the_chances_to_be_best() -> None:
    """Items 1 and 2 at (1, 1) differ by N(-3/5, σ²(3/5 + 3/2)): item 1 wins with Φ(-.6 / √2.1) = .3394."""
    policy = by_hand(LinearThompsonConfig(noise_sd=1.0, samples=100_000, explorer=Votes(floor=0.0)))
    p = policy.distribution(ask([1.0, 1.0], [1, 2]), np.random.default_rng(0))
    np.testing.assert_allclose(p, [[0.3394, 0.6606]], atol=0.006)


def test_merged_deltas_are_the_updates_of_one() -> None:
    """Statistics of the same observations, split over several learners and added up."""
    config, observations = RidgeConfig(models="per_item", basis=RandomFourier(n=16)), some()
    whole = PerItem(config, 3, 4)
    prior = whole.state_dict()
    whole.update(observations)
    for n in (1, 2, 4):
        merged = dict(prior)
        for number in range(n):
            learner = PerItem(config, 3, 4)
            learner.update(Impressions(**{name: getattr(observations, name)[number::n] for name in DENSE}))
            merged = {name: sums + learner.state_dict()[name] - prior[name] for name, sums in merged.items()}
        for name, array in whole.state_dict().items():
            np.testing.assert_allclose(merged[name], array, rtol=0, atol=1e-9)


def test_a_deep_copy_learns_by_itself() -> None:
    """The service keeps copies of policies that go on learning."""
    policy = by_hand(RidgeConfig(noise_sd=1.0))
    copy = deepcopy(policy)
    copy.update(seen([[1.0, 0.0]], [3], [8.0]))
    query = ask([1.0, 0.0], [3])
    assert copy.expected(query)[0, 0] == pytest.approx(4.0)
    assert copy.state_dict()["b"][3].tolist() == [8.0, 0.0]
    assert policy.expected(query)[0, 0] == 0.0


def test_what_is_no_precision_is_refused() -> None:
    saved = by_hand(RidgeConfig(noise_sd=1.0)).state_dict()
    saved["A"][2] = [[1.0, 2.0], [2.0, 1.0]]
    with pytest.raises(PolicyError, match=r"'A'.*not positive definite for item 2"):
        PerItem(RidgeConfig(noise_sd=1.0), 2, 3).load_state_dict(saved)


def test_one_shared_model_takes_features_of_the_context_alone() -> None:
    """It then tells no items apart, and says so by equal scores."""
    policy = build(LinUCBConfig(noise_sd=1.0, explorer=EpsilonGreedy(epsilon=0.0)), 2, 1, np.zeros(4))
    policy.update(seen([[1.0, 0.0]], [1], [1.0]))
    query = ask([1.0, 0.0], [1, 2, 3])
    np.testing.assert_allclose(policy.expected(query), [[0.5, 0.5, 0.5]])
    np.testing.assert_allclose(policy.distribution(query, np.random.default_rng(0)), [[1 / 3, 1 / 3, 1 / 3]])


# Bases


def test_quadratic_by_hand() -> None:
    np.testing.assert_allclose(Quadratic()(np.array([[2.0, 3.0]])), [[2.0, 3.0, 4.0, 6.0, 9.0]])
    assert Quadratic().size(2) == 5


@pytest.mark.parametrize("also", ["nothing", "linear", "quadratic"])
def test_the_size_is_that_of_the_features(also: Any) -> None:
    basis = RandomFourier(n=10, also=also)
    assert basis(np.ones((5, 2, 3))).shape == (5, 2, basis.size(3))
    assert basis.size(3) == 10 + {"nothing": 0, "linear": 3, "quadratic": 9}[also]


def test_random_fourier_features_approximate_the_kernel() -> None:
    """20,000 cosines; the standard error of a product is at most √(1 / n)."""
    rng, n = np.random.default_rng(0), 20_000
    x, y = rng.standard_normal((2, 15, 2))
    basis = RandomFourier(n=n, length_scale=0.7, also="nothing")
    products = basis(x) @ basis(y).T
    squared: FloatArray = ((x[:, None] - y) ** 2).sum(axis=2)
    np.testing.assert_allclose(products, np.exp(-squared / (2 * 0.7**2)), atol=4 / np.sqrt(n))


def test_a_basis_is_its_configuration() -> None:
    x = np.random.default_rng(0).standard_normal((4, 3))
    np.testing.assert_array_equal(RandomFourier(seed=3)(x), RandomFourier(seed=3)(x))
    assert (RandomFourier(seed=3)(x) != RandomFourier(seed=4)(x)).any()


def test_far_outliers_are_squashed() -> None:
    x = np.array([[1e6], [-1e6]])
    np.testing.assert_allclose(RandomFourier(n=4, squash=2.0)(x)[:, 0], np.arcsinh(2 * x[:, 0]))


# Relevance


def test_relevance_by_hand() -> None:
    """One weight, λ = 1, σ = 2, a = 1/2, one round: with Σφ² = 3 and Σrφ = 8, A = 4, the mean is 2 and v = 1/4.

    Then γ = 3/4, μ = (3/4 + 1) / (2²/2² + 1) = 7/8, the weight's λ = (1 + 1) / (1 + 1/4 + 8/7) = 56/67, A' = 257/67 and
    the mean is 536/257.
    """
    model = Gaussian.prior(1, 1.0, Relevance(noise_sd=2.0, shape=0.5, rounds=1))
    model.add(np.ones((3, 1)), np.array([8 / 3] * 3), np.ones(3))
    lower, mean = model.solve()
    assert lower[0, 0] ** 2 == pytest.approx(257 / 67)
    assert mean[0] == pytest.approx(536 / 257)
    assert model.A.tolist() == [[4.0]]  # the sums are what they would be without it


def test_relevance_equals_the_formulas_of_the_papers() -> None:
    rng = np.random.default_rng(0)
    phi, sd, a, prior = rng.standard_normal((60, 5)), 0.7, 0.1, 0.5  # precisions here in units of 1 / reward²
    rewards = phi @ np.array([2.0, 0, 0, -1.0, 0]) + sd * rng.standard_normal(60)
    model = Gaussian.prior(5, prior * sd**2, Relevance(noise_sd=sd, shape=a, rounds=6))
    model.add(phi, rewards, np.ones(60))
    alpha = np.full(5, prior)
    for number in range(7):
        covariance = np.linalg.inv(np.diag(alpha) + phi.T @ phi / sd**2)
        mean = covariance @ phi.T @ rewards / sd**2
        gamma = 1 - alpha * np.diag(covariance)
        shared = (gamma.sum() + 2 * a) / ((mean**2).sum() + 2 * a / prior)
        if number < 6:
            alpha = (1 + 2 * a) / (mean**2 + np.diag(covariance) + 2 * a / shared)
    np.testing.assert_allclose(model.solve()[1], mean, rtol=1e-9)
    np.testing.assert_allclose(sd * model.deviation(np.eye(5)), np.sqrt(np.diag(covariance)), rtol=1e-9)


def test_weights_of_a_group_share_a_precision_by_hand() -> None:
    """λ = 1, σ = 1, a = 1/2, one round; the first two of three weights are a group, only the first is seen.

    Once with r = 4: A = diag(2, 1, 1), means 2, 0, 0, v = 1/2, 1, 1, γ = 1/2, 0, 0, so μ = (1/2 + 1) / (4 + 1) = 3/10.
    The group's λ = (2 + 1) / (4 + 1/2 + 1 + 10/3) = 18/53, the third weight's 2 / (1 + 10/3) = 6/13.
    """
    model = Gaussian.prior(3, 1.0, Relevance(shape=0.5, rounds=1, groups=(0, 0, 1)))
    model.add(np.eye(3)[:1], np.array([4.0]), np.ones(1))
    np.testing.assert_allclose(np.diag(model.solve()[0]) ** 2, [1 + 18 / 53, 18 / 53, 6 / 13])


def test_groups_of_one_are_no_groups() -> None:
    rng = np.random.default_rng(0)
    phi, rewards = rng.standard_normal((20, 4)), rng.standard_normal(20)
    means = []
    for groups in ((), (0, 1, 2, 3)):
        model = Gaussian.prior(4, 1.0, Relevance(groups=groups))
        model.add(phi, rewards, np.ones(20))
        means.append(model.solve()[1])
    np.testing.assert_array_equal(means[0], means[1])


def test_groups_of_other_features_are_refused() -> None:
    with pytest.raises(PolicyError, match=r"relevance.groups are of 2 weights, the model has 3"):
        Gaussian.prior(3, 1.0, Relevance(groups=(0, 1)))


def test_an_item_that_never_earns_is_soon_known_all_over() -> None:
    """After 20 contexts without reward the bound of a new context is below half of what it is without relevance."""
    phi = np.random.default_rng(0).standard_normal((21, 40))
    bounds = []
    for relevance in (None, Relevance()):
        model = Gaussian.prior(40, 1.0, relevance)
        model.add(phi[:20], np.zeros(20), np.ones(20))
        bounds.append(model.deviation(phi[20:])[0])
    assert bounds[1] < bounds[0] / 2


def test_relevance_finds_the_few_features_that_matter() -> None:
    """Of 40 features 2 matter: its error is at most half of ridge regression's from 40 observations."""
    rng = np.random.default_rng(1)
    phi, truth = rng.standard_normal((40, 40)), np.zeros(40)
    truth[[3, 17]] = 3.0, -2.0
    rewards = phi @ truth + 0.5 * rng.standard_normal(40)
    errors = []
    for relevance in (None, Relevance(noise_sd=0.5, shape=0.01, rounds=20)):
        model = Gaussian.prior(40, 0.25, relevance)
        model.add(phi, rewards, np.ones(40))
        errors.append(float(np.linalg.norm(model.solve()[1] - truth)))
    assert errors[1] < 0.5 * errors[0]
