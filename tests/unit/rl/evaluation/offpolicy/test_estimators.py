"""Estimators against numbers worked out by hand, and against the truth where it is known."""

import numpy as np
import pytest

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import ESTIMATORS, dm, dr, dros, ips, sndr, snips, switch_dr
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.thresholds import largest_weight, shrinkage
from tests.support.offpolicy import Problem, value

LOG = BanditLog(
    chosen=np.array([0, 1, 0]),
    rewards=np.array([1.0, 0.0, 2.0]),
    propensities=np.array([0.5, 0.25, 0.8]),
    target=np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.6]]),
)  # weights 2, 2, 1/2
PREDICTED = np.array([[0.5, 1.0], [0.0, 1.0], [1.0, 2.0]])
MODEL = Predictions(LOG, PREDICTED)
# Of the model: .5, .5, 1.6. Residuals of what was chosen: .5, -1, 1.


def test_weights_and_estimates_are_those_by_hand() -> None:
    assert LOG.weights.tolist() == [2.0, 2.0, 0.5]
    assert ips(LOG).value == pytest.approx((2 + 0 + 1) / 3)
    assert snips(LOG).value == pytest.approx(3 / 4.5)
    assert dm(MODEL).value == pytest.approx((0.5 + 0.5 + 1.6) / 3)
    assert dr(MODEL).value == pytest.approx((1.5 - 1.5 + 2.1) / 3)
    assert sndr(MODEL).value == pytest.approx(2.6 / 3 + (1 - 2 + 0.5) / 4.5)
    assert switch_dr(MODEL, threshold=1.0).value == pytest.approx((0.5 + 0.5 + 2.1) / 3)
    shrunken = np.array([2 * 4 / (4 + 4), 1.0, 0.5 * 4 / (0.25 + 4)])
    assert dros(MODEL, amount=4.0).value == pytest.approx((2.6 + shrunken @ [0.5, -1, 1]) / 3)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_each_is_called_by_its_name_and_has_the_standard_error_of_its_terms(name: str) -> None:
    estimate = ESTIMATORS[name](MODEL)
    assert estimate.name == name
    assert estimate.standard_error == pytest.approx(np.std(estimate.terms, ddof=1) / np.sqrt(3))


def test_without_limits_switch_and_shrinkage_are_dr_and_with_none_the_model() -> None:
    for limited in (switch_dr, dros):
        assert limited(MODEL, np.inf).value == pytest.approx(dr(MODEL).value)
        assert limited(MODEL, 0.0).value == pytest.approx(dm(MODEL).value)


def test_thresholds_are_the_closed_forms() -> None:
    weights = np.array([2.0, 2.0, 0.5])
    limit = np.sqrt(3 * 3 * (8.25 / 3) / np.log(20))
    assert largest_weight(weights) == pytest.approx(limit)
    lam = shrinkage(weights)
    assert np.max(np.linspace(0, 100, 100_001) * lam / (np.linspace(0, 100, 100_001) ** 2 + lam)) == pytest.approx(
        limit / 2
    )
    assert largest_weight(np.zeros(3)) == np.inf


@pytest.mark.parametrize("name", ["ips", "dr"])
def test_unbiased_ones_hit_the_truth_in_the_mean(name: str) -> None:
    """Mean of 400 logs of 500, also with a model that is wrong everywhere; 4 standard errors, seed 3."""
    problem, rng = Problem(), np.random.default_rng(3)
    values = []
    for _ in range(400):
        _, log, means = problem.draw(500, rng)
        values.append(ESTIMATORS[name](Predictions(log, 1.0 - means)).value - value(log, means))
    assert abs(np.mean(values)) < 4 * np.std(values) / np.sqrt(400)


def test_a_target_that_the_log_never_follows_is_no_number_for_those_that_normalise() -> None:
    log = BanditLog(np.array([0, 0]), np.ones(2), np.ones(2), np.array([[0.0, 1.0], [0.0, 1.0]]))
    assert np.isnan(snips(log).value)
    assert ips(log).value == 0.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"propensities": np.array([0.5, 0.0, 0.8])}, r"propensities must be in \(0, 1\].*got 0 at \[1\]"),
        ({"rewards": np.array([1.0, np.nan, 2.0])}, r"rewards must be finite; got nan at \[1\]"),
        ({"chosen": np.array([0, 2, 0])}, r"chosen must be in \[0, 2\); got 2 at \[1\]"),
        ({"target": np.array([[1.0, 0.0], [0.5, 0.6], [0.4, 0.6]])}, r"sum to one; got 1.1 at \[1\]"),
        ({"target": np.array([[1.5, -0.5], [0.5, 0.5], [0.4, 0.6]])}, r"negative; got -0.5 at \[0, 1\]"),
        ({"target": np.ones((2, 1))}, r"target must be \(3, actions\)"),
        ({"rewards": np.zeros(2)}, r"rewards must be \(3,\)"),
    ],
)
def test_what_cannot_be_a_log_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    fields = {"chosen": LOG.chosen, "rewards": LOG.rewards, "propensities": LOG.propensities, "target": LOG.target}
    with pytest.raises(EvaluationError, match=message):
        BanditLog(**{**fields, **change})


def test_predictions_of_another_shape_are_refused() -> None:
    with pytest.raises(EvaluationError, match=r"predicted rewards must be \(3, 2\)"):
        Predictions(LOG, PREDICTED[:, :1])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predictions_that_are_no_numbers_are_refused(value: float) -> None:
    predicted = PREDICTED.copy()
    predicted[0, 1] = value  # which the target never does
    with pytest.raises(EvaluationError, match=r"predicted rewards must be finite; got (nan|inf) at \[0, 1\]"):
        Predictions(LOG, predicted)
