"""What a log can say of a target at all: how many decisions it is worth, and where they end."""

from dataclasses import dataclass
from typing import Final

import numpy as np

from rl.evaluation.offpolicy.estimators import Estimate
from rl.evaluation.offpolicy.log import BanditLog
from rl.evaluation.offpolicy.models.behaviour import reason_to_distrust
from rl.policy.arrays import FloatArray

_LEAST_DECISIONS: Final = 50
_LEAST_SIZE: Final = 20.0
_LARGEST_SHARE: Final = 0.25
_SIGNIFICANT: Final = 5.0
_ROUNDING: Final = 1e-5  # of weights, by propensities of .05 or more that are written with six digits


@dataclass(frozen=True)
class Support:
    """What the weights of a log say of it."""

    decisions: int
    effective_size: float
    """(sum w)^2 / sum w^2: how many decisions of the target itself would say as much."""
    largest_weight: float
    tail: dict[float, float]
    """Quantiles of the weights."""
    mean_weight: float
    """One, if propensities are right and the log may do all that the target does."""
    mean_weight_z: float
    """By how many of its standard errors the mean weight is above one; 0 within rounding of it."""


def measure_support(log: BanditLog) -> Support:
    """Return what a log's weights say of it."""
    weights = log.weights
    squares = float(weights @ weights)
    error = float(weights.std(ddof=1) / np.sqrt(len(log))) if len(log) > 1 else np.nan
    mean = float(weights.mean())
    off = mean - 1 if abs(mean - 1) > _ROUNDING else 0.0
    return Support(
        decisions=len(log),
        effective_size=float(weights.sum()) ** 2 / squares if squares else 0.0,
        largest_weight=float(weights.max()),
        tail={share: float(np.quantile(weights, share)) for share in (0.5, 0.9, 0.99, 0.999)},
        mean_weight=mean,
        mean_weight_z=0.0 if not off else off / error if error else np.copysign(np.inf, off),
    )


def reason_to_abstain(log: BanditLog, estimate: Estimate) -> str | None:
    """Return why a log cannot say what a target is worth, by an estimator; None if it can.

    An interval takes the spread from the terms that were seen. Where few of them make up most of it, there are others
    as large that were not; where all rewards are the same, none was seen, and an interval would have no width.
    """
    support = measure_support(log)
    if support.decisions < _LEAST_DECISIONS:
        return f"there are {support.decisions} decisions; less than {_LEAST_DECISIONS} say nothing of their own spread"
    if log.rewards.min() == log.rewards.max():
        return (
            f"all {support.decisions:,} rewards are {log.rewards[0]:g}: how often there are others, and how far off, "
            "the log cannot tell; only bounds from the limits of rewards can (sequences.value_bounds)"
        )
    if support.effective_size < _LEAST_SIZE:
        return (
            f"the log seldom does what the policy would: its {support.decisions:,} decisions say as much as "
            f"{support.effective_size:.1f} of the policy's own, and {_LEAST_SIZE:g} are the least"
        )
    if (z := abs(support.mean_weight_z)) > _SIGNIFICANT:
        return (
            f"the mean importance weight is {support.mean_weight:.3f}, {z:.1f} standard errors from 1: "
            "the policy does what the log never does, or the propensities are wrong"
        )
    if log.behaviour is not None and (reason := reason_to_distrust(log.behaviour, log.chosen)):
        return reason
    share = largest_share(estimate.terms)
    if share > _LARGEST_SHARE:
        return (
            f"one decision makes up {share:.0%} of the estimate's spread: how large the spread is, the log cannot tell"
        )
    return None


def largest_share(terms: FloatArray) -> float:
    """Return the share of the sum of squared deviations that is the largest term's."""
    squares = (terms - terms.mean()) ** 2
    total = float(squares.sum())
    return float(squares.max()) / total if total else 0.0
