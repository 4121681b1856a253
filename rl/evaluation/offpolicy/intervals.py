"""Intervals of a mean from independent terms, for a log that is looked at once. For one that grows: `sequences`.

Two kinds. `hall` is the default: as wide as the spread asks for, right up to terms of 1/n where the terms are skewed,
as weighted rewards are. `empirical_bernstein` holds for any n and needs bounds of the terms; it is several times as
wide on small logs. `clopper_pearson` is for rewards of 0 and 1 that are not weighted. Of terms that are all the same
only these two have a width: whether the others' is certainty or ignorance, `support.reason_to_abstain` says.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.policy.arrays import FloatArray


@dataclass(frozen=True)
class Interval:
    """A range that holds the true value with a confidence."""

    low: float
    high: float
    confidence: float
    kind: str

    def holds(self, value: float) -> bool:
        """Return whether a value is in it."""
        return self.low <= value <= self.high

    @property
    def half_width(self) -> float:
        """Half of the range."""
        return (self.high - self.low) / 2


def normal(terms: FloatArray, confidence: float = 0.95) -> Interval:
    """Return mean -+ z standard errors, with Student's quantile of n - 1 degrees."""
    mean, error, n = _moments(terms)
    z = float(stats.t.ppf(0.5 + confidence / 2, n - 1))
    return Interval(mean - z * error, mean + z * error, confidence, "normal")


def hall(terms: FloatArray, confidence: float = 0.95) -> Interval:
    """Return the interval of a mean from Student's statistic, made symmetric by Hall's cubic transformation.

    Skewed terms make the statistic skewed too, so that a normal interval misses on one side: of IPS with rare large
    weights too often above. The transformation takes that out, to the order of 1/n.

    Source: Hall (1992), On the removal of skewness by transformation, JRSS B 54, equation 2.5.
    """
    mean, error, n = _moments(terms)
    if not error:
        return Interval(mean, mean, confidence, "hall")
    centred = terms - mean
    skew = float(np.mean(centred**3) / np.mean(centred**2) ** 1.5) / np.sqrt(n)
    z = float(stats.t.ppf(0.5 + confidence / 2, n - 1))
    low, high = (_inverse(at, skew) for at in (z, -z))
    return Interval(mean - low * error, mean - high * error, confidence, "hall")


def _inverse(x: float, skew: float) -> float:
    """Solve t + skew t^2 / 3 + skew^2 t^3 / 27 + skew / 6 = x for t."""
    if abs(skew) < 1e-9:
        return x
    return 3 / skew * (float(np.cbrt(1 + skew * (x - skew / 6))) - 1)


def bootstrap(terms: FloatArray, rng: np.random.Generator, confidence: float = 0.95, draws: int = 2_000) -> Interval:
    """Return the interval of a mean by the bootstrap of Student's statistic.

    Args:
        terms: [n].
        rng: of the draws.
        confidence: of the interval.
        draws: how many; each takes n terms with replacement.
    """
    mean, error, n = _moments(terms)
    if not error:
        return Interval(mean, mean, confidence, "bootstrap")
    statistics = np.empty(draws)
    for draw in range(draws):
        sample = terms[rng.integers(n, size=n)]
        spread = sample.std(ddof=1)
        statistics[draw] = (sample.mean() - mean) / (spread / np.sqrt(n)) if spread else 0.0
    low, high = np.quantile(statistics, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(mean - float(high) * error, mean - float(low) * error, confidence, "bootstrap")


def empirical_bernstein(terms: FloatArray, bounds: tuple[float, float], confidence: float = 0.95) -> Interval:
    """Return an interval that holds for any n and any distribution within bounds.

    Source: Maurer and Pontil (2009), Empirical Bernstein bounds and sample variance penalization, theorem 4.

    Raises:
        EvaluationError: a term is out of bounds.
    """
    low, high = bounds
    mean, error, n = _moments(terms)
    if terms.min() < low or terms.max() > high:
        raise EvaluationError(f"terms must be in [{low:g}, {high:g}], got {terms.min():g} to {terms.max():g}")
    log = float(np.log(4 / (1 - confidence)))
    width = error * np.sqrt(2 * log) + 7 * (high - low) * log / (3 * (n - 1))
    return Interval(max(low, mean - width), min(high, mean + width), confidence, "empirical_bernstein")


def clopper_pearson(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return the exact interval of a probability, from how many of n came true.

    Source: Clopper and Pearson (1934).
    """
    found = stats.binomtest(successes, n).proportion_ci(confidence, method="exact")
    return Interval(float(found.low), float(found.high), confidence, "clopper_pearson")


def _moments(terms: FloatArray) -> tuple[float, float, int]:
    """Return the mean, its standard error, and how many terms there are."""
    n = len(terms)
    if n < 2:
        raise EvaluationError(f"an interval needs two decisions at least, got {n}")
    error = float(terms.std(ddof=1) / np.sqrt(n)) if terms.min() < terms.max() else 0.0  # rounding is no spread
    return float(terms.mean()), error, n
