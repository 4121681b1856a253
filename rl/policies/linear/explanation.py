"""Explanations of linear models: a score is the prior's centre and a weight times each feature, exactly."""

from collections.abc import Sequence

import numpy as np

from rl.policy.arrays import FloatArray
from rl.policy.explanation.parts import (
    Contribution,
    ItemExplanation,
    Share,
    Uncertainty,
    largest,
    largest_shares,
)

Several = tuple[str, ...]
"""Names of features that are multiplied."""


def explain_sum(
    score: float, base: float, names: Sequence[Several], features: FloatArray, weights: FloatArray, top: int
) -> ItemExplanation:
    """Explain a score that is a base and the sum of features [G] times weights [G], with a name for each."""
    parts = features * weights
    found = [Contribution(names[i], float(features[i]), float(parts[i])) for i in np.flatnonzero(parts).tolist()]
    return ItemExplanation(score, base, *largest(found, top))


def uncertainty_of(names: Sequence[Several], variances: FloatArray, top: int) -> Uncertainty:
    """Return the uncertainty whose variance is the sum of parts [G], with a name for each.

    Of a Gaussian with covariance V a feature's part in φᵀVφ is φᵢ(Vφ)ᵢ: that of a lone one is its own variance.
    """
    variance = max(float(variances.sum()), 0.0)
    shares = variances / variance if variance > 0.0 else np.zeros(len(variances))
    found = [Share(names[i], float(shares[i])) for i in np.flatnonzero(shares).tolist()]
    return Uncertainty(float(np.sqrt(variance)), *largest_shares(found, top))
