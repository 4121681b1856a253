"""By how much a challenger is better than the champion: everything that the verdict rests on, from evidence alone."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from rl.evaluation.offpolicy.difference import Difference, difference
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.evaluation.offpolicy.estimators import Estimate
from rl.evaluation.offpolicy.improvement import measure_improvement
from rl.evaluation.offpolicy.intervals import hall
from rl.evaluation.offpolicy.selection import CANDIDATES, select
from rl.evaluation.offpolicy.sequences import FIRST
from rl.evaluation.offpolicy.support import measure_support, reason_to_abstain
from rl.gate.evidence import Evidence
from rl.gate.specification import DEFAULT, GateSpec
from rl.policy.arrays import BoolArray, FloatArray, IntArray

WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Bounds of the bins of importance weights."""
_CANDIDATES = tuple(name for name in CANDIDATES if name != "dm")
"""Estimators with an interval: what the reward model alone predicts hides by how much the model is wrong."""
_POINTS = 60
"""Of a curve in the report."""
_ROUNDING = 1e-6
"""What is no reward: as far as rewards that were all 0 are taken to go, and by how much it never is worse."""


class Part(BaseModel):
    """Base of the parts of a report."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(Part):
    """A value with its interval, for a log that is looked at once."""

    value: float
    low: float
    high: float


class PolicyValue(Part):
    """What a policy would have earned a decision."""

    estimator: str
    value: Range | None
    effective_size: float
    largest_weight: float
    weights: dict[str, float]
    """Quantiles."""
    bins: tuple[int, ...]
    """How many decisions have a weight of 0, up to each of `WEIGHTS`, and above."""
    abstains: str | None
    """Why the log cannot tell; None: it can."""


class Look(Part):
    """What was known after so many decisions."""

    decisions: int
    time_us: int
    champion: float
    """What the log has earned a decision since the look before."""
    challenger: float
    """What the challenger would have."""
    difference: float
    lower: float | None
    """The bound of the difference so far that holds at all looks at once; None: there is none yet."""


class Bound(Part):
    """The difference of challenger and champion, on all decisions or on some."""

    name: str
    kind: Literal["all", "segment", "guardrail"]
    decisions: int
    difference: Range | None
    """None: there are too few decisions."""
    lower: float | None
    needed: float
    """What the lower bound must be above."""
    champion: float
    """What the log earned."""

    @property
    def holds(self) -> bool:
        """Whether the bound is above what it must be."""
        return self.lower is not None and self.lower > self.needed


class Comparison(Part):
    """Challenger and champion on one log."""

    decisions: int
    slots: tuple[int, int]
    rewards: tuple[float, float]
    """The least and the most that a decision can earn."""
    assumed: tuple[str, ...] = ()
    """What the bounds hold under, and only the log says: how large rewards are, how seldom something is shown."""
    most: tuple[float, float]
    """The largest weights that challenger and champion can have; 1: the champion made all decisions itself."""
    own: float
    """Share of the decisions that the champion made."""
    level: float
    """The probability that the bounds of a challenger that is not better are ever wrong."""
    challenger: PolicyValue
    champion: PolicyValue
    all: Bound
    guarded: tuple[Bound, ...]
    looks: tuple[Look, ...]
    anything: Range | None
    """By how much acting greedily by the reward model would beat the log; None: the log cannot tell, or has slates."""
    calibration: Range | None
    """The mean weight of the challenger: 1 if propensities are right."""


def compare(evidence: Evidence, spec: GateSpec, level: float) -> Comparison:
    """Return what the evidence says, at a level that holds however often one looks.

    Raises:
        EvaluationError: there are too few decisions, or a reward or a weight is out of the bounds that were given.
    """
    if len(evidence) <= FIRST:
        raise EvaluationError(f"{len(evidence)} decisions can be evaluated on, and more than {FIRST} are needed")
    limits = {name: _limits(evidence, spec, name) for name in spec.metrics}
    most = _most(evidence, spec)
    every = np.ones(len(evidence), np.bool_)
    terms = {name: _difference(evidence, name, limits[name], most) for name in spec.metrics}
    whole = terms[DEFAULT]
    looks = np.append(np.arange(spec.look, len(evidence), spec.look), len(evidence))
    lower = whole.lower_bounds(level, spec.horizon, looks)
    guarded = []
    for key, segments in evidence.segments.items():
        for segment in sorted({*segments.tolist()}):
            rows = segments == segment
            guarded.append(_bound(evidence, DEFAULT, whole, rows, spec, level, f"{key} = {segment}", "segment"))
    for name in spec.guardrails:
        guarded.append(_bound(evidence, name, terms[name], every, spec, level, name, "guardrail"))
    return Comparison(
        decisions=len(evidence),
        slots=(int(evidence.slots.min()), int(evidence.slots.max())),
        rewards=limits[DEFAULT],
        assumed=_assumed(evidence, spec, limits),
        most=most,
        own=float(evidence.own.mean()),
        level=level,
        challenger=_value(evidence, 0),
        champion=_value(evidence, 1),
        all=_bound(evidence, DEFAULT, whole, every, spec, level, "all decisions", "all"),
        guarded=tuple(guarded),
        looks=_looks(evidence, whole.terms, looks, lower),
        anything=_anything(evidence),
        calibration=_range(evidence.weights[:, 0]),
    )


def _limits(evidence: Evidence, spec: GateSpec, metric: str) -> tuple[float, float]:
    if metric == DEFAULT and spec.rewards is not None:
        return spec.rewards
    of = evidence.metrics[metric]
    low = min(float(of.lowest.min()), 0.0)
    return low, max(float(of.rewards.max()), low + _ROUNDING)


def _assumed(evidence: Evidence, spec: GateSpec, limits: Mapping[str, tuple[float, float]]) -> tuple[str, ...]:
    """Return which limits are nobody's word: no data can say what has not been seen yet."""
    found, slots = list[str](), int(evidence.slots.max())
    for name, (low, high) in limits.items():
        limit = spec.metrics[name].limit * slots  # which the rewards of a slot are kept within
        if not (name == DEFAULT and spec.rewards is not None) and (low > -limit or high < limit):
            of = "" if name == DEFAULT else f" for {name}"
            low, high = (0.0 if abs(one) <= _ROUNDING * (high - low) else one for one in (low, high))  # of sums
            found.append(f"no decision earns less than {low:.4g} or more than {high:.4g}{of}")
    if spec.least_propensity is None and evidence.least.min() < 1:
        found.append(f"nothing is ever shown with a probability of less than {evidence.least.min():.3g}")
    return tuple(found)


