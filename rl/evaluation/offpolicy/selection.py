"""Which estimator to believe on a log: cross-validation between them, over all divisions at once.

Cross-validation gives a part of the log to an estimator, the rest to one that is unbiased, the validator, and takes the
mean squared distance over many divisions. As estimates are means of terms, that mean is known for all divisions
together: the variances of both, and the square of how far their values on the whole log are apart, less the variance of
that distance. So nothing is divided here, and the divisions' own chance, which decided more than the log, is gone.

The validator is DR where the reward model predicts what it has not seen, and IPS where it does not. Estimators that are
consistent whatever the model have no distance to it but by chance: their variance alone counts. Of the others the
distance does, and it is added its variance, not deducted: one that is near by chance would be believed too often. The
estimator that assumes least is believed, unless another's loss is less by more than a standard error. Thresholds of
weights are not selected so: closed forms do better.

Source: Cief, Kompan and Kveton (2024), Cross-validated off-policy evaluation, arXiv 2405.15332.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from rl.evaluation.offpolicy.estimators import ESTIMATORS, Estimate
from rl.evaluation.offpolicy.log import Predictions
from rl.policy.arrays import FloatArray

CANDIDATES: Final = ("snips", "sndr", "dros", "switch_dr", "dr", "ips", "dm")
"""The one that assumes least first: SNIPS needs neither a model nor rewards that are anything in the mean."""
_CONSISTENT: Final = ("snips", "sndr", "dr", "ips")
_FEW: Final = 50
"""Decisions below which nothing is selected: SNIPS needs no model, and its value is among the rewards."""
_PREDICTS: Final = 0.1
"""Share of the rewards' variance from which on a model is one that predicts."""


def choose_validator(model: Predictions) -> str:
    """Return "dr" where cross-fitted predictions explain the rewards, or propensities were fitted, else "ips"."""
    return "dr" if model.log.weaker or model.explained > _PREDICTS else "ips"


def select(model: Predictions, candidates: Sequence[str] = CANDIDATES, validator: str | None = None) -> Estimate:
    """Return the estimate to believe.

    Args:
        model: a log with cross-fitted predictions.
        candidates: names of ESTIMATORS, the one to prefer first. One that has no value, as the log never does what the
            target would, is left out.
        validator: "ips" or "dr"; default: `choose_validator`.
    """
    estimates = {name: ESTIMATORS[name](model) for name in candidates}
    if len(model.log) < _FEW:
        return estimates.get("snips", estimates[candidates[0]])
    judge = ESTIMATORS[validator or choose_validator(model)](model)
    losses = {name: validation_losses(of, judge) for name, of in estimates.items() if np.isfinite(of.value)}
    if not losses:
        return estimates[candidates[0]]
    first, best = next(iter(losses)), min(losses, key=lambda name: float(losses[name].mean()))
    less = losses[first] - losses[best]
    return estimates[best if less.mean() > less.std(ddof=1) / np.sqrt(len(less)) else first]


def validation_losses(estimate: Estimate, validator: Estimate) -> FloatArray:
    """Return terms [n] whose mean is n times an estimate's mean squared error, as far as a validator tells.

    Args:
        estimate: whose.
        validator: an unbiased one, of the same log.
    """
    losses: FloatArray = (estimate.terms - estimate.value) ** 2
    if estimate.name in _CONSISTENT:
        return losses
    apart = estimate.terms - validator.terms
    return losses + len(apart) * float(apart.mean()) ** 2 + float(apart.var())
