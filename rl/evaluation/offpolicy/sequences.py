"""Confidence sequences: bounds of a mean that hold at every size of a log at once, however often one looks.

For terms X_1, X_2, ... that are at least `floor`, any predictable guesses Y_i of them, and every lambda in [0, 1/c):

    exp(lambda sum(X_i - mu) - psi(lambda) sum (X_i - Y_i)^2),   psi(lambda) = (-log(1 - c lambda) - c lambda) / c^2,

with c >= Y_i - floor, is a supermartingale: it exceeds 1/alpha ever with a probability of alpha at most. Mixed over
lambda by a truncated gamma density it bounds sum(X_i - mu) by what `boundary` solves. What must be known is how low a
term can be, not how high: importance weights may be as large as they like in a lower bound. Means may drift; the bound
is of their average. Nothing is asymptotic.

Sources: Howard, Ramdas, McAuliffe and Sekhon (2021), Time-uniform, nonparametric, nonasymptotic confidence sequences,
theorem 4 and proposition 9; the inequality is Fan, Grama and Liu's (2015); without a bound of the weights:
Waudby-Smith, Wu, Ramdas, Karampatziakis and Mineiro (2022).
"""

from typing import Final

import numpy as np
from scipy.special import gammainc, gammaln

from rl.evaluation.offpolicy.errors import EvaluationError
from rl.policy.arrays import FloatArray, IntArray

FIRST: Final = 100
"""Decisions that only say how large the terms are; no bound says anything before."""
_STEPS: Final = 80  # of the bisection: to the last bits


def lower_bounds(
    terms: FloatArray, floor: float, alpha: float = 0.05, horizon: int = 10_000, looks: IntArray | None = None
) -> FloatArray:
    """Return a lower bound of the mean of the terms so far, at each look; minus infinity where there is none yet.

    That one of them is ever above the mean has a probability of alpha at most.

    Args:
        terms: [n], in the order in which they came.
        floor: what no term is below.
        alpha: see above.
        horizon: after how many terms the bound is to be as tight as can be; elsewhere it is a little less so.
        looks: [m] numbers of terms after which one looks, rising; default: after each.

    Raises:
        EvaluationError: a term is below the floor or no number, or a look comes after the last term.
    """
    looks = np.arange(1, len(terms) + 1) if looks is None else looks
    if len(looks) and looks.max() > len(terms):
        raise EvaluationError(f"looks must be after {len(terms)} terms at most, got {looks.max()}")
    if len(terms) and not terms.min() >= floor:  # also where it is no number
        at = int(terms.argmin())
        raise EvaluationError(f"no term may be below the floor {floor:g}, got {terms[at]:g} at [{at}]")
    bounds = np.full(len(looks), -np.inf)
    if not (later := looks > FIRST).any():
        return bounds
    first, rest = terms[:FIRST], terms[FIRST:]
    scale = max(float(first.std()), 1e-3 * (float(first.mean()) - floor), 1e-12)
    c = max(float(first.mean()) - floor, scale)  # a higher guess would need a larger c, and the guess may be any
    sums = np.cumsum(rest)
    before = (np.concatenate([[0.0], sums[:-1]]) + first.sum()) / (np.arange(len(rest)) + FIRST)
    guesses = np.clip(before, floor, floor + c)
    intrinsic = np.cumsum((rest - guesses) ** 2)
    log = np.log(1 / alpha)
    rho = horizon * scale**2 / (2 * log + np.log(1 + 2 * log))
    counts = looks[later] - FIRST
    strayed = boundary(intrinsic[counts - 1], c, rho, alpha)
    bounds[later] = (sums[counts - 1] - strayed) / counts
    return bounds


def upper_bounds(
    terms: FloatArray, ceiling: float, alpha: float = 0.05, horizon: int = 10_000, looks: IntArray | None = None
) -> FloatArray:
    """Return an upper bound of the mean of the terms so far, at each look: `lower_bounds` of the negative."""
    return -lower_bounds(-terms, -ceiling, alpha, horizon, looks)


def value_bounds(
    weights: FloatArray,
    rewards: FloatArray,
    limits: tuple[float, float],
    alpha: float = 0.05,
    horizon: int = 10_000,
    looks: IntArray | None = None,
) -> tuple[FloatArray, FloatArray]:
    """Return a lower and an upper bound of a target's value at each look; one is ever wrong with alpha at most.

    The lower one is of the weighted rewards above their least, the upper one of the weighted losses below their most:
    as weights have a mean of one, the value is the most less the mean loss. So neither needs a bound of the weights.

    Args:
        weights: [n] importance weights.
        rewards: [n].
        limits: the least and the largest that a decision can earn.
        alpha: see above; half of it for each.
        horizon: see `lower_bounds`.
        looks: see `lower_bounds`.

    Raises:
        EvaluationError: a reward is beyond the limits.
    """
    low, high = limits
    if len(rewards) and (rewards.min() < low or rewards.max() > high):
        raise EvaluationError(f"rewards must be in [{low:g}, {high:g}], got {rewards.min():g} to {rewards.max():g}")
    gains = lower_bounds(weights * (rewards - low), 0.0, alpha / 2, horizon, looks)
    losses = lower_bounds(weights * (high - rewards), 0.0, alpha / 2, horizon, looks)
    return low + gains, high - losses


def boundary(intrinsic: FloatArray, c: float, rho: float, alpha: float) -> FloatArray:
    """Return what the sum of deviations exceeds ever with a probability of alpha at most, by its intrinsic time.

    Args:
        intrinsic: [n] sums of squared errors of the guesses.
        c: by how much a term can be below its guess.
        rho: of the mixture, in units of intrinsic time.
        alpha: see above.
    """
    target = np.log(1 / alpha)
    low = np.zeros_like(intrinsic)
    high = 4 * (np.sqrt((intrinsic + rho) * (target + np.log1p(intrinsic / rho))) + c * (target + 1))
    while (short := log_mixture(high, intrinsic, c, rho) < target).any():
        high[short] *= 2
    for _ in range(_STEPS):
        middle = (low + high) / 2
        above = log_mixture(middle, intrinsic, c, rho) >= target
        low, high = np.where(above, low, middle), np.where(above, middle, high)
        if np.all(high - low <= 1e-9 * high):
            break
    found: FloatArray = high
    return found


def log_mixture(deviation: FloatArray, intrinsic: FloatArray, c: float, rho: float) -> FloatArray:
    """Return the logarithm of the mixed supermartingale, for sums of deviations and their intrinsic times [n]."""
    a = rho / c**2
    b = (intrinsic + rho) / c**2
    x = (c * deviation + intrinsic + rho) / c**2
    prior = a * np.log(a) - gammaln(a) - np.log(gammainc(a, a))
    mixed: FloatArray = prior + gammaln(b) + np.log(gammainc(b, x)) - b * np.log(x) + x - a
    return mixed
