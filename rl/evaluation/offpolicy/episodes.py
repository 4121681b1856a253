"""Estimators of what a policy earns over several decisions, from episodes of another one.

Weights multiply along an episode, so that plain importance sampling says little of long ones. What keeps the spread
down is a model of the future, fitted to the same log without the episode that it corrects, and weights of where an
episode is rather than of how it came there.

Sources: per-decision importance sampling Precup, Sutton and Singh (2000); doubly robust Jiang and Li (2016), its
weighted form Thomas and Brunskill (2016); with weights of states Kallus and Uehara (2020), Double reinforcement
learning; the fixed point of fitted Q evaluation with linear features Lagoudakis and Parr (2003), LSTD-Q.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import Estimate
from rl.evaluation.offpolicy.models.folds import deal
from rl.policy.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class EpisodeLog:
    """Episodes of one action a step, padded to the longest."""

    rewards: FloatArray
    """[n, T]; what is beyond an end is not read."""
    weights: FloatArray
    """[n, T] how much more often the target takes the step's action."""
    alive: BoolArray
    """[n, T] whether the step was taken; a step is not without those before it."""
    discount: float = 1.0

    def __post_init__(self) -> None:
        """Check the arrays.

        Raises:
            EvaluationError: there are no episodes, shapes differ, an episode has a gap, or a value is none.
        """
        shape = self.rewards.shape
        if len(shape) != 2 or not all(shape):
            raise EvaluationError(f"rewards must be (episodes, steps), with one of each at least, got {shape}")
        if self.weights.shape != shape or self.alive.shape != shape:
            raise EvaluationError(
                f"weights and alive must be {shape}, as the rewards, got {self.weights.shape} and {self.alive.shape}"
            )
        if not self.alive[:, 0].all() or (self.alive[:, 1:] & ~self.alive[:, :-1]).any():
            raise EvaluationError("an episode must have a first step, and no step after its end")
        weights = self.weights[self.alive]
        if (
            not (weights >= 0).all()
            or not np.isfinite(weights).all()
            or not np.isfinite(self.rewards[self.alive]).all()
        ):
            raise EvaluationError("weights must be finite and not negative, and rewards finite")
        if not 0 <= self.discount <= 1:
            raise EvaluationError(f"discount must be in [0, 1], got {self.discount}")

    @classmethod
    def of(cls, columns: Mapping[str, NDArray[Any]], probabilities: FloatArray, discount: float) -> Self:
        """Make a log of a transitions table whose rows [N] say to which `step` of which `episode` they belong.

        The rows of one step are the slots of a slate: what they have earned is added up, and weights are multiplied.

        Args:
            columns: `episode`, `step`, `rewards` [N] and `propensities` [N, 1].
            probabilities: [N] with which the target takes the action of each row.
            discount: of what later steps earn.

        Raises:
            EvaluationError: as the constructor does.
        """
        shape, place = _find_places(columns)
        rewards, weights, alive = np.zeros(shape), np.ones(shape), np.zeros(shape, dtype=np.bool_)
        np.add.at(rewards, place, columns["rewards"])
        np.multiply.at(weights, place, probabilities / columns["propensities"][:, 0])
        alive[place] = True
        return cls(rewards, weights, alive, discount)

    @property
    def cumulative(self) -> FloatArray:
        """Weights [n, T] of all steps up to each; beyond an end they stay."""
        weights = np.where(self.alive, self.weights, 1.0)
        cumulative: FloatArray = np.cumprod(weights, axis=1, dtype=np.float64)
        return cumulative

    @property
    def discounts(self) -> FloatArray:
        """[n, T], 0 beyond an end."""
        powers = self.discount ** np.arange(self.rewards.shape[1], dtype=np.float64)
        return np.where(self.alive, powers, 0.0)


def arrange(columns: Mapping[str, NDArray[Any]], values: FloatArray) -> FloatArray:
    """Return values of the rows [N] of a table by episode and step [n, T], as `EpisodeLog.of` does; 0 elsewhere."""
    shape, place = _find_places(columns)
    arranged = np.zeros(shape)
    np.add.at(arranged, place, values)
    return arranged


def _find_places(columns: Mapping[str, NDArray[Any]]) -> tuple[tuple[int, int], tuple[IntArray, IntArray]]:
    """Return (n, T), and the episode and the step [N] of each row."""
    episodes, row = np.unique(columns["episode"], return_inverse=True)
    step = columns["step"].astype(np.int64)
    return (len(episodes), int(step.max(initial=-1)) + 1), (row, step)


def per_decision_is(log: EpisodeLog) -> Estimate:
    """Weigh each reward by the steps up to it: unbiased."""
    return Estimate("per_decision_is", _sum(log, log.cumulative * np.where(log.alive, log.rewards, 0.0)))


def weighted_is(log: EpisodeLog) -> Estimate:
    """Divide the weights of each step by their sum: values among the rewards."""
    normal = _normalise(log.cumulative)
    rewards = np.where(log.alive, log.rewards, 0.0) * log.discounts
    values = (normal * rewards).mean(axis=0)
    return Estimate("weighted_is", values.sum() + (normal * (rewards - values)).sum(axis=1))


