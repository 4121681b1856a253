"""Decisions between two, what was chosen and all else: the same estimates, from memory and from Ray Data."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from rl.evaluation.offpolicy.blocks import condense, condense_dataset
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import ESTIMATORS
from rl.evaluation.offpolicy.intervals import hall
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.selection import select
from rl.evaluation.offpolicy.support import measure_support, reason_to_abstain
from tests.support.offpolicy import Problem


def model(n: int) -> Predictions:
    rng = np.random.default_rng(0)
    _, log, means = Problem().draw(n, rng)
    return Predictions(log, means + 0.1 * rng.normal(size=means.shape))


def test_a_decision_between_two_by_hand() -> None:
    """Of .2, .5 and .3 the second was chosen; the others are predicted (.2 x 1 + .3 x 2) / .5 = 1.6 in the mean."""
    log = BanditLog(np.array([1]), np.array([3.0]), np.array([0.25]), np.array([[0.2, 0.5, 0.3]]))
    found = condense(Predictions(log, np.array([[1.0, 4.0, 2.0]])))
    assert found.log.target == pytest.approx(np.array([[0.5, 0.5]]))
    assert found.values == pytest.approx(np.array([[4.0, 1.6]]))
    certain = replace(log, target=np.array([[0.0, 1.0, 0.0]]))
    assert condense(Predictions(certain, np.array([[1.0, 4.0, 2.0]]))).values.tolist() == [[4.0, 0.0]]


def check_the_same(found: Predictions, whole: Predictions) -> None:
    for name, estimator in ESTIMATORS.items():
        interval, of_whole = hall(estimator(found).terms), hall(estimator(whole).terms)
        assert (interval.low, interval.high) == pytest.approx((of_whole.low, of_whole.high), abs=1e-12), name
    ours, wanted = asdict(measure_support(found.log)), asdict(measure_support(whole.log))
    assert ours.pop("tail") == pytest.approx(wanted.pop("tail"))
    assert ours == pytest.approx(wanted)
    assert select(found).name == select(whole).name
    assert reason_to_abstain(found.log, select(found)) == reason_to_abstain(whole.log, select(whole))


def test_estimates_support_and_selection_are_those_of_the_whole_log() -> None:
    check_the_same(condense(model(2_000)), model(2_000))


@pytest.mark.heavy
def test_a_dataset_of_several_blocks_gives_the_same(ray_local: None) -> None:
    """Half of the decisions have fewer candidates than the others: lists of the first seven of ten."""
    from ray.data import from_items

    whole = model(1_000)
    short = (np.arange(1_000) % 2 == 0) & (whole.log.chosen < 7)
    target = np.where(short[:, None] & (np.arange(10) >= 7), 0.0, whole.log.target)
    target /= target.sum(axis=1, keepdims=True)
    whole = Predictions(replace(whole.log, target=target), whole.values)
    rows = [
        {
            "chosen": int(whole.log.chosen[at]),
            "reward": float(whole.log.rewards[at]),
            "propensity": float(whole.log.propensities[at]),
            "target": target[at, : 7 if short[at] else 10].tolist(),
            "predicted": whole.values[at, : 7 if short[at] else 10].tolist(),
            "user": "ann",
        }
        for at in range(1_000)
    ]
    check_the_same(condense_dataset(from_items(rows, override_num_blocks=5)), whole)
    with pytest.raises(EvaluationError, match="there is no propensity, predicted"):
        condense_dataset(from_items([{"chosen": 0, "reward": 1.0, "target": [1.0]}]))


def test_fitted_propensities_are_not_condensed() -> None:
    log = BanditLog.of_fitted(np.array([0]), np.ones(1), np.array([[0.5, 0.5]]), np.array([[1.0, 0.0]]))
    with pytest.raises(EvaluationError, match="propensities were logged"):
        condense(Predictions(log, np.zeros((1, 2))))
