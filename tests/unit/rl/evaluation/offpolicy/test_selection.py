"""Who is believed, what cross-fitting promises, and when a log cannot tell."""

from dataclasses import replace

import numpy as np
import pytest

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import ESTIMATORS, ips
from rl.evaluation.offpolicy.improvement import measure_improvement
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.models.rewards import cross_fit, ridge
from rl.evaluation.offpolicy.selection import choose_validator, select
from rl.evaluation.offpolicy.sequences import value_bounds
from rl.evaluation.offpolicy.support import measure_support, reason_to_abstain
from rl.policy.arrays import FloatArray, IntArray
from tests.support.offpolicy import Problem, value

PROBLEM = Problem()


def test_no_row_is_predicted_by_a_model_that_has_seen_it() -> None:
    seen: list[tuple[set[int], set[int]]] = []

    def fit(train: IntArray, rows: IntArray) -> FloatArray:
        seen.append((set(train.tolist()), set(rows.tolist())))
        return np.column_stack([rows, rows]).astype(float)

    predicted = cross_fit(fit, 10, np.random.default_rng(0))
    assert predicted[:, 0].tolist() == list(range(10))
    assert len(seen) == 3
    assert all(not train & rows and train | rows == set(range(10)) for train, rows in seen)


@pytest.mark.parametrize(
    ("n", "folds", "message"),
    [
        (2, 3, "2 rows cannot be dealt into 3 folds"),
        (0, 3, "0 rows"),
        (9, 1, "two folds at least, got 1"),
        (9, 0, "got 0"),
    ],
)
def test_what_cannot_be_dealt_is_refused(n: int, folds: int, message: str) -> None:
    with pytest.raises(EvaluationError, match=message):
        cross_fit(lambda train, rows: np.zeros((len(rows), 2)), n, np.random.default_rng(0), folds)


def test_ridge_finds_a_linear_reward_and_the_mean_of_what_was_never_done() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2_000, 2))
    chosen = rng.integers(2, size=2_000)
    rewards = np.where(chosen == 0, 1 + 2 * x[:, 0], -3 * x[:, 1])
    log = BanditLog(chosen, rewards, np.full(2_000, 0.5), np.tile([0.5, 0.5, 0.0], (2_000, 1)))
    predicted = cross_fit(ridge(x, log, 1e-6), 2_000, rng)
    assert predicted[:, 0] == pytest.approx(1 + 2 * x[:, 0], abs=1e-6)
    assert predicted[:, 1] == pytest.approx(-3 * x[:, 1], abs=1e-6)
    assert predicted[:, 2] == pytest.approx(np.full(2_000, rewards.mean()), abs=0.2)
    assert Predictions(log, predicted).explained == pytest.approx(1.0)
    assert Predictions(log, np.full((2_000, 3), rewards.mean())).explained == pytest.approx(0.0)


@pytest.mark.heavy
def test_a_model_that_predicts_is_believed_and_one_that_does_not_is_not() -> None:
    """20 logs of 2,000, seeds 0 to 19: by squared error, what is selected is near the better of DM and IPS."""
    for model, validator, worse in (("true", "dr", "ips"), ("wrong", "ips", "dm")):
        errors: dict[str, list[float]] = {"selected": [], worse: []}
        for seed in range(20):
            rng = np.random.default_rng(seed)
            _, log, means = PROBLEM.draw(2_000, rng)
            predicted = means if model == "true" else 0.2 * rng.random(means.shape)
            predictions, truth = Predictions(log, predicted), value(log, means)
            if model == "wrong":
                assert choose_validator(predictions) == validator
            errors["selected"].append((select(predictions, ("ips", "dm"), validator).value - truth) ** 2)
            errors[worse].append((ESTIMATORS[worse](predictions).value - truth) ** 2)
        assert np.mean(errors["selected"]) < 0.5 * np.mean(errors[worse]), model


