"""Ratios of means over users and their differences, with variances by the delta method; CUPED for what is known before.

A metric of decisions is a ratio of two sums over users, what they earned and how often they decided: users are
independent, decisions of one are not, so the variance is that of users' residuals.

Sources: Deng, Knoblich and Lu (2018), Applying the delta method in metric analytics; Deng, Xu, Kohavi and Walker
(2013), Improving the sensitivity of online controlled experiments by utilizing pre-experiment data. The past is a ratio
too, as tea-tasting has it: a test holds ours to it.
"""

from dataclasses import dataclass

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Sums:
    """Users of a variant."""

    earned: FloatArray
    """[users] what each has earned."""
    times: FloatArray
    """[users] in how many decisions."""
    past: FloatArray | None = None
    """[users] what each had earned before,"""
    past_times: FloatArray | None = None
    """[users] and in how many decisions."""
    spread: float = 0.0
    """Variance of the reward of one decision."""

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.earned)


@dataclass(frozen=True)
class Mean:
    """A mean over decisions."""

    value: float
    variance: float
    """Of the value, by users."""
    times: float
    """Decisions."""
    spread: float


def add_by_user(index: IntArray, values: FloatArray | BoolArray) -> FloatArray:
    """Return the sums [users] of values [n], given whose each is."""
    sums: FloatArray = np.bincount(index, values.astype(np.float64)).astype(np.float64)
    return sums


def linearise(earned: FloatArray, times: FloatArray) -> tuple[float, FloatArray]:
    """Return the ratio of two sums, and residuals [users] whose mean has the variance of the ratio."""
    total = float(times.sum())
    if total <= 0:
        return 0.0, np.zeros_like(earned)
    ratio = float(earned.sum()) / total
    return ratio, (earned - ratio * times) * (len(times) / total)


def find_coefficient(arms: list[Sums]) -> tuple[float, float]:
    """Return how much of the past to take off, and the past's ratio over all variants; 0 where nothing is known."""
    if any(arm.past is None or arm.past_times is None for arm in arms):
        return 0.0, 0.0
    _, residual = linearise(np.concatenate([a.earned for a in arms]), np.concatenate([a.times for a in arms]))
    mean, past = linearise(
        np.concatenate([a.past for a in arms if a.past is not None]),
        np.concatenate([a.past_times for a in arms if a.past_times is not None]),
    )
    spread = float(past @ past)
    return (float(residual @ past) / spread if spread > 0 else 0.0), mean


def find_mean(arm: Sums, coefficient: float = 0.0, past_mean: float = 0.0) -> Mean:
    """Return the mean of a variant, adjusted for the past; both of `find_coefficient`."""
    value, residual = linearise(arm.earned, arm.times)
    if coefficient and arm.past is not None and arm.past_times is not None:
        of_past, past = linearise(arm.past, arm.past_times)
        value -= coefficient * (of_past - past_mean)
        residual = residual - coefficient * past
    n = len(arm)
    variance = float(residual @ residual) / (n - 1) / n if n > 1 else np.inf
    return Mean(value, variance, float(arm.times.sum()), arm.spread)


def pair_weight(one: Mean, other: Mean) -> float:
    """Return of how many pairs of decisions a difference is."""
    total = one.times + other.times
    return one.times * other.times / total if total else 0.0
