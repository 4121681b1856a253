"""Slates: against enumeration of all orders, against exact values, and by hand."""

import numpy as np
import pytest

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.models.slots import cross_fit_slots
from rl.evaluation.offpolicy.slates import (
    SlateLog,
    cascade_dr,
    independent_ips,
    pseudo_inverse,
    pseudo_inverse_dr,
    reward_interaction_ips,
    slate_ips,
    unordered_propensities,
)
from tests.support.orders import sum_over_orders

LOG = SlateLog(
    rewards=np.array([[1.0, 0.0], [0.0, 1.0]]),
    conditional=np.array([[2.0, 0.5], [1.0, 3.0]]),
    marginal=np.array([[2.0, 1.0], [1.0, 2.0]]),
)  # cascade weights 2, 1 and 1, 3


def test_estimates_are_those_by_hand() -> None:
    assert slate_ips(LOG).value == pytest.approx((1 * 1 + 3 * 1) / 2)
    assert pseudo_inverse(LOG).value == pytest.approx(((1 + 1 + 0) * 1 + (1 + 0 + 1) * 1) / 2)
    assert independent_ips(LOG).value == pytest.approx((2 + 2) / 2)
    assert reward_interaction_ips(LOG).value == pytest.approx(2 / 3 + 3 / 4)


def test_cascade_dr_with_a_perfect_model_is_the_model_and_with_none_weighs_the_slots() -> None:
    """Perfect: what was predicted of a slot is its reward and what is expected of those below."""
    expected = np.array([[0.8, 0.3], [0.6, 0.2]])
    predicted = LOG.rewards + np.column_stack([expected[:, 1], np.zeros(2)])
    assert cascade_dr(LOG, predicted, expected).value == pytest.approx(0.7)
    nothing = np.zeros((2, 2))
    assert cascade_dr(LOG, nothing, nothing).value == pytest.approx((2 * 1 + 3 * 1) / 2)


def test_pseudo_inverse_dr_by_hand() -> None:
    """Weights 1 + 1 + 0 and 1 + 0 - 1/2: 2 and 1/2, and rewards 1 and 2 of the slates; then with a model."""
    log = SlateLog(
        rewards=np.array([[1.0, 0.0], [0.0, 2.0]]),
        conditional=np.ones((2, 2)),
        marginal=np.array([[2.0, 1.0], [1.0, 0.5]]),
    )
    nothing = np.zeros((2, 2))
    assert pseudo_inverse_dr(log, nothing, nothing).value == pytest.approx((2 * 1 + 0.5 * 2) / 2.5)
    predicted, expected = np.array([[0.8, 0.1], [0.6, 0.4]]), np.array([[0.7, 0.2], [0.5, 0.3]])
    # Beyond the model: (1 + .2 - .8) + (0 - .1) = .3, and (0 + .3 - .6) + (2 - .4) = 1.3.
    by_hand = (0.7 + 0.5) / 2 + (2 * 0.3 + 0.5 * 1.3) / 2.5
    assert pseudo_inverse_dr(log, predicted, expected).value == pytest.approx(by_hand)
    never = SlateLog(log.rewards, np.ones((2, 2)), np.array([[0.0, 1.0], [1.0, 0.0]]))
    assert np.isnan(pseudo_inverse_dr(never, nothing, nothing).value)


