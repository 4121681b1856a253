"""Means with intervals from counts, sums and sums of squares: elementwise, over arrays of any shape."""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from rl.evaluation.abtests.estimates.sequences import radius, tightest
from rl.policy.arrays import FloatArray

TUNED_TO = 10_000.0
"""Decisions at which confidence sequences are the tightest. It must not follow from what was seen."""


@dataclass(frozen=True)
class Means:
    """Means, with the ends of their intervals; not a number where nothing can be said."""

    count: FloatArray
    value: FloatArray
    low: FloatArray
    high: FloatArray


def variance(count: FloatArray, total: FloatArray, squares: FloatArray) -> FloatArray:
    """Return the unbiased variance of values; not a number of fewer than two."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: FloatArray = np.maximum(squares - total**2 / count, 0.0) / (count - 1)
    return np.where(count >= 2, found, np.nan)


def pointwise(count: FloatArray, total: FloatArray, squares: FloatArray, confidence: float = 0.95) -> Means:
    """Return means with Student's intervals: each is right for itself, at one look, of independent values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(count > 0, total / count, np.nan)
        error = np.sqrt(variance(count, total, squares) / count)
    half = stats.t.ppf(0.5 + confidence / 2, np.maximum(count - 1, 1)) * error
    return Means(count, value, value - half, value + half)


def at_every_look(count: FloatArray, total: FloatArray, squares: FloatArray, alpha: float = 0.05) -> Means:
    """Return means with confidence sequences: one is ever wrong with a probability of alpha, however often one looks.

    Asymptotic, of independent values whose spread is estimated; see `rl.evaluation.abtests.estimates.sequences`.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.where(count > 0, total / count, np.nan)
        error = np.sqrt(variance(count, total, squares) / count)
    time = np.maximum(count, 1) / TUNED_TO * tightest(alpha)
    half = np.vectorize(lambda at: radius(at, alpha), otypes=[np.float64])(time) * error
    return Means(count, value, value - half, value + half)