def test_below_fifty_decisions_nothing_is_selected() -> None:
    _, log, means = PROBLEM.draw(49, np.random.default_rng(0))
    assert select(Predictions(log, means)).name == "snips"


def test_those_that_normalise_are_left_out_where_the_log_never_does_what_the_target_would() -> None:
    rng = np.random.default_rng(0)
    target = np.tile([0.0, 0.0, 1.0], (100, 1))
    log = BanditLog(rng.integers(2, size=100), rng.random(100), np.full(100, 0.5), target)
    assert select(Predictions(log, rng.random((100, 3)))).name not in ("snips", "sndr")


def test_support_by_hand() -> None:
    log = BanditLog(
        np.array([0, 1, 0]), np.ones(3), np.array([0.5, 0.25, 0.8]), np.array([[1, 0], [0.5, 0.5], [0.4, 0.6]])
    )
    support = measure_support(log)  # weights 2, 2, 1/2
    assert support.effective_size == pytest.approx(4.5**2 / 8.25)
    assert support.largest_weight == 2.0
    assert support.mean_weight == 1.5
    assert support.tail[0.5] == 2.0
    assert support.mean_weight_z == pytest.approx(0.5 / (np.std([2, 2, 0.5], ddof=1) / np.sqrt(3)))


def test_propensities_that_were_rounded_are_not_wrong() -> None:
    """All weights are 1.000001 then, which have no spread."""
    rng = np.random.default_rng(0)
    log = BanditLog(rng.integers(3, size=100), rng.random(100), np.full(100, 0.333333), np.full((100, 3), 1 / 3))
    assert measure_support(log).mean_weight_z == 0.0
    assert reason_to_abstain(log, ips(log)) is None


@pytest.mark.parametrize("reward", [0.0, 1.0])
def test_rewards_that_are_all_the_same_are_no_certainty(reward: float) -> None:
    """The intervals have no width; one that needs limits of the rewards has one, and holds what was not seen."""
    rng = np.random.default_rng(0)
    _, log, _ = PROBLEM.draw(1_000, rng)
    log = replace(log, rewards=np.full(1_000, reward))
    model = Predictions(log, cross_fit(ridge(rng.normal(size=(1_000, 3)), log), 1_000, rng))
    for name in ESTIMATORS:
        reason = reason_to_abstain(log, ESTIMATORS[name](model))
        assert reason is not None
        assert reason.startswith(f"all 1,000 rewards are {reward:g}: ")
    assert not measure_improvement(log, model.values).anything
    low, high = value_bounds(log.weights, log.rewards, (0.0, 1.0), looks=np.array([1_000]))
    assert low[0] < reward < high[0]
    assert 0.01 < high[0] - low[0] < 0.3


def test_a_log_says_why_it_cannot_tell() -> None:
    rng = np.random.default_rng(2)
    _, log, _ = PROBLEM.draw(10_000, rng)
    assert reason_to_abstain(log, ips(log)) is None
    log = log.take(np.arange(1_000))
    _, few, _ = PROBLEM.draw(40, rng)
    assert "there are 40 decisions" in (reason_to_abstain(few, ips(few)) or "")
    target = np.zeros((1_000, 10))
    target[:, 9] = 1.0
    never = BanditLog(np.minimum(log.chosen, 8), log.rewards, log.propensities, target)
    assert "seldom does what the policy would" in (reason_to_abstain(never, ips(never)) or "")
    wrong = BanditLog(log.chosen, log.rewards, np.minimum(1.0, 2 * log.propensities), log.target)
    assert "propensities are wrong" in (reason_to_abstain(wrong, ips(wrong)) or "")
    rare = np.full(1_000, 0.9)
    rare[0] = 0.001
    one = BanditLog(np.zeros(1_000, np.int64), rng.random(1_000), rare, np.tile([0.9, 0.1], (1_000, 1)))
    assert reason_to_abstain(one, ips(one)) is not None
