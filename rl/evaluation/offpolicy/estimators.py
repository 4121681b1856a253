"""Estimators of a policy's value from another's log: vectorised, each with a term for every decision.

The mean of an estimator's terms is its value, and their spread its uncertainty. Those that divide by the sum of the
weights have linearised terms: value + w (r - value) / mean(w), which is exact to the first order (delta method).

Sources: IPS Horvitz and Thompson (1952); SNIPS Swaminathan and Joachims (2015); DR Dudik, Langford and Li (2011);
Switch-DR Wang, Agarwal and Dudik (2017); DRos Su, Dimakopoulou, Krishnamurthy and Dudik (2020), equation 9.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np

from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.evaluation.offpolicy.thresholds import largest_weight, shrinkage
from rl.policy.arrays import FloatArray


@dataclass(frozen=True)
class Estimate:
    """What an estimator says of the target."""

    name: str
    terms: FloatArray
    """[n]."""
    weaker: str | None = None
    """Why it is worth less than its interval says, as of fitted propensities; None: it is not."""

    @cached_property
    def value(self) -> float:
        """The mean of the terms."""
        return float(self.terms.mean())

    @property
    def standard_error(self) -> float:
        """Of the value; not a number for a single decision."""
        return float(self.terms.std(ddof=1) / np.sqrt(len(self.terms))) if len(self.terms) > 1 else np.nan


def ips(log: BanditLog) -> Estimate:
    """Weigh each reward by how much more often the target takes the action: unbiased, of a large variance."""
    return Estimate("ips", log.weights * log.rewards, log.weaker)


def snips(log: BanditLog) -> Estimate:
    """Divide by the sum of the weights, not by n: a bias that goes with 1/n, and a value among the rewards."""
    return Estimate("snips", _normalise(log.weights, log.rewards), log.weaker)


def dm(model: Predictions) -> Estimate:
    """Believe the reward model: its errors are the estimate's."""
    return Estimate("dm", model.expected)


def dr(model: Predictions) -> Estimate:
    """Correct the model by what was seen: unbiased, and as precise as the model is good."""
    return _correct("dr", model, model.log.weights)


def sndr(model: Predictions) -> Estimate:
    """Correct the model, the corrections divided by the sum of their weights."""
    terms = model.expected + _normalise(model.log.weights, model.residuals)
    return Estimate("sndr", terms, model.log.weaker)


def switch_dr(model: Predictions, threshold: float | None = None) -> Estimate:
    """Correct the model where the weight is at most a threshold; default: `largest_weight`."""
    weights = model.log.weights
    limit = largest_weight(weights) if threshold is None else threshold
    return _correct("switch_dr", model, np.where(weights <= limit, weights, 0.0))


def dros(model: Predictions, amount: float | None = None) -> Estimate:
    """Correct the model with shrunken weights, w l / (w^2 + l); default of l: `shrinkage`."""
    weights = model.log.weights
    lam = shrinkage(weights) if amount is None else amount
    return _correct("dros", model, weights if np.isinf(lam) else weights * lam / (weights**2 + lam))


ESTIMATORS: Final[Mapping[str, Callable[[Predictions], Estimate]]] = {
    "ips": lambda model: ips(model.log),
    "snips": lambda model: snips(model.log),
    "dm": dm,
    "dr": dr,
    "sndr": sndr,
    "switch_dr": switch_dr,
    "dros": dros,
}
"""By name."""


def _correct(name: str, model: Predictions, weights: FloatArray) -> Estimate:
    return Estimate(name, model.expected + weights * model.residuals, model.log.weaker)


def _normalise(weights: FloatArray, values: FloatArray) -> FloatArray:
    """Return the weighted mean's terms; no numbers where all weights are 0: the log has nothing of what is asked."""
    total = weights.sum()
    if not total:
        return np.full(len(weights), np.nan)
    value = weights @ values / total
    terms: FloatArray = value + weights * (values - value) * (len(weights) / total)
    return terms
