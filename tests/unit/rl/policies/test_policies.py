"""What every policy keeps beside the promises of `rl.policy.conformance`, and the numbers of each by a second way."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from data.features.rfm import N_STATES, STATES_PER_SEGMENT
from rl.policies import (
    LinearThompsonConfig,
    LinUCBConfig,
    PolicyConfig,
    PopularityConfig,
    RandomConfig,
    RFMBanditConfig,
    RidgeConfig,
)
from rl.policies.linear.config import LinearConfig
from rl.policies.linear.linear import Linear
from rl.policies.rfm.policy import RFMBandit
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError
from rl.policy.interface import Policy
from rl.policy.queries import DENSE, Impressions, Query
from tests.support.policies import CONFIGS, F, N, name_of, untrained

each_policy = pytest.mark.parametrize("config", CONFIGS, ids=name_of)


def trained(config: PolicyConfig) -> Policy:
    policy = untrained(config)
    policy.update(observed())
    return policy


def observed(n: int = 200) -> Impressions:
    """Rewards 0, 1 and 5 of items 0 (unknown) to N in a few states."""
    rng = np.random.default_rng(5)
    return Impressions(
        features=rng.standard_normal((n, F)),
        state=rng.choice([3, 170, 171, 400, N_STATES - 1], n),
        items=rng.integers(N + 1, size=n),
        rewards=rng.choice([0.0, 1.0, 5.0], n),
        counts=np.ones(n),
    )


def part(observations: Impressions, rows: NDArray[np.int64] | slice) -> Impressions:
    return Impressions(**{name: getattr(observations, name)[rows] for name in DENSE})


def asked() -> Query:
    """40 questions with 3 to N candidates; every fifth by a stranger, unknown items among the candidates."""
    rng = np.random.default_rng(6)
    mask = rng.random((40, N)) < 0.7
    mask[:, :3] = True
    items = rng.integers(N + 1, size=(40, N))
    items[:5, 1] = 0
    state = rng.choice([3, 170, 400, 500], 40)
    state[::5] = 3
    features = rng.standard_normal((40, N, F))
    features[::5] = 0.0
    return Query(features, state, items, mask)


def same_state(one: Policy, other: Policy) -> None:
    """What was learned is the same, and so is what is derived from it. Kept observations lie in the order they came."""
    assert one.state_dict().keys() == other.state_dict().keys()
    for name in one.state_dict().keys() - {"memory", "seen"}:
        array = one.state_dict()[name]
        np.testing.assert_allclose(other.state_dict()[name], array, rtol=0, atol=1e-9)
    np.testing.assert_allclose(other.expected(asked()), one.expected(asked()), rtol=0, atol=1e-9)


@each_policy
def test_another_seed_gives_other_slates(config: PolicyConfig) -> None:
    policy = trained(config)
    one, other = (policy.decide(asked(), 3, np.random.default_rng(seed)) for seed in (7, 8))
    if config.kind != "popularity":  # leaves nothing to chance
        assert (one.positions != other.positions).any()


@each_policy
def test_too_long_a_slate_is_refused(config: PolicyConfig) -> None:
    mask = np.ones((40, N), dtype=np.bool_)
    mask[17, 2:] = False
    query = asked()
    with pytest.raises(PolicyError, match="got k=5 with 2 candidates"):
        untrained(config).decide(Query(query.features, query.state, query.items, mask), 5, np.random.default_rng(0))


def test_an_empty_slate_is_refused() -> None:
    with pytest.raises(PolicyError, match="got k=0 with 3 candidates"):
        untrained(RandomConfig()).decide(asked(), 0, np.random.default_rng(0))


@pytest.mark.heavy
@each_policy
@pytest.mark.parametrize("rows", [200, 7, 1])
def test_learning_at_once_or_in_parts_is_the_same(config: PolicyConfig, rows: int) -> None:
    parts = untrained(config)
    query = asked()
    few = query.rows(slice(0, 6))
    for start in range(0, 200, rows):
        parts.update(part(observed(), slice(start, start + rows)))
        parts.expected(few)  # an answer in between changes nothing
    same_state(trained(config), parts)


@each_policy
def test_learning_in_another_order_is_the_same(config: PolicyConfig) -> None:
    shuffled = untrained(config)
    shuffled.update(part(observed(), np.random.default_rng(1).permutation(200)))
    same_state(trained(config), shuffled)


@each_policy
def test_a_correction_is_as_if_the_final_reward_had_been_seen(config: PolicyConfig) -> None:
    final = observed()
    first = np.where(final.rewards == 5, 1.0, final.rewards)  # the purchases were clicks at first
    corrected = untrained(config)
    corrected.update(Impressions(final.features, final.state, final.items, first, final.counts))
    later = np.flatnonzero(final.rewards == 5)
    squares = final.rewards**2 - first**2
    difference = replace(final, rewards=final.rewards - first, counts=0 * final.counts, squares=squares)
    corrected.update(part(difference, later))
    same_state(trained(config), corrected)


@pytest.mark.heavy
@each_policy
def test_wrong_arrays_are_refused(config: PolicyConfig) -> None:
    saved = trained(config).state_dict()
    for name, array in saved.items():
        broken = array.copy()
        broken.flat[-1] = np.nan
        for wrong, message in (
            ({key: value for key, value in saved.items() if key != name}, f"no array '{name}'"),
            (saved | {name: array[:-1]}, rf"'{name}'.*has shape .*needs \({len(array)},"),
            (saved | {name: broken}, f"'{name}'.*not finite"),
        ):
            with pytest.raises(PolicyError, match=message):
                untrained(config).load_state_dict(wrong)


def test_concatenated_observations_keep_their_order() -> None:
    whole = observed()
    joined = Impressions.concatenate([part(whole, slice(50)), part(whole, slice(50, 51)), part(whole, slice(51, None))])
    for name in DENSE:
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))


def test_observations_of_slates() -> None:
    query = asked()
    slates = untrained(RandomConfig()).decide(query, 2, np.random.default_rng(0))
    observations = Impressions.of_slates(query, slates, np.arange(80.0).reshape(40, 2))
    assert len(observations) == 80
    for row in range(80):
        visit, slot = divmod(row, 2)
        position = slates.positions[visit, slot]
        np.testing.assert_array_equal(observations.features[row], query.features[visit, position])
        assert observations.items[row] == query.items[visit, position]
        assert observations.state[row] == query.state[visit]
        assert observations.rewards[row] == row
    assert observations.counts.tolist() == [1.0] * 80


# Popularity


def test_popularity_shows_what_sold_most() -> None:
    query = Query(np.zeros((1, N, F)), np.array([3]), np.arange(1, N + 1)[None], np.ones((1, N), dtype=np.bool_))
    slates = untrained(PopularityConfig()).decide(query, 4, np.random.default_rng(0))
    assert slates.positions.tolist() == [[1, 4, 3, 0]]  # 9, 7, 4 and 3 sold
    assert slates.propensities.tolist() == [[1.0] * 4]


# Linear policies. By hand: with λ = 1, (1, 0) earning 1 and (1, 1) earning 2 give A = [[3, 1], [1, 2]] and b = (3, 2),
# so A⁻¹ = [[2, -1], [-1, 3]] / 5 and A⁻¹b = (4/5, 3/5).


def by_hand(config: LinearConfig) -> Linear:
    policy = Linear(config, 2)
    policy.update(seen([[1.0, 0.0], [1.0, 1.0]], [1.0, 2.0]))
    return policy


def seen(features: list[list[float]], rewards: list[float]) -> Impressions:
    n = len(rewards)
    zeros = np.zeros(n, dtype=np.int64)
    return Impressions(np.array(features), zeros, zeros, np.array(rewards), np.ones(n))


def about(features: Any) -> Query:
    """One question with the given joint features [A, F]."""
    phi = np.array([features], dtype=np.float64)
    shape = phi.shape[:2]
    return Query(phi, np.zeros(1, dtype=np.int64), np.ones(shape, dtype=np.int64), np.ones(shape, dtype=np.bool_))


def covariance(policy: Linear, size: int) -> FloatArray:
    """A⁻¹ from deviations: that of φ is √(φᵀA⁻¹φ)."""

    def squares(phi: FloatArray) -> FloatArray:
        found: FloatArray = policy.deviation(about(phi))[0] ** 2
        return found

    units = np.eye(size)
    sums = squares((units[:, None] + units).reshape(-1, size)).reshape(size, size)
    covariances: FloatArray = (sums - squares(units)[:, None] - squares(units)) / 2
    return covariances


def test_linear_posterior_by_hand() -> None:
    policy = by_hand(RidgeConfig(noise_sd=1.0))
    np.testing.assert_allclose(policy.mean, [4 / 5, 3 / 5])
    np.testing.assert_allclose(covariance(policy, 2), [[2 / 5, -1 / 5], [-1 / 5, 3 / 5]])
    np.testing.assert_allclose(policy.expected(about([[1, 0], [0, 2], [1, 1]])), [[4 / 5, 6 / 5, 7 / 5]])


@pytest.mark.parametrize("regularisation", [0.1, 1.0, 25.0])
def test_linear_posterior_equals_the_direct_computation(regularisation: float) -> None:
    observations = observed()
    policy = Linear(RidgeConfig(regularisation=regularisation), F)
    policy.update(observations)
    precision = regularisation * np.eye(F)
    weighted = np.zeros(F)
    for phi, reward in zip(observations.features, observations.rewards, strict=True):
        precision += np.outer(phi, phi)
        weighted += reward * phi
    np.testing.assert_allclose(covariance(policy, F), np.linalg.inv(precision), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(policy.mean, np.linalg.solve(precision, weighted), rtol=1e-9)


def test_upper_bounds_by_hand() -> None:
    """The deviations √(φᵀA⁻¹φ) of (1, 0), (0, 2), (1, 1) and (0, 0) are √(2/5), 2√(3/5), √(3/5) and 0."""
    scores = by_hand(LinUCBConfig(alpha=3.0, noise_sd=1.0)).scores(
        about([[1, 0], [0, 2], [1, 1], [0, 0]]), np.random.default_rng(0)
    )
    deviations = np.array([np.sqrt(2 / 5), 2 * np.sqrt(3 / 5), np.sqrt(3 / 5), 0])
    np.testing.assert_allclose(scores, [[np.array([4 / 5, 6 / 5, 7 / 5, 0]) + 3 * deviations]])


def test_upper_bounds_equal_the_direct_computation() -> None:
    policy = trained(LinUCBConfig(alpha=0.7, noise_sd=1.0))
    assert isinstance(policy, Linear)
    query = asked()
    inverse = np.linalg.inv(policy.state_dict()["A"])
    bonus = 0.7 * np.sqrt(np.einsum("baf,fg,bag->ba", query.features, inverse, query.features))
    scores = policy.scores(query, np.random.default_rng(0))
    np.testing.assert_allclose(scores, (policy.expected(query) + bonus)[:, None, :], rtol=1e-9)


def test_thompson_samples_have_the_posteriors_moments() -> None:
    """100,000 samples; tolerance four standard errors of each mean and covariance."""
    n, noise_sd = 100_000, 0.5
    policy = by_hand(LinearThompsonConfig(noise_sd=noise_sd, samples=n))
    samples = policy.scores(about(np.eye(2)), np.random.default_rng(3))[0]  # of φ = (1, 0) and (0, 1): the weights
    covariance = noise_sd**2 * np.array([[2, -1], [-1, 3]]) / 5
    variances = np.diag(covariance)
    assert samples.shape == (n, 2)
    assert (np.abs(samples.mean(axis=0) - [4 / 5, 3 / 5]) <= 4 * np.sqrt(variances / n)).all()
    errors = np.sqrt((np.outer(variances, variances) + covariance**2) / n)
    assert (np.abs(np.cov(samples.T) - covariance) <= 4 * errors).all()


def test_thompson_samples_are_of_weights_not_of_scores() -> None:
    """One sample of the weights scores all candidates of all questions: sums of features have sums of scores."""
    policy = by_hand(LinearThompsonConfig(samples=50, noise_sd=1.0))
    scores = policy.scores(about([[1, 0], [0, 1], [2, 3]]), np.random.default_rng(0))[0]  # [S, A]
    np.testing.assert_allclose(scores[:, 2], 2 * scores[:, 0] + 3 * scores[:, 1])
    assert scores[:, 0].std() > 0.1


# The RFM bandit. By hand, with shrinkage 2: item 1 earned 5, 5 in state a, 0, 0 in b and 1, 1, 1, 1 in c; item 2
# earned 0, 0 in c. States a and b are of segment 1, c is of segment 2. All in all 14 in 10 observations.

A, B, C = 1 * STATES_PER_SEGMENT, 1 * STATES_PER_SEGMENT + 9, 2 * STATES_PER_SEGMENT + 100
NEVER_IN_1, NEVER_IN_2, NEVER_IN_3 = A + 1, C + 1, 3 * STATES_PER_SEGMENT
EVERYONE = [(14 + 2 * 1.4) / (8 + 2), (0 + 2 * 1.4) / (2 + 2), 1.4]  # of items 1, 2 and 3
SEGMENT_1 = [(10 + 2 * EVERYONE[0]) / (4 + 2), EVERYONE[1], 1.4]
SEGMENT_2 = [(4 + 2 * EVERYONE[0]) / (4 + 2), (0 + 2 * EVERYONE[1]) / (2 + 2), 1.4]
VALUES = {
    A: [(10 + 2 * SEGMENT_1[0]) / (2 + 2), SEGMENT_1[1], 1.4],
    B: [(0 + 2 * SEGMENT_1[0]) / (2 + 2), SEGMENT_1[1], 1.4],
    C: [(4 + 2 * SEGMENT_2[0]) / (4 + 2), (0 + 2 * SEGMENT_2[1]) / (2 + 2), 1.4],
    NEVER_IN_1: SEGMENT_1,
    NEVER_IN_2: SEGMENT_2,
    NEVER_IN_3: EVERYONE,
}


def table(rows: list[tuple[int, int, float]]) -> Impressions:
    """Impressions of (state, item, reward) each."""
    state, items, rewards = zip(*rows, strict=True)
    n = len(rows)
    return Impressions(np.zeros((n, 1)), np.array(state), np.array(items), np.array(rewards), np.ones(n))


def rfm_bandit() -> RFMBandit:
    policy = RFMBandit(RFMBanditConfig(shrinkage=2.0), N_STATES, n_items=3)
    policy.update(table([(A, 1, 5.0)] * 2 + [(B, 1, 0.0)] * 2 + [(C, 1, 1.0)] * 4 + [(C, 2, 0.0)] * 2))
    return policy


def value(policy: Policy, state: int, items: list[int]) -> FloatArray:
    shape = (1, len(items))
    query = Query(np.zeros((*shape, 1)), np.array([state]), np.array([items]), np.ones(shape, dtype=np.bool_))
    values: FloatArray = policy.expected(query)[0]
    return values


@pytest.mark.parametrize("state", VALUES, ids=["a", "b", "c", "never in 1", "never in 2", "never in 3"])
def test_rfm_values_by_hand(state: int) -> None:
    np.testing.assert_allclose(value(rfm_bandit(), state, [1, 2, 3]), VALUES[state])


def test_rfm_value_of_a_number_not_a_formula() -> None:
    assert value(rfm_bandit(), A, [1])[0] == pytest.approx(3.6133333333)  # (10 + 2 x 2.2266667) / 4


def test_unknown_items_are_never_learned() -> None:
    policy = rfm_bandit()
    policy.update(table([(A, 0, 100.0)] * 50))
    np.testing.assert_allclose(value(policy, A, [1, 2, 3]), VALUES[A])
    assert value(policy, A, [0])[0] == pytest.approx(1.4)


def test_nothing_seen_is_worth_nothing() -> None:
    policy = RFMBandit(RFMBanditConfig(), N_STATES, n_items=3)
    assert value(policy, A, [0, 1, 2, 3]).tolist() == [0.0] * 4


def test_the_rfm_bandit_needs_the_rfm_states() -> None:
    with pytest.raises(PolicyError, match=f"needs the {N_STATES} states of data.features.rfm, got 7"):
        RFMBandit(RFMBanditConfig(), 7, n_items=3)
