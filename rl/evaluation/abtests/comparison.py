"""Variants beside the control, metric by metric: the rows of a scorecard."""

import numpy as np

from rl.evaluation.abtests.estimates.intervals import find_difference, find_lift
from rl.evaluation.abtests.estimates.ratios import Mean, Sums, find_coefficient, find_mean
from rl.evaluation.abtests.scorecard import Finding, Role, Row
from rl.evaluation.abtests.specification import ReadSpec
from rl.evaluation.abtests.units import DECISIONS, GOAL, PAST, PAST_DECISIONS, Units
from rl.policy.arrays import BoolArray

_MOST_SEGMENTS = 20
"""Values of a field that are shown, those with most users first."""


def compare_all(units: Units, control: str, spec: ReadSpec) -> list[Row]:
    """Return a row for each metric and variant; the error is divided among variants, and among guardrails.

    A union bound: whatever is true of one variant, it takes nothing from another.
    """
    others = [name for name in units.variants if name != control]
    each = spec.alpha / max(len(others), 1)
    metrics: list[tuple[str, Role, float]] = [(GOAL, "goal", each)]
    metrics += [(name, "secondary", each) for name in spec.secondary]
    metrics += [(name, "guardrail", each / len(spec.guardrails)) for name in spec.guardrails]
    return [row for metric, role, alpha in metrics for row in compare(units, control, metric, role, alpha, spec)]


def compare_segments(units: Units, control: str, spec: ReadSpec) -> list[Row]:
    """Return a row of the goal for each segment and variant; the error is divided among all of them too."""
    parts = list[tuple[str, BoolArray]]()
    for name in spec.segments:
        of = units.of_segment(name)
        values, counts = np.unique(of, return_counts=True)
        shown = values[np.argsort(-counts, kind="stable")][:_MOST_SEGMENTS]
        parts += [(f"{name}={value}", of == value) for value in shown]
    others = max(len(units.variants) - 1, 1)
    return [
        row
        for segment, where in parts
        for row in compare(units, control, GOAL, "secondary", spec.alpha / others / len(parts), spec, where, segment)
    ]


def compare(
    units: Units,
    control: str,
    metric: str,
    role: Role,
    alpha: float,
    spec: ReadSpec,
    where: BoolArray | None = None,
    segment: str | None = None,
) -> list[Row]:
    """Return how each variant compares with the control by one metric, of all users or some."""
    sums = {name: sums_of(units, name, metric, spec, where) for name in units.variants}
    coefficient, past = find_coefficient(list(sums.values()))
    means = {name: find_mean(arm, coefficient, past) for name, arm in sums.items()}
    few, base = {name for name, arm in sums.items() if len(arm) < spec.least_units}, means[control]
    rows = []
    for name in units.variants:
        if name == control:
            continue
        mean, difference, lift = means[name], None, None
        finding: Finding = "too early"
        if not {name, control} & few:
            difference = find_difference(mean, base, spec.effect, alpha, spec.kind == "sequential")
            if difference.low < difference.high < np.inf:
                lift = find_lift(difference, mean, base)
                finding = _judge(metric, role, mean, base, alpha, spec)
            else:
                difference, finding = None, "varies in nothing"
        rows.append(
            Row(
                metric=metric,
                role=role,
                variant=name,
                segment=segment,
                finding=finding,
                control_mean=base.value,
                mean=mean.value,
                difference=difference,
                deviation=None if difference is None else float(np.sqrt(mean.variance + base.variance)),
                lift=lift,
                interval=spec.kind,
                alpha=alpha,
                adjusted=coefficient != 0,
                margin=(_share(metric, base, spec) - 1) * base.value if role == "guardrail" else None,
            )
        )
    return rows


def _judge(metric: str, role: Role, mean: Mean, control: Mean, alpha: float, spec: ReadSpec) -> Finding:
    share = _share(metric, control, spec) if role == "guardrail" else 1.0
    beyond = find_difference(mean, control, spec.effect, alpha, spec.kind == "sequential", share)
    if beyond.low <= 0 <= beyond.high:
        return "unclear"
    above = beyond.low > 0
    if role == "guardrail":
        return "holds" if above == (spec.guardrails[metric] > 0) else "broken"
    if role == "goal":
        return "better" if above else "worse"
    return "higher" if above else "lower"


def _share(metric: str, control: Mean, spec: ReadSpec) -> float:
    """Return at which part of the control's mean a guardrail is broken: below it, above it where it is harmful."""
    return 1 - float(np.sign(spec.guardrails[metric] * control.value)) * spec.tolerance


def sums_of(units: Units, variant: str, metric: str, spec: ReadSpec, everyone: BoolArray | None = None) -> Sums:
    """Return what the users of a variant have earned, all of them or some."""
    where = units.of(variant)
    columns = units.columns((metric, DECISIONS), where)
    spread = units.spread(metric, variant, float(columns[:, 0].sum() / max(columns[:, 1].sum(), 1.0)))
    where = where if everyone is None else where & everyone
    earned, times, past, past_times = units.columns((metric, DECISIONS, PAST, PAST_DECISIONS), where).T
    if not spec.adjust or not past_times.any():
        return Sums(earned, times, spread=spread)
    return Sums(earned, times, past, past_times, spread)
