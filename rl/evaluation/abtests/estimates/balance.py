"""Whether users came to the variants as often as their shares say: a broken assignment makes every comparison void.

The p-value by which something acts holds at every look: 1 / E is one, for the likelihood of the counts mixed over all
shares by a Dirichlet density around the stated ones, over that of the stated ones. Where the shares change, a new
phase begins, and the phases' ratios are multiplied. Pearson's chi-square is for the look that was planned.

Sources: Lindon and Malek (2022), Anytime-valid inference for multinomial count data; thresholds as on the result pages
of other tools: yellow below .01, red below .001 with at least .1 % deviation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict
from scipy.special import gammaln
from scipy.stats import chi2

from rl.policy.arrays import FloatArray

YELLOW, RED, LEAST_DEVIATION = 0.01, 0.001, 0.001
_CONCENTRATION = 1_000.0
"""Users that the mixture is worth: deviations of a few hundredths are found soonest."""

Light = Literal["green", "yellow", "red"]


@dataclass(frozen=True)
class Phase:
    """Users whose first exposure came while the shares were the same."""

    shares: Mapping[str, float]
    """Of the variants that are on; they need not sum to 1."""
    users: Mapping[str, int]


class Balance(BaseModel):
    """The sample-ratio test."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    light: Light
    p_sequential: float
    """Holds at every look."""
    p_fixed: float
    """By chi-square, at one look."""
    deviation: float
    """The largest difference between a variant's part of the users and its share."""
    expected: dict[str, float]
    """Users, by variant."""
    observed: dict[str, int]


def check_balance(phases: Sequence[Phase]) -> Balance:
    """Return the sample-ratio test of all phases."""
    evidence, statistic, freedom = 0.0, 0.0, 0
    expected, observed = dict[str, float](), dict[str, int]()
    for phase in phases:
        names = [name for name, share in phase.shares.items() if share > 0]
        shares = np.array([phase.shares[name] for name in names], dtype=np.float64)
        shares /= shares.sum()
        counts = np.array([phase.users.get(name, 0) for name in names], dtype=np.float64)
        for name, share, count in zip(names, shares, counts, strict=True):
            expected[name] = expected.get(name, 0.0) + float(share * counts.sum())
            observed[name] = observed.get(name, 0) + int(count)
        if len(names) > 1 and counts.sum():
            evidence += log_evidence(counts, shares)
            statistic += float(((counts - shares * counts.sum()) ** 2 / (shares * counts.sum())).sum())
            freedom += len(names) - 1
    users = sum(observed.values())
    deviation = max((abs(observed[name] - expected[name]) / users for name in observed), default=0.0) if users else 0.0
    p_sequential = float(np.exp(-max(evidence, 0.0)))
    p_fixed = float(chi2.sf(statistic, freedom)) if freedom else 1.0
    light: Light = "green"
    if p_sequential < YELLOW:
        light = "red" if p_sequential < RED and deviation >= LEAST_DEVIATION else "yellow"
    return Balance(
        light=light,
        p_sequential=p_sequential,
        p_fixed=p_fixed,
        deviation=deviation,
        expected=expected,
        observed=observed,
    )


def log_evidence(counts: FloatArray, shares: FloatArray) -> float:
    """Return the logarithm of E for counts [k] and the shares [k] that they should have."""
    prior = _CONCENTRATION * shares
    mixed = gammaln(_CONCENTRATION) - gammaln(_CONCENTRATION + counts.sum())
    mixed += (gammaln(prior + counts) - gammaln(prior)).sum()
    return float(mixed - (counts * np.log(shares)).sum())
