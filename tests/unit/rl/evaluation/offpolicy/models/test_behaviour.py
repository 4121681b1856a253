"""Logs without propensities: what is fitted, what it is worth, and when it is refused."""

from dataclasses import replace

import numpy as np
import pytest

from rl.evaluation.offpolicy.difference import difference
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import ESTIMATORS, dr, ips, snips
from rl.evaluation.offpolicy.improvement import measure_improvement
from rl.evaluation.offpolicy.intervals import hall
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.models.behaviour import logit, measure_calibration, reason_to_distrust
from rl.evaluation.offpolicy.models.rewards import cross_fit, ridge
from rl.evaluation.offpolicy.selection import choose_validator
from rl.evaluation.offpolicy.support import reason_to_abstain
from tests.support.offpolicy import Problem, sample, softmax, value

PROBLEM = Problem()
CHOSEN = np.array([0, 1, 0])
BEHAVIOUR = np.array([[0.5, 0.5], [0.75, 0.25], [0.8, 0.2]])
TARGET = np.array([[1.0, 0.0], [0.5, 0.5], [0.4, 0.6]])
LOG = BanditLog.of_fitted(CHOSEN, np.array([1.0, 0.0, 2.0]), BEHAVIOUR, TARGET)


def test_fitted_propensities_are_those_of_what_was_chosen_and_go_with_the_rows() -> None:
    assert LOG.propensities.tolist() == [0.5, 0.25, 0.8]
    assert LOG.weights.tolist() == [2.0, 2.0, 0.5]
    taken = LOG.take(np.array([2, 2])).behaviour
    assert taken is not None
    assert taken.tolist() == [[0.8, 0.2], [0.8, 0.2]]


@pytest.mark.parametrize("name", [name for name in ESTIMATORS if name != "dm"])
def test_what_is_estimated_by_them_is_marked_as_weaker(name: str) -> None:
    predicted = np.zeros((3, 2))
    weaker = ESTIMATORS[name](Predictions(LOG, predicted)).weaker
    assert weaker is not None
    assert weaker.startswith("propensities were not logged but fitted")
    assert measure_improvement(LOG, predicted).estimate.weaker == weaker
    assert ESTIMATORS[name](Predictions(replace(LOG, behaviour=None), predicted)).weaker is None


def test_the_model_itself_needs_no_propensities() -> None:
    assert ESTIMATORS["dm"](Predictions(LOG, np.zeros((3, 2)))).weaker is None


def test_a_fit_is_no_validator_by_itself() -> None:
    predicted = np.zeros((3, 2))
    assert choose_validator(Predictions(LOG, predicted)) == "dr"
    assert choose_validator(Predictions(replace(LOG, behaviour=None), predicted)) == "ips"


def test_bounds_of_a_difference_need_logged_ones() -> None:
    with pytest.raises(EvaluationError, match="need propensities that were logged"):
        difference(LOG, LOG, np.zeros((3, 2)), (0.0, 2.0), (2.0, 2.0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"behaviour": BEHAVIOUR[:2]}, r"behaviour must be \(3, actions\), got \(2, 2\)"),
        ({"behaviour": BEHAVIOUR[:, :1]}, r"behaviour must be \(3, 2\), as target"),
        ({"behaviour": BEHAVIOUR * 0.9}, r"each row of behaviour must sum to one; got 0.9 at \[0\]"),
        ({"behaviour": np.tile([1.0, 0.0], (3, 1))}, r"propensities must be in \(0, 1\].*got 0 at \[1\]"),
        ({"chosen": np.array([0, 2, 0])}, r"chosen must be in \[0, 2\); got 2 at \[1\]"),
    ],
)
def test_what_cannot_be_fitted_propensities_is_refused(change: dict[str, np.ndarray], message: str) -> None:
    fields = {"chosen": CHOSEN, "rewards": LOG.rewards, "behaviour": BEHAVIOUR, "target": TARGET}
    with pytest.raises(EvaluationError, match=message):
        BanditLog.of_fitted(**{**fields, **change})