def test_slots_are_predicted_from_the_last_to_the_first_without_their_own_slate() -> None:
    """What a slot's item and context pay, and the item above, is additive: the model finds it, without noise."""
    rng = np.random.default_rng(5)
    n, worth, slope = 900, np.array([[0.1, 0.3, 0.6], [0.5, 0.2, 0.1]]), np.array([1.0, 0.0, -1.0])
    below = np.array([0.2, 0.0, -0.3])  # what an item does to the one below it
    x, items, target = rng.normal(size=n), rng.integers(3, size=(n, 2)), np.array([0.2, 0.3, 0.5])
    pays = worth[np.arange(2), items] + slope[items] * x[:, None]
    rewards = pays + np.column_stack([np.zeros(n), below[items[:, 0]]])
    targets = np.tile(target, (n, 2, 1))
    predicted, expected = cross_fit_slots(x[:, None], items, rewards, targets, rng, penalty=1e-9)
    second = target @ worth[1] + x * (target @ slope)
    assert expected[:, 1] == pytest.approx(second + below[items[:, 0]], abs=1e-6)
    assert predicted[:, 1] == pytest.approx(rewards[:, 1], abs=1e-6)
    assert predicted[:, 0] == pytest.approx(rewards[:, 0] + second + below[items[:, 0]], abs=1e-6)
    first = target @ worth[0] + x * (target @ slope)
    assert expected[:, 0] == pytest.approx(first + second + target @ below, abs=1e-6)
    log = SlateLog(rewards, np.ones((n, 2)), 3 * targets[np.arange(n)[:, None], np.arange(2), items])
    for corrected in (cascade_dr, pseudo_inverse_dr):
        assert corrected(log, predicted, expected).value == pytest.approx(expected[:, 0].mean(), abs=1e-6)


def test_slots_that_do_not_fit_are_refused() -> None:
    rng, items = np.random.default_rng(0), np.zeros((6, 2), np.int64)
    with pytest.raises(EvaluationError, match=r"items are \(6, 2\): rewards must be so too.*got \(6, 1\)"):
        cross_fit_slots(np.zeros((6, 1)), items, np.zeros((6, 1)), np.ones((6, 2, 1)), rng)
    with pytest.raises(EvaluationError, match=r"items must be in \[0, 1\), got 1 to 1"):
        cross_fit_slots(np.zeros((6, 1)), items + 1, np.zeros((6, 2)), np.ones((6, 2, 1)), rng)


@pytest.mark.parametrize("k", range(1, 7))
def test_the_probability_of_a_set_is_the_sum_over_its_orders(k: int) -> None:
    rng = np.random.default_rng(k)
    first = rng.dirichlet(np.ones(8), size=20)[:, :k]
    assert np.abs(unordered_propensities(first) - sum_over_orders(first)).max() < 1e-12


def test_the_set_of_all_items_is_certain() -> None:
    first = np.random.default_rng(0).dirichlet(np.ones(5), size=100)
    assert unordered_propensities(first) == pytest.approx(np.ones(100), abs=1e-9)


def test_unbiased_where_what_they_assume_is_so() -> None:
    """Slots drawn by themselves, users who look at each by itself: all hit .9 within 4 standard errors; seed 4."""
    rng = np.random.default_rng(4)
    worth, logger, target = np.array([0.1, 0.3, 0.6]), np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])
    items = np.stack([rng.choice(3, size=40_000, p=logger) for _ in range(2)], axis=1)
    rewards = (rng.random(items.shape) < worth[items]).astype(float)
    weights = (target / logger)[items]
    log = SlateLog(rewards, weights, weights)
    truth = 2 * float(target @ worth)
    value = np.full(items.shape, 0.0)
    for estimate in (
        slate_ips(log),
        pseudo_inverse(log),
        independent_ips(log),
        reward_interaction_ips(log),
        cascade_dr(log, value, value),
        pseudo_inverse_dr(log, value, value),
    ):
        assert abs(estimate.value - truth) < 4 * estimate.standard_error, estimate.name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rewards": np.zeros((0, 2))}, r"\(slates, slots\)"),
        ({"rewards": np.array([[1.0, np.nan], [0.0, 1.0]])}, "rewards must be finite"),
        ({"marginal": np.ones((2, 3))}, r"marginal weights must be \(2, 2\)"),
        ({"conditional": np.array([[-1.0, 1.0], [1.0, 1.0]])}, "conditional weights must be finite and not negative"),
    ],
)
def test_what_cannot_be_a_log_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    fields = {"rewards": LOG.rewards, "conditional": LOG.conditional, "marginal": LOG.marginal}
    with pytest.raises(EvaluationError, match=message):
        SlateLog(**{**fields, **change})


def test_what_are_no_probabilities_of_a_set_is_refused() -> None:
    with pytest.raises(EvaluationError, match="sum to one at most"):
        unordered_propensities(np.array([[0.7, 0.7]]))
    with pytest.raises(EvaluationError, match="16 items at most"):
        unordered_propensities(np.full((1, 17), 0.01))
