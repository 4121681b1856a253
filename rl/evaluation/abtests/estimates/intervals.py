"""Intervals of a difference of two variants, of its ratio to the control, and of a single mean."""

import math

from pydantic import BaseModel, ConfigDict

from rl.evaluation.abtests.estimates.ratios import Mean, pair_weight
from rl.evaluation.abtests.estimates.sequences import fixed_radius, intrinsic_time, radius

_LEAST_EFFECT = 0.01
"""Effects are not smaller than this many standard deviations of a decision: a mean near 0 has no tenth."""


class Range(BaseModel):
    """A value with its interval."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    value: float
    low: float
    high: float


def half_width(weight: float, variance: float, control: Mean, effect: float, alpha: float, sequential: bool) -> float:
    """Return half of an interval's width.

    Args:
        weight: see `ratios.pair_weight`.
        variance: of the estimate.
        control: whose mean and spread are the scale.
        effect: share of the control's mean that is to be seen soonest.
        alpha: of the interval.
        sequential: it holds at every look.
    """
    if not sequential:
        return math.sqrt(variance) * fixed_radius(alpha)
    if control.spread <= 0 or variance <= 0 or weight <= 0:
        return math.inf
    seen = effect * max(abs(control.value), _LEAST_EFFECT * math.sqrt(control.spread))
    time = intrinsic_time(weight, variance, control.spread, seen, alpha)
    return math.sqrt(variance) * radius(time, alpha)


def find_difference(
    variant: Mean, control: Mean, effect: float, alpha: float, sequential: bool, share: float = 1.0
) -> Range:
    """Return variant minus `share` times control, with its interval; see `half_width`."""
    variance = variant.variance + share**2 * control.variance
    half = half_width(pair_weight(variant, control), variance, control, effect, alpha, sequential)
    value = variant.value - share * control.value
    return Range(value=value, low=value - half, high=value + half)


def find_lift(difference: Range, variant: Mean, control: Mean) -> Range | None:
    """Return the difference relative to the control, whose mean is uncertain too; None where that may be 0.

    By Fieller, at as many standard errors as the difference has; where the difference's interval has 0 in it,
    so has this one, and else not.
    """
    deviation = math.sqrt(variant.variance + control.variance)
    if deviation <= 0 or control.value == 0:
        return None
    z = (difference.high - difference.value) / deviation
    low, high = _fieller(variant, control, z)
    if low is None or high is None:
        return None
    sign = 1.0 if control.value > 0 else -1.0
    value = sign * (variant.value / control.value - 1)
    ends = sorted((sign * (low - 1), sign * (high - 1)))
    return Range(value=value, low=ends[0], high=ends[1])


def _fieller(variant: Mean, control: Mean, z: float) -> tuple[float | None, float | None]:
    """Return the ratios r at which variant - r control is z standard errors from 0 (Fieller 1954)."""
    a = control.value**2 - z**2 * control.variance
    if not math.isfinite(z) or a <= 0:
        return None, None
    b = variant.value * control.value
    c = variant.value**2 - z**2 * variant.variance
    root = math.sqrt(max(b**2 - a * c, 0.0))
    return (b - root) / a, (b + root) / a
