"""Logged decisions of one action each, as the estimators read them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.policy.arrays import FloatArray, IntArray

_ROUNDING = 1e-6
"""By how much a distribution's sum may differ from one."""
_FITTED = (
    "propensities were not logged but fitted: it holds if all that decided is among the model's features, "
    "and its interval knows nothing of the model's errors"
)


@dataclass(frozen=True)
class BanditLog:
    """What a policy did and what came of it, and what another one, the target, would have done."""

    chosen: IntArray
    """[n] positions of the actions that were taken, among the A of their decisions."""
    rewards: FloatArray
    """[n]."""
    propensities: FloatArray
    """[n] with which the chosen actions were taken, in (0, 1]."""
    target: FloatArray
    """[n, A] distributions of the target; 0 where a decision had no such candidate."""
    behaviour: FloatArray | None = None
    """[n, A] distributions that a model has fitted, where propensities were not logged; see `of_fitted`."""

    def __post_init__(self) -> None:
        """Check the arrays.

        Raises:
            EvaluationError: there are none, their shapes differ, or a value is none that they can have; says which.
        """
        n = len(self.chosen)
        for name, shape in (("chosen", (n,)), ("rewards", (n,)), ("propensities", (n,))):
            if (found := getattr(self, name).shape) != shape:
                raise EvaluationError(f"{name} must be {shape}, as many as chosen, got {found}")
        if not n:
            raise EvaluationError("there are no decisions to evaluate on")
        if self.target.ndim != 2 or len(self.target) != n:
            raise EvaluationError(f"target must be ({n}, actions), got {self.target.shape}")
        actions = self.target.shape[1]
        _check(self.chosen, (self.chosen >= 0) & (self.chosen < actions), f"chosen must be in [0, {actions})")
        _check(self.rewards, np.isfinite(self.rewards), "rewards must be finite")
        possible = (self.propensities > 0) & (self.propensities <= 1 + _ROUNDING)
        _check(self.propensities, possible, "propensities must be in (0, 1]: what cannot be taken is not logged")
        if self.target.min() < 0:
            _check(self.target, self.target >= 0, "target's probabilities must not be negative")
        _check_sums("target", self.target)
        if self.behaviour is not None:
            if self.behaviour.shape != self.target.shape:
                raise EvaluationError(f"behaviour must be {self.target.shape}, as target, got {self.behaviour.shape}")
            _check_sums("behaviour", self.behaviour)

    @classmethod
    def of_fitted(cls, chosen: IntArray, rewards: FloatArray, behaviour: FloatArray, target: FloatArray) -> Self:
        """Return a log without propensities: a fitted model's stand in for them.

        Args:
            chosen: see the class.
            rewards: see the class.
            behaviour: [n, A] distributions, of each decision by a model that has not seen it; see `models.behaviour`.
            target: see the class.

        Raises:
            EvaluationError: see the class; a propensity of 0 is that of an action which the model holds impossible.
        """
        if behaviour.ndim != 2 or len(behaviour) != len(chosen):
            raise EvaluationError(f"behaviour must be ({len(chosen)}, actions), got {behaviour.shape}")
        known = chosen.clip(0, behaviour.shape[1] - 1)  # one that is not, the constructor tells
        return cls(chosen, rewards, behaviour[np.arange(len(chosen)), known], target, behaviour)

    @property
    def weaker(self) -> str | None:
        """Why what is estimated from it is worth less than its interval says; None: it is not."""
        return None if self.behaviour is None else _FITTED

    def __len__(self) -> int:
        """Return how many decisions there are."""
        return len(self.chosen)

    @cached_property
    def weights(self) -> FloatArray:
        """Importance weights [n]: how much more often the target takes the chosen action."""
        weights: FloatArray = self.of_chosen(self.target) / self.propensities
        return weights

    def of_chosen(self, values: FloatArray) -> FloatArray:
        """Return the values [n] of the chosen actions, of some [n, A]."""
        of_chosen: FloatArray = values[np.arange(len(self)), self.chosen]
        return of_chosen

    def take(self, rows: IntArray) -> "BanditLog":
        """Return some of the decisions, by their numbers [m], which may repeat."""
        behaviour = None if self.behaviour is None else self.behaviour[rows]
        return BanditLog(self.chosen[rows], self.rewards[rows], self.propensities[rows], self.target[rows], behaviour)


@dataclass(frozen=True)
class Predictions:
    """What a reward model says of a log's decisions, each by one that has not seen its reward."""

    log: BanditLog
    values: FloatArray
    """[n, A]."""

    def __post_init__(self) -> None:
        """Check shape and values.

        Raises:
            EvaluationError: the shape is not the target's, or a prediction is no number; says which.
        """
        if self.values.shape != self.log.target.shape:
            wanted = self.log.target.shape
            raise EvaluationError(f"predicted rewards must be {wanted}, as the target, got {self.values.shape}")
        if not np.isfinite(self.expected).all():  # a sum over each row, needed anyway
            _check(self.values, np.isfinite(self.values), "predicted rewards must be finite")

    @cached_property
    def expected(self) -> FloatArray:
        """What the target is predicted to earn, [n]."""
        expected: FloatArray = np.einsum("na,na->n", self.log.target, self.values)
        return expected

    @cached_property
    def residuals(self) -> FloatArray:
        """Rewards beyond what was predicted, [n]."""
        return self.log.rewards - self.log.of_chosen(self.values)

    @property
    def explained(self) -> float:
        """The share of the rewards' variance that the predictions explain; negative: they are worse than the mean."""
        variance = float(self.log.rewards.var())
        return 1.0 - float(np.mean(self.residuals**2)) / variance if variance else 0.0

    def take(self, rows: IntArray) -> "Predictions":
        """Return those for some of the decisions, by their numbers [m], which may repeat."""
        return Predictions(self.log.take(rows), self.values[rows])


def _check_sums(name: str, distributions: FloatArray) -> None:
    sums = distributions @ np.ones(distributions.shape[1])
    _check(sums, np.abs(sums - 1) <= _ROUNDING, f"each row of {name} must sum to one")


def _check(values: FloatArray | IntArray, good: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], what: str) -> None:
    if not good.all():
        at = np.unravel_index(int(np.argmin(good)), good.shape)
        where = ", ".join(map(str, at))
        raise EvaluationError(f"{what}; got {values[at]:g} at [{where}]")