def doubly_robust(
    log: EpisodeLog,
    taken: FloatArray,
    expected: FloatArray,
    *,
    weighted: bool = False,
    marginal: FloatArray | None = None,
) -> Estimate:
    """Correct a model of the future, step by step.

    Args:
        log: the log.
        taken: [n, T] predicted returns of the actions that were taken, from each step on.
        expected: [n, T] the same in the mean over what the target does.
        weighted: divide the weights of each step by their sum.
        marginal: [n, T] weights of state and action at each step, as `cross_fit_weights` returns them; default: those
            of the whole way there.
    """
    alive, weights = log.alive, log.cumulative if marginal is None else marginal
    name = "doubly_robust" if marginal is None else "marginal_doubly_robust"
    future = np.column_stack([np.where(alive[:, 1:], expected[:, 1:], 0.0), np.zeros(len(weights))])
    surprise = np.where(alive, log.rewards + log.discount * future - taken, 0.0)
    if not weighted:
        return Estimate(name, expected[:, 0] + _sum(log, weights * surprise))
    normal = _normalise(weights)
    surprise = surprise * log.discounts
    corrections = (normal * surprise).mean(axis=0)
    terms = expected[:, 0] + corrections.sum() + (normal * (surprise - corrections)).sum(axis=1)
    return Estimate(f"weighted_{name}", terms)


def fit_q(
    taken: FloatArray, following: FloatArray, rewards: FloatArray, discount: float, penalty: float = 1e-3
) -> FloatArray:
    """Return the coefficients [d] of a target's Q function: the fixed point of fitted Q evaluation.

    Args:
        taken: [m, d] features of steps and the actions that were taken.
        following: [m, d] features of the next step, in the mean over what the target does there; 0 at an end.
        rewards: [m].
        discount: of the future.
        penalty: on the squares of the coefficients.
    """
    system = taken.T @ (taken - discount * following) + penalty * np.eye(taken.shape[1])
    return np.asarray(np.linalg.solve(system, taken.T @ rewards), dtype=np.float64)


def cross_fit_q(
    log: EpisodeLog,
    taken: FloatArray,
    expected: FloatArray,
    rng: np.random.Generator,
    folds: int = 3,
    penalty: float = 1e-3,
) -> tuple[FloatArray, FloatArray]:
    """Return predicted returns [n, T] of what was taken and of what the target does, without the episode itself.

    Args:
        log: the log.
        taken: [n, T, d] features of steps and the actions that were taken.
        expected: [n, T, d] features of steps, in the mean over what the target does.
        rng: deals the episodes into the folds.
        folds: into how many.
        penalty: see `fit_q`.

    Raises:
        EvaluationError: there are fewer than two folds, or fewer episodes than folds.
    """
    n, steps, dimensions = taken.shape
    goes_on = np.concatenate([log.alive[:, 1:], np.zeros((n, 1), bool)], axis=1)
    following = np.concatenate([expected[:, 1:], np.zeros((n, 1, dimensions))], axis=1) * goes_on[..., None]
    of_taken, of_expected = np.zeros((n, steps)), np.zeros((n, steps))
    for train, part in deal(n, folds, rng):
        rows = log.alive & train[:, None]
        coefficients = fit_q(taken[rows], following[rows], log.rewards[rows], log.discount, penalty)
        of_taken[part], of_expected[part] = taken[part] @ coefficients, expected[part] @ coefficients
    return of_taken, of_expected


def cross_fit_weights(
    log: EpisodeLog, states: FloatArray, rng: np.random.Generator, folds: int = 3, penalty: float = 1e-3
) -> FloatArray:
    """Return how much more often the target is in a step's state, and does there what was done, [n, T].

    The weight of a state is the mean of the weights of the ways to it: they are regressed on features of the states,
    step after step, without the episode itself.

    Args:
        log: the log.
        states: [n, T, d] features.
        rng: deals the episodes into the folds.
        folds: into how many.
        penalty: on the squares of the coefficients.

    Raises:
        EvaluationError: there are fewer than two folds, or fewer episodes than folds.
    """
    n, steps, dimensions = states.shape
    found = np.ones((n, steps))
    for train, part in deal(n, folds, rng):
        of_state = np.ones(n)
        for step in range(steps):
            found[part, step] = (of_state * log.weights[:, step])[part]
            if step + 1 == steps or not (rows := log.alive[:, step + 1] & train).any():
                break
            x, ways = states[:, step + 1], of_state * log.weights[:, step]
            system = x[rows].T @ x[rows] + penalty * np.eye(dimensions)
            of_state = np.maximum(x @ np.linalg.solve(system, x[rows].T @ ways[rows]), 0.0)
    return np.where(log.alive, found, 0.0)


def _normalise(weights: FloatArray) -> FloatArray:
    """Return weights [n, T] whose mean is one at each step; not a number where all are 0."""
    means = weights.mean(axis=0)
    return weights / np.where(means > 0, means, np.nan)


def _sum(log: EpisodeLog, values: FloatArray) -> FloatArray:
    """Return discounted sums [n] of values [n, T]."""
    sums: FloatArray = (log.discounts * values).sum(axis=1)
    return sums