def test_a_logistic_behaviour_is_found_and_what_was_no_candidate_is_impossible() -> None:
    """20,000 decisions of three actions, the third offered in half of them; off by .02 at most, seed 0."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 2))
    scores = x @ np.array([[1.0, 0.0, -1.0], [0.0, 0.5, 0.5]]) + np.array([0.5, 0.0, -0.5])
    candidates = np.ones((20_000, 3), dtype=np.bool_)
    candidates[::2, 2] = False
    true = softmax(np.where(candidates, scores, -np.inf))
    chosen = sample(true, rng)
    found = cross_fit(logit(x, chosen, 3, candidates), 20_000, rng)
    assert np.all(found[::2, 2] == 0)
    assert np.abs(found - true).mean() < 0.01
    assert np.abs(found - true).max() < 0.06
    assert measure_calibration(found, chosen).expected_error < 0.01
    assert reason_to_distrust(found, chosen) is None


def test_what_was_no_candidate_cannot_have_been_chosen() -> None:
    with pytest.raises(EvaluationError, match=r"chosen must be in \[0, 2\), got 0 to 2"):
        logit(np.zeros((2, 1)), np.array([0, 2]), 2)
    with pytest.raises(EvaluationError, match=r"must be a candidate; it is none at \[1\]"):
        logit(np.zeros((2, 1)), np.array([0, 1]), 2, np.array([[True, False], [True, False]]))


def test_without_features_frequencies_are_fitted() -> None:
    chosen = np.array([0] * 6 + [1] * 3 + [2])
    found = logit(np.zeros((10, 0)), chosen, 3, penalty=1e-6)(np.arange(10), np.arange(2))
    assert found == pytest.approx(np.tile([0.6, 0.3, 0.1], (2, 1)), abs=1e-3)


@pytest.mark.heavy
def test_doubly_robust_intervals_hold_the_truth_without_propensities() -> None:
    """30 logs of 3,000, seeds 0 to 29; 95 % intervals, of which 3 binomial deviations may miss: 25 at least hold it.

    A fifth of the decisions is made at random: without that share, the model is not calibrated (`reason_to_distrust`).
    """
    held = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        contexts, log, means = PROBLEM.draw(3_000, rng)
        behaviour = cross_fit(logit(contexts, log.chosen, 10), 3_000, rng)
        fitted = BanditLog.of_fitted(log.chosen, log.rewards, behaviour, log.target)
        estimate = dr(Predictions(fitted, cross_fit(ridge(contexts, fitted), 3_000, rng)))
        assert reason_to_abstain(fitted, estimate) is None
        held += hall(estimate.terms).holds(value(log, means))
    assert held >= 25


def test_a_model_that_is_too_sure_is_not_calibrated() -> None:
    """300 decisions, 40 features without meaning and no penalty: fitted to two thirds, it knows what is mere chance."""
    rng = np.random.default_rng(0)
    x, chosen = rng.normal(size=(300, 40)), rng.integers(3, size=300)
    target = np.full((300, 3), 1 / 3)
    for penalty, trusted in ((1e-6, False), (1_000.0, True)):
        behaviour = cross_fit(logit(x, chosen, 3, penalty=penalty), 300, rng)
        log = BanditLog.of_fitted(chosen, rng.random(300), behaviour, target)
        assert (reason_to_distrust(behaviour, chosen) is None) == trusted
        assert (reason_to_abstain(log, snips(log)) is None) == trusted


@pytest.mark.parametrize(("times", "trusted"), [(0, True), (11, True), (14, False)])
def test_what_is_off_by_chance_alone_is_calibrated(times: int, trusted: bool) -> None:
    """3 of 1,000 decisions in the mean take an action of .003: 11 at least have a probability of 3e-4, 14 of 3e-6."""
    behaviour, chosen = np.tile([0.003, 0.997], (1_000, 1)), np.ones(1_000, np.int64)
    chosen[:times] = 0
    assert (reason_to_distrust(behaviour, chosen) is None) == trusted


def test_a_model_that_lacks_what_decided_is_seen_by_the_mean_weight() -> None:
    """It is calibrated: frequencies are right in the mean. But the target, which knows, has weights that are not 1."""
    rng = np.random.default_rng(1)
    x = rng.integers(2, size=5_000)
    chosen = np.where(rng.random(5_000) < 0.9, x, 1 - x)
    behaviour = cross_fit(logit(np.zeros((5_000, 0)), chosen, 2), 5_000, rng)
    log = BanditLog.of_fitted(chosen, rng.random(5_000), behaviour, np.eye(2)[x])
    assert reason_to_distrust(behaviour, chosen) is None
    assert "mean importance weight is 1.79" in (reason_to_abstain(log, ips(log)) or "")
