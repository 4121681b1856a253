"""Episodes: by hand, and against values by dynamic programming."""

import numpy as np
import pytest

from rl.evaluation.offpolicy.episodes import (
    EpisodeLog,
    arrange,
    cross_fit_q,
    cross_fit_weights,
    doubly_robust,
    fit_q,
    per_decision_is,
    weighted_is,
)
from rl.evaluation.offpolicy.errors import EvaluationError
from tests.support.decision_processes import DecisionProcess, as_log, chain, shop

LOG = EpisodeLog(
    rewards=np.array([[1.0, 2.0], [3.0, 99.0]]),
    weights=np.array([[2.0, 0.5], [1.0, 99.0]]),
    alive=np.array([[True, True], [True, False]]),
    discount=0.5,
)  # cumulative 2, 1 and 1, 1


def test_estimates_are_those_by_hand() -> None:
    assert per_decision_is(LOG).value == pytest.approx((2 * 1 + 0.5 * 1 * 2 + 3) / 2)
    assert weighted_is(LOG).value == pytest.approx((2 * 1 + 1 * 3) / 3 + 0.5 * (1 * 2 + 1 * 0) / 2)
    taken, expected = np.array([[1.0, 1.0], [2.0, 9.0]]), np.array([[1.5, 0.5], [2.5, 9.0]])
    first = 1.5 + 2 * (1 + 0.5 * 0.5 - 1) + 0.5 * 1 * (2 - 1)
    second = 2.5 + 1 * (3 - 2)
    assert doubly_robust(LOG, taken, expected).value == pytest.approx((first + second) / 2)


def test_a_table_of_transitions_is_a_log_whose_steps_are_whole_slates() -> None:
    columns = {  # an episode of two steps, the first a slate of two, and in between one of a single step
        "episode": np.array([7, 7, -3, 7]),
        "step": np.array([0, 0, 0, 1]),
        "rewards": np.array([1.0, 0.5, 4.0, 2.0]),
        "propensities": np.array([[0.5], [0.25], [0.5], [1.0]]),
    }
    log = EpisodeLog.of(columns, np.array([1.0, 0.5, 0.25, 0.75]), discount=0.9)
    assert log.rewards.tolist() == [[4.0, 0.0], [1.5, 2.0]]
    assert log.weights.tolist() == [[0.5, 1.0], [4.0, 0.75]]
    assert log.alive.tolist() == [[True, False], [True, True]]
    assert arrange(columns, np.array([1.0, 2.0, 3.0, 4.0])).tolist() == [[3.0, 0.0], [3.0, 4.0]]
    with pytest.raises(EvaluationError, match="with one of each at least"):
        EpisodeLog.of({name: column[:0] for name, column in columns.items()}, np.zeros(0), 0.9)


def test_values_of_the_processes_are_those_of_many_episodes() -> None:
    """20,000 episodes of the target itself, 4 standard errors, seed 0."""
    for process, _, target in (chain(), shop()):
        _, _, rewards = process.play(target, 20_000, np.random.default_rng(0))
        returns = rewards @ process.discount ** np.arange(rewards.shape[1])
        assert abs(returns.mean() - process.value(target)) < 4 * returns.std() / np.sqrt(20_000)


def test_fitted_q_finds_the_value_of_a_process_that_it_has_seen_whole() -> None:
    """A state that pays 1 for action 0 and goes on with probability one half: Q is 1 + .5 * .9 * V."""
    process = DecisionProcess(np.ones(1), np.full((1, 2, 1), 0.5), np.array([[1.0, 0.0]]), 0.9)
    target = np.array([[0.8, 0.2]])
    value = process.value(target)
    assert value == pytest.approx(0.8 / (1 - 0.45))
    following = 0.5 * np.array([[0.8, 0.2], [0.8, 0.2]])  # in the mean
    coefficients = fit_q(np.eye(2), following, np.array([1.0, 0.0]), 0.9, 0.0)
    assert coefficients == pytest.approx([1 + 0.45 * value, 0.45 * value])


@pytest.mark.heavy
@pytest.mark.parametrize("make", [chain, shop])
def test_models_and_weights_bring_estimates_nearer_to_the_truth(make: object) -> None:
    """30 logs of 1,000 episodes, seeds 0 to 29: mean relative error under .1, and under that of importance sampling."""
    process, behaviour, target = chain() if make is chain else shop()
    truth, errors = process.value(target), np.zeros((30, 3))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        log, taken, expected = as_log(process, behaviour, target, 1_000, rng)
        model = cross_fit_q(log, taken, expected, rng)
        marginal = cross_fit_weights(log, expected, rng)
        estimates = per_decision_is(log), doubly_robust(log, *model), doubly_robust(log, *model, marginal=marginal)
        errors[seed] = [abs(estimate.value - truth) / truth for estimate in estimates]
    plain, robust, marginal_robust = errors.mean(axis=0)
    assert marginal_robust < robust < plain
    assert marginal_robust < 0.1


def test_weights_of_states_are_what_the_target_does_there() -> None:
    """After a step of a chain whose actions lead to different states each state has one way to it."""
    rng = np.random.default_rng(3)
    moves = np.zeros((3, 2, 3))
    moves[0, 0, 1] = moves[0, 1, 2] = 1.0
    process = DecisionProcess(np.eye(3)[0], moves, np.zeros((3, 2)), 1.0)
    behaviour, target = np.full((3, 2), 0.5), np.tile([0.2, 0.8], (3, 1))
    log, _, expected = as_log(process, behaviour, target, 3_000, rng)
    found = cross_fit_weights(log, expected, rng, penalty=1e-6)
    assert found[:, :2] == pytest.approx(log.cumulative[:, :2], rel=1e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"alive": np.array([[True, True], [False, True]])}, "a first step, and no step after its end"),
        ({"discount": 1.5}, r"discount must be in \[0, 1\], got 1.5"),
        ({"weights": np.ones((2, 3))}, r"weights and alive must be \(2, 2\)"),
        ({"rewards": np.array([[np.nan, 1.0], [1.0, 1.0]])}, "rewards finite"),
        ({"rewards": np.zeros((0, 2))}, r"\(episodes, steps\)"),
    ],
)
def test_what_cannot_be_a_log_is_refused(change: dict[str, object], message: str) -> None:
    fields = {"rewards": LOG.rewards, "weights": LOG.weights, "alive": LOG.alive, "discount": 1.0}
    with pytest.raises(EvaluationError, match=message):
        EpisodeLog(**{**fields, **change})  # type: ignore[arg-type]


def test_fewer_episodes_than_folds_are_refused() -> None:
    with pytest.raises(EvaluationError, match="2 rows cannot be dealt into 3 folds"):
        cross_fit_weights(LOG, np.ones((2, 2, 1)), np.random.default_rng(0))
