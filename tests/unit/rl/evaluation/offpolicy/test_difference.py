"""The difference of two policies, by hand, and its floor."""

import numpy as np
import pytest

from rl.evaluation.offpolicy.difference import difference
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import dr
from rl.evaluation.offpolicy.log import BanditLog, Predictions

CHOSEN, REWARDS, PROPENSITIES = np.array([0, 1, 0]), np.array([1.0, 0.0, 1.0]), np.array([0.5, 0.5, 0.8])
ONE, OTHER = (
    BanditLog(CHOSEN, REWARDS, PROPENSITIES, np.tile(target, (3, 1)).astype(float)) for target in ([1, 0], [0, 1])
)
PREDICTED = np.array([[0.5, 0.25], [0.5, 0.25], [0.5, 0.25]])


def test_it_is_the_difference_of_both_estimates() -> None:
    found = difference(ONE, OTHER, PREDICTED, (0.0, 1.0), (2.0, 2.0))
    assert found.value == pytest.approx(dr(Predictions(ONE, PREDICTED)).value - dr(Predictions(OTHER, PREDICTED)).value)
    assert found.terms.tolist() == pytest.approx([0.25 + 2 * 0.5, 0.25 + 2 * 0.25, 0.25 + 0.5 / 0.8])


def test_where_both_do_the_same_there_is_no_difference() -> None:
    assert difference(ONE, ONE, PREDICTED, (0.0, 1.0), (2.0, 2.0)).terms.tolist() == [0.0, 0.0, 0.0]


def test_no_term_can_be_below_the_floor() -> None:
    """Of all rewards, propensities and predictions that there can be; 200 draws, seed 0."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        rewards, chosen = rng.integers(2, size=50).astype(float), rng.integers(3, size=50)
        propensities = rng.uniform(0.1, 1.0, 50)
        one, other = (BanditLog(chosen, rewards, propensities, np.eye(3)[rng.integers(3, size=50)]) for _ in range(2))
        found = difference(one, other, rng.uniform(-1, 2, (50, 3)), (0.0, 1.0), (10.0, 10.0))
        assert found.terms.min() >= found.floor
        assert np.isneginf(found.lower_bounds(0.05, 1_000)).all()  # of 50 there is none


def test_a_weight_that_rounding_makes_larger_is_not_below_the_floor() -> None:
    n, weight = 101, 2.0 * (1 + 5e-10)
    one, other = (
        BanditLog(np.zeros(n, np.int64), np.ones(n), np.full(n, 1 / weight), np.tile(target, (n, 1)).astype(float))
        for target in ([0, 1], [1, 0])
    )
    found = difference(one, other, np.zeros((n, 2)), (0.0, 1.0), (2.0, 2.0))
    assert found.terms.min() < -2.0
    assert found.lower_bounds(0.05, 1_000)[-1] == -1.0  # no difference of rewards in [0, 1] is less


@pytest.mark.parametrize(
    ("rewards", "most", "message"),
    [
        ((0.0, 0.5), (2.0, 2.0), r"rewards must be in \[0, 0.5\], got 0 to 1"),
        ((0.0, 1.0), (1.5, 2.0), "weights of the challenger must be 1.5 at most, got 2: .* explores less"),
        ((0.0, 1.0), (2.0, 1.0), "weights of the champion must be 1 at most, got 2"),
    ],
)
def test_what_was_promised_of_the_log_is_checked(
    rewards: tuple[float, float], most: tuple[float, float], message: str
) -> None:
    with pytest.raises(EvaluationError, match=message):
        difference(ONE, OTHER, PREDICTED, rewards, most)


def test_other_logs_are_refused() -> None:
    other = BanditLog(CHOSEN, 1 - REWARDS, PROPENSITIES, OTHER.target)
    with pytest.raises(EvaluationError, match="of the same log"):
        difference(ONE, other, PREDICTED, (0.0, 1.0), (2.0, 2.0))