def _most(evidence: Evidence, spec: GateSpec) -> tuple[float, float]:
    least = min(float(evidence.least.min()), 1.0) if spec.least_propensity is None else spec.least_propensity
    return 1 / least, 1.0 if evidence.own.all() else 1 / least


def _difference(evidence: Evidence, metric: str, limits: tuple[float, float], most: tuple[float, float]) -> Difference:
    """Return the terms of challenger minus champion: doubly robust ones, or of slates each slot by those above it."""
    of, low = evidence.metrics[metric], limits[0]
    if evidence.single:
        challenger, champion = evidence.log(0, metric), evidence.log(1, metric)
        predicted = challenger.values.copy()
        # Where nothing else could have been shown, no log knows what it earns: the least, the champion the most.
        predicted[evidence.propensity >= 1.0, 1:] = limits
        return difference(challenger.log, champion.log, predicted, limits, most, of.cap)
    if of.lowest.min() < low or of.rewards.max() > limits[1]:
        found = f"{of.lowest.min():g} in a slot to {of.rewards.max():g}"
        raise EvaluationError(f"rewards must be in [{low:g}, {limits[1]:g}], got {found}")
    terms = (of.weighted[:, 0] - low * evidence.mass[:, 0]) - (of.weighted[:, 1] - low * evidence.mass[:, 1])
    longest = int(evidence.slots.max())
    try:
        largest = float(most[1]) ** longest  # of all slots; what these earn above the least is at most high - low each
    except OverflowError:
        raise EvaluationError(f"weights of {longest} slots may be of any size: no bound holds of them") from None
    least = low * longest - limits[1]
    return Difference(terms, largest * least * (1 + _ROUNDING), least)


