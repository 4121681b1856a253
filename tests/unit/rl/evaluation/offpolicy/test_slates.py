"""Slates: against enumeration of all orders, against exact values, and by hand."""

from itertools import permutations

import numpy as np
import pytest

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.slates import (
    SlateLog,
    cascade_dr,
    independent_ips,
    pseudo_inverse,
    reward_interaction_ips,
    slate_ips,
    unordered_propensities,
)

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


@pytest.mark.parametrize("k", range(1, 7))
def test_the_probability_of_a_set_is_the_sum_over_its_orders(k: int) -> None:
    rng = np.random.default_rng(k)
    first = rng.dirichlet(np.ones(8), size=20)[:, :k]
    wanted = np.zeros(20)
    for order in permutations(range(k)):
        left, of_order = np.ones(20), np.ones(20)
        for item in order:
            of_order *= first[:, item] / left
            left -= first[:, item]
        wanted += of_order
    assert np.abs(unordered_propensities(first) - wanted).max() < 1e-12


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
