"""What a shadow or an apprentice says, whom nobody is shown: how often it would have shown the same, and what it earns.

The match is a share over users. What it would have earned is the mean of the rewards by how much more often it would
have shown what was shown (self-normalised importance weighting), also a ratio over users. What it is worth is limited
by what the shown policy never shows: for more, see `rl.evaluate` on the log.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from rl.evaluation.abtests.estimates.intervals import Range, half_width
from rl.evaluation.abtests.estimates.ratios import Mean, Sums, add_by_user, find_mean
from rl.evaluation.abtests.scorecard import Part
from rl.evaluation.abtests.specification import ReadSpec
from rl.policy.arrays import FloatArray, IntArray


class Shadow(Part):
    """What is known of one variant that nobody is shown."""

    variant: str
    users: int
    decisions: int
    match: Range | None
    """Share of the decisions in which it would have shown the same first; None: too early."""
    earned: float | None = None
    """Mean reward of these decisions, as shown; None: rewards or probabilities are not known."""
    would_earn: Range | None = None
    """What it would have earned, with an interval for one look."""
    effective_decisions: float | None = None
    """How many decisions without weights would say as much: (sum of weights)^2 / sum of squares (Kish)."""


class Imitation(Part):
    """What is known of those that nobody is shown."""

    format: Literal[1] = 1
    interval: Literal["sequential", "fixed"]
    """Of `match`; `would_earn` is for one look that was planned."""
    shadows: tuple[Shadow, ...]

    @property
    def switch_off(self) -> dict[str, str]:
        """Nobody: nobody is shown them."""
        return {}


def read_shadows_out(shadows: pa.Table, variants: Sequence[str], spec: ReadSpec | None = None) -> Imitation:
    """Return how variants that nobody is shown would have decided.

    Args:
        shadows: a row for each decision and variant, with the columns variant, match, decision_id, or unit (whose
            decision it was); and if known, reward, propensity (of what was shown), probability (of the same, by the
            variant).
        variants: of the test.
        spec: how the test is read.
    """
    spec = spec or ReadSpec()
    variant = np.array(shadows["variant"].to_pylist(), dtype=np.str_)
    unit = np.array(shadows["unit" if "unit" in shadows.column_names else "decision_id"].to_pylist(), dtype=np.str_)
    match = np.array(shadows["match"].to_pylist(), dtype=np.float64)
    weighed = {"reward", "propensity", "probability"} <= {*shadows.column_names}
    read = []
    for name in variants:
        where = variant == name
        _, index = np.unique(unit[where], return_inverse=True)
        same, users = match[where], int(index.max()) + 1 if len(index) else 0
        found = Shadow(variant=name, users=users, decisions=len(same), match=_share(same, index, users, spec))
        if weighed and users >= spec.least_units:
            reward, propensity, probability = (
                np.array(shadows[column].to_pylist(), dtype=np.float64)[where]
                for column in ("reward", "propensity", "probability")
            )
            weights = probability / propensity
            mean = find_mean(Sums(add_by_user(index, weights * reward), add_by_user(index, weights)))
            half = half_width(mean.times, mean.variance, mean, spec.effect, spec.alpha, sequential=False)
            would = Range(value=mean.value, low=mean.value - half, high=mean.value + half)
            effective = float(weights.sum() ** 2 / max((weights**2).sum(), 1e-300))
            earned = {"earned": float(reward.mean()), "would_earn": would, "effective_decisions": effective}
            found = found.model_copy(update=earned)
        read.append(found)
    return Imitation(interval=spec.kind, shadows=tuple(read))


def _share(match: FloatArray, index: IntArray, users: int, spec: ReadSpec) -> Range | None:
    if users < spec.least_units:
        return None
    mean = find_mean(Sums(add_by_user(index, match), add_by_user(index, np.ones_like(match))))
    scale = Mean(mean.value, 0.0, mean.times, mean.value * (1 - mean.value))
    half = half_width(mean.times, mean.variance, scale, spec.effect, spec.alpha, spec.kind == "sequential")
    if not np.isfinite(half):  # it has always matched, or never
        half = 1.0
    return Range(value=mean.value, low=max(mean.value - half, 0.0), high=min(mean.value + half, 1.0))