def _bound(
    evidence: Evidence,
    metric: str,
    whole: Difference,
    rows: BoolArray,
    spec: GateSpec,
    level: float,
    name: str,
    kind: Literal["all", "segment", "guardrail"],
) -> Bound:
    terms, rewards = whole.terms[rows], evidence.metrics[metric].rewards
    lower = None
    if len(terms) > FIRST:
        horizon = max(int(spec.horizon * rows.mean()), FIRST)
        lower = _finite(replace(whole, terms=terms).lower_bounds(level, horizon, np.array([len(terms)]))[0])
    mean = float(rewards[rows].mean())
    needed = spec.margin if kind == "all" else -max(spec.tolerance * abs(mean), _ROUNDING)
    return Bound(
        name=name,
        kind=kind,
        decisions=len(terms),
        difference=_range(terms),
        lower=lower,
        needed=needed,
        champion=mean,
    )


def _value(evidence: Evidence, policy: int) -> PolicyValue:
    """Return what a policy would have earned, by the estimator that the log chooses; of slates by weighing each slot
    with those above it.
    """
    if evidence.single:
        model = evidence.log(policy, DEFAULT)
        log, estimate = model.log, select(model, _CANDIDATES)
        abstains = reason_to_abstain(log, estimate)
    else:
        log = evidence.slates_log(policy)
        estimate = Estimate("cascade_ips", evidence.metrics[DEFAULT].weighted[:, policy])
        abstains = reason_to_abstain(log, estimate)
    support = measure_support(log)
    return PolicyValue(
        estimator=estimate.name,
        value=_range(estimate.terms),
        effective_size=support.effective_size,
        largest_weight=support.largest_weight,
        weights={f"{share:g}": weight for share, weight in support.tail.items()},
        bins=tuple(np.bincount(np.searchsorted(WEIGHTS, log.weights), minlength=len(WEIGHTS) + 1).tolist()),
        abstains=abstains,
    )


def _looks(evidence: Evidence, terms: FloatArray, looks: IntArray, lower: FloatArray) -> tuple[Look, ...]:
    rewards, cumulative = evidence.metrics[DEFAULT].rewards, np.cumsum(terms)
    shown = looks if len(looks) <= _POINTS else looks[np.linspace(0, len(looks) - 1, _POINTS).astype(np.int64)]
    found, before = [], 0
    for look in shown.tolist():
        earned, better = float(rewards[before:look].mean()), float(terms[before:look].mean())
        found.append(
            Look(
                decisions=look,
                time_us=int(evidence.time_us[look - 1]),
                champion=earned,
                challenger=earned + better,
                difference=float(cumulative[look - 1] / look),
                lower=_finite(lower[int(np.searchsorted(looks, look))]),
            )
        )
        before = look
    return tuple(found)


def _anything(evidence: Evidence) -> Range | None:
    if not evidence.single:
        return None
    found = measure_improvement(*evidence.improvement_log())
    if found.abstains is not None:
        return None
    return Range(value=found.estimate.value, low=found.interval.low, high=found.interval.high)


def _range(terms: FloatArray) -> Range | None:
    if len(terms) < 2 or not np.isfinite(terms).all():
        return None
    interval = hall(terms)
    return Range(value=float(terms.mean()), low=interval.low, high=interval.high)


def _finite(bound: float) -> float | None:
    return float(bound) if np.isfinite(bound) else None
