"""Predictions of rewards by models that have not seen them: cross-fitting, and what such predictions are worth."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rl.evaluation.calibration import Reliability, measure_reliability
from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.models.folds import deal
from rl.policy.arrays import FloatArray, IntArray

Fit: TypeAlias = Callable[[IntArray, IntArray], FloatArray]
"""Fits a model to some rows, and returns its predictions [m, A] for others."""


def cross_fit(fit: Fit, n: int, rng: np.random.Generator, folds: int = 3) -> FloatArray:
    """Return predictions [n, A], those of each row by a model that was fitted without it.

    A model that has seen the rewards which it then corrects would make doubly robust estimates too sure, and biased.

    Args:
        fit: what is fitted.
        n: how many rows there are.
        rng: deals them into the folds.
        folds: into how many.

    Raises:
        EvaluationError: there are fewer than two folds, or fewer rows than folds.
    """
    fitted = [(part, fit(np.flatnonzero(train), part)) for train, part in deal(n, folds, rng)]
    predicted = np.empty((n, fitted[0][1].shape[1]))
    for part, of_part in fitted:
        predicted[part] = of_part
    return predicted


def ridge(features: FloatArray, log: BanditLog, penalty: float = 1.0) -> Fit:
    """Return what fits a linear model for each action, with an intercept, by ridge regression.

    An action that has never been taken is predicted the mean reward of all.

    Args:
        features: [n, d] of the decisions.
        log: what was chosen, and its rewards.
        penalty: on the squares of the coefficients, but not on the intercept.
    """
    padded = np.column_stack([np.ones(len(features)), features])
    penalties = np.diag([1e-9, *[penalty] * features.shape[1]])

    def fit(train: IntArray, rows: IntArray) -> FloatArray:
        coefficients = np.zeros((padded.shape[1], log.target.shape[1]))
        coefficients[0] = log.rewards[train].mean()
        for action in np.unique(log.chosen[train]):
            of_action = train[log.chosen[train] == action]
            x, r = padded[of_action], log.rewards[of_action]
            coefficients[:, action] = np.linalg.solve(x.T @ x + penalties, x.T @ r)
        predicted: FloatArray = padded[rows] @ coefficients
        return predicted

    return fit


@dataclass(frozen=True)
class Accuracy:
    """How right predictions of rewards or ratings are, of the actions that were taken."""

    rmse: float
    """Root of the mean squared error, in units of the reward."""
    mae: float
    """Mean absolute error, in units of the reward."""
    explained: float
    """Share of the rewards' variance; negative: worse than their mean."""
    reliability: Reliability
    """What came, by what was predicted; its `expected_error` is the expected calibration error."""


def measure_accuracy(model: Predictions) -> Accuracy:
    """Return how right cross-fitted predictions are."""
    errors = model.residuals
    return Accuracy(
        rmse=float(np.sqrt(np.mean(errors**2))),
        mae=float(np.abs(errors).mean()),
        explained=model.explained,
        reliability=measure_reliability(model.log.of_chosen(model.values), model.log.rewards),
    )
