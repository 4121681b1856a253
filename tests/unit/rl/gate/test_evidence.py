"""Evidence: three actions stand for all, and what is stored says the same again."""

from pathlib import Path

import numpy as np
import pytest

from rl.evaluation.offpolicy.difference import difference
from rl.evaluation.offpolicy.estimators import ESTIMATORS
from rl.evaluation.offpolicy.improvement import measure_improvement
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.gate.evidence import Evidence, Metric
from rl.policy.arrays import FloatArray

N, ACTIONS = 400, 6


def whole() -> tuple[BanditLog, BanditLog, FloatArray]:
    """Return a log with the distributions of a challenger and of a champion, and predictions of all actions."""
    rng = np.random.default_rng(3)
    behaviour, one, other = (rng.dirichlet(np.ones(ACTIONS), N) * 0.9 + 0.1 / ACTIONS for _ in range(3))
    chosen = np.array([rng.choice(ACTIONS, p=row) for row in behaviour])
    rewards = (rng.random(N) < 0.3 + 0.1 * (chosen == 2)).astype(float)
    propensities = behaviour[np.arange(N), chosen]
    challenger, champion = (BanditLog(chosen, rewards, propensities, target) for target in (one, other))
    return challenger, champion, rng.uniform(0, 0.8, (N, ACTIONS))


def condense(challenger: BanditLog, champion: BanditLog, predicted: FloatArray, own: bool = False) -> Evidence:
    """Return the evidence that the log comes to."""
    logs = (challenger, champion)
    weights = np.column_stack([challenger.weights, np.ones(N) if own else champion.weights])
    metric = Metric(
        rewards=challenger.rewards,
        lowest=challenger.rewards,
        weighted=weights * challenger.rewards[:, None],
        predicted=challenger.of_chosen(predicted),
        expected=np.column_stack([Predictions(log, predicted).expected for log in logs]),
        best=predicted.max(axis=1),
        cap=0.8,
    )
    return Evidence(
        seq=np.arange(1, N + 1),
        time_us=np.arange(N),
        slots=np.ones(N, np.int64),
        propensity=challenger.propensities,
        least=challenger.propensities,
        probability=np.column_stack([log.of_chosen(log.target) for log in logs]),
        weights=weights,
        mass=weights,
        own=np.full(N, own),
        greedy=predicted.argmax(axis=1) == challenger.chosen,
        segments={"page": np.array([f"p{at % 3}" for at in range(N)], dtype=np.object_)},
        metrics={"default": metric},
    )


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_three_actions_stand_for_all(estimator: str) -> None:
    challenger, champion, predicted = whole()
    evidence = condense(challenger, champion, predicted)
    for policy, log in enumerate((challenger, champion)):
        found = ESTIMATORS[estimator](evidence.log(policy, "default"))
        assert found.terms == pytest.approx(ESTIMATORS[estimator](Predictions(log, predicted)).terms, abs=1e-12)


def test_their_difference_is_that_of_all() -> None:
    challenger, champion, predicted = whole()
    evidence, bounds, most = condense(challenger, champion, predicted), (0.0, 1.0), (60.0, 60.0)
    one, other = evidence.log(0, "default"), evidence.log(1, "default")
    found = difference(one.log, other.log, one.values, bounds, most, 0.8)
    wanted = difference(challenger, champion, predicted, bounds, most, 0.8)
    assert found.terms == pytest.approx(wanted.terms, abs=1e-12)
    assert found.floor == wanted.floor


def test_beside_a_champion_that_made_the_log_its_own_rewards_count() -> None:
    challenger, champion, predicted = whole()
    evidence = condense(challenger, champion, predicted, own=True)
    one, other = evidence.log(0, "default"), evidence.log(1, "default")
    found = difference(one.log, other.log, one.values, (0.0, 1.0), (60.0, 1.0), 0.8)
    wanted = ESTIMATORS["dr"](Predictions(challenger, predicted)).terms - challenger.rewards
    assert found.terms == pytest.approx(wanted, abs=1e-12)


def test_what_could_be_learned_is_that_of_all() -> None:
    challenger, champion, predicted = whole()
    found = measure_improvement(*condense(challenger, champion, predicted).improvement_log())
    wanted = measure_improvement(challenger, predicted)
    assert found.estimate.terms == pytest.approx(wanted.estimate.terms, abs=1e-12)


def test_it_is_read_as_it_was_saved(tmp_path: Path) -> None:
    evidence = condense(*whole())
    evidence.save(tmp_path / "evidence.parquet")
    again = Evidence.read(tmp_path / "evidence.parquet")
    assert again.sha256 == evidence.sha256
    for policy in (0, 1):
        one, other = evidence.log(policy, "default"), again.log(policy, "default")
        assert np.array_equal(one.values, other.values)
        assert np.array_equal(one.log.weights, other.log.weights)
    assert again.segments["page"].tolist() == evidence.segments["page"].tolist()
    assert again.metrics["default"].cap == 0.8
    assert again.own.dtype == np.bool_
