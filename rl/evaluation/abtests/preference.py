"""What an interleaved test says: which of two variants' items users prefer, in slates that both have filled.

A decision is won by the variant whose items earned more; where both earned the same it says nothing. Users are
independent, the decisions of one are not: the share of wins is a ratio over users, as other metrics are.

Source: Chapelle, Joachims, Radlinski and Yue (2012), Large-scale validation and analysis of interleaved search
evaluation.
"""

from typing import Literal

import numpy as np

from rl.evaluation.abtests.estimates.intervals import Range, half_width
from rl.evaluation.abtests.estimates.ratios import Mean, Sums, add_by_user, find_mean
from rl.evaluation.abtests.scorecard import Decision, Part
from rl.evaluation.abtests.specification import ReadSpec
from rl.evaluation.offpolicy.errors import EvaluationError
from rl.policy.arrays import FloatArray


class Preference(Part):
    """What is known of two variants that fill slates together."""

    format: Literal[1] = 1
    name: str
    variant: str
    """Whose wins are counted, against those of"""
    control: str
    users: int
    decisions: int
    wins: int
    losses: int
    share: Range | None
    """Of the decisions that were won by either, those by the variant; None: too early."""
    credit: float | None
    """Of all that was earned, what the variant's items earned; None where some of it is less than 0."""
    interval: Literal["sequential", "fixed"]
    alpha: float
    decision: Decision

    @property
    def switch_off(self) -> dict[str, str]:
        """The variant with the reason, where users prefer the control."""
        return self.decision.switch_off


def read_preference(
    unit: FloatArray | list[str],
    variant_earned: FloatArray,
    control_earned: FloatArray,
    names: tuple[str, str],
    spec: ReadSpec,
    name: str = "",
) -> Preference:
    """Return which variant's items are preferred.

    Args:
        unit: [n] whose decision it was.
        variant_earned: [n] by the items that the variant chose.
        control_earned: [n] by those of the control.
        names: of variant and control.
        spec: how the test is read.
        name: of the test.

    Raises:
        EvaluationError: the arrays are not of the same decisions.
    """
    if not len(unit) == len(variant_earned) == len(control_earned):
        raise EvaluationError("an interleaved test needs both variants' rewards of each decision")
    _, index = np.unique(np.asarray(unit), return_inverse=True)
    users = int(index.max()) + 1 if len(index) else 0
    won, lost = variant_earned > control_earned, variant_earned < control_earned
    wins, decided = add_by_user(index, won), add_by_user(index, won | lost)
    total = float(variant_earned.sum() + control_earned.sum())
    credit = None
    if total > 0 and min(variant_earned.min(), control_earned.min()) >= 0:
        credit = float(variant_earned.sum()) / total
    share = None
    if users >= spec.least_units and decided.sum():
        mean = find_mean(Sums(wins, decided))
        even = Mean(0.5, 0.0, mean.times, 0.25)
        half = half_width(mean.times, mean.variance, even, spec.effect, spec.alpha, spec.kind == "sequential")
        share = Range(value=mean.value, low=mean.value - half, high=mean.value + half)
    return Preference(
        name=name,
        variant=names[0],
        control=names[1],
        users=users,
        decisions=len(index),
        wins=int(won.sum()),
        losses=int(lost.sum()),
        share=share,
        credit=credit,
        interval=spec.kind,
        alpha=spec.alpha,
        decision=_decide(share, names, users, spec),
    )


def _decide(share: Range | None, names: tuple[str, str], users: int, spec: ReadSpec) -> Decision:
    variant, control = names
    if share is None:
        few = f"{users:,} users, {spec.least_units:,} are needed"
        return Decision(sentence=f"Too early to say which of {variant} and {control} is preferred: {few}.")
    looks = "at every look" if spec.kind == "sequential" else "at one planned look"
    says = f"{share.value:.1%} of the decisions that one of them won ({share.low:.1%} to {share.high:.1%}, {looks})"
    if share.low > 0.5:
        return Decision(sentence=f"{variant} is preferred to {control}: it won {says}.", better=(variant,))
    if share.high < 0.5:
        sentence = f"{control} is preferred to {variant}, which won {says}."
        acts = spec.switch_off and spec.kind == "sequential"
        return Decision(
            sentence=sentence,
            switch_off={variant: f"users prefer {control}: it won {says}"} if acts else {},
            halted=None if acts else "the test's settings say so",
        )
    return Decision(sentence=f"No preference is seen: {variant} won {says}.")
