"""How many users a test of a fixed size needs, and what it says once it has them: by tea-tasting.

Imports tea-tasting, which takes a second, in the first call.
"""

from math import ceil
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from rl.evaluation.abtests.estimates.ratios import Sums
from rl.evaluation.abtests.estimates.sequences import fixed_radius, radius, tightest

POWER = 0.8


class FixedReading(BaseModel):
    """What a test says at the one look that was planned; see tea-tasting's `MeanResult`."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    control: float
    treatment: float
    effect_size: float
    effect_size_ci_lower: float
    effect_size_ci_upper: float
    rel_effect_size: float
    rel_effect_size_ci_lower: float
    rel_effect_size_ci_upper: float
    pvalue: float
    statistic: float


def read_fixed(control: Sums, treatment: Sums, alpha: float = 0.05) -> FixedReading:
    """Return what a test of a fixed size says of a variant beside the control, adjusted for the past if it is given."""
    covered = control.past is not None and treatment.past is not None
    result = _metric(covered, confidence_level=1 - alpha).analyze_aggregates(
        _aggregate(control, covered), _aggregate(treatment, covered)
    )
    return FixedReading(**{name: float(value) for name, value in result._asdict().items()})


def users_needed(control: Sums, effect: float, alpha: float = 0.05, power: float = POWER, variants: int = 2) -> int:
    """Return how many users a test of a fixed size needs in all, to see a relative effect with a power.

    Args:
        control: users as the test will have.
        effect: change of the mean, relative to it.
        alpha: of the test, two-sided; it is divided among the variants beside the control.
        power: with which it is seen.
        variants: of equal shares, the control among them.
    """
    covered = control.past is not None
    metric = _metric(covered, rel_effect_size=effect, alpha=alpha / max(variants - 1, 1), power=power)
    (found,) = metric.solve_power_from_aggregates(_aggregate(control, covered), "n_obs")
    return ceil(float(found.n_obs) * variants / 2)


def looking_costs(alpha: float, power: float = POWER) -> float:
    """Return about how many times as many users it takes where one looks always.

    Until a sequence excludes 0, if the estimate is what is true, over what a fixed test with a power needs.
    """
    fixed = fixed_radius(alpha) + fixed_radius(2 * (1 - power))
    return (radius(tightest(alpha), alpha) / fixed) ** 2


def _metric(covered: bool, **options: Any) -> Any:
    from tea_tasting.metrics import RatioOfMeans

    past = ("past", "past_times") if covered else (None, None)
    return RatioOfMeans("earned", "times", *past, equal_var=False, use_t=False, **options)


def _aggregate(arm: Sums, covered: bool) -> Any:
    from tea_tasting.aggr import Aggregates

    columns = {"earned": arm.earned, "times": arm.times}
    if covered:
        assert arm.past is not None, "the caller has looked"
        assert arm.past_times is not None, "who knows one knows both"
        columns |= {"past": arm.past, "past_times": arm.past_times}
    names = sorted(columns)
    moments = np.cov(np.stack([columns[name] for name in names]))
    return Aggregates(
        count_=len(arm),
        mean_={name: float(columns[name].mean()) for name in names},
        var_={name: float(moments[at, at]) for at, name in enumerate(names)},
        cov_={
            (one, other): float(moments[at, to])
            for at, one in enumerate(names)
            for to, other in enumerate(names)
            if one < other
        },
    )
