"""Asymptotic confidence sequences of what is estimated from users whose decisions go on: valid at every look.

Users are what is randomised, and each goes on deciding while one looks. So sums are taken over users: the estimate less
the truth, times its weight M, is a sum E(t) over users of all that each has shown of themselves by t. Over many users
it is a Gaussian process whose variance tau(t) = M(t)^2 Var(t) is measured by users (the delta method), however their
decisions hang together. For Brownian motion B and one side of Robbins' normal mixture,

    P(B(tau) >= sqrt(2 (tau + 1/rho^2) log(1 + sqrt(tau rho^2 + 1) / (2 alpha))) at any tau) <= alpha,

and E crosses no more often than B at the same variances where what a user has shown does not reverse itself, that is
Cov(E(s), E(t) - E(s)) >= 0 for s < t: by Slepian's inequality a process that is more correlated crosses a boundary
less often. Independent users or decisions have 0 there; tastes that last have more, and the bounds are then too wide
rather than too narrow. Only behaviour that makes up for itself (who bought will not, whoever asks) breaks it.

Both sides are bounded at alpha / 2 each, as Slepian's inequality is of one. It is asymptotic in the number of users:
nothing is said before `specification.ReadSpec.least_units` of them.

Sources: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas (2021), Time-uniform central limit theory and asymptotic
confidence sequences (arXiv 2103.06476), theorem 2.2 and its one-sided form; Slepian (1962), The one-sided barrier
problem for Gaussian noise; why users who go on need care: Ankargren, Frånberg and Schultzberg (2023),
Bringing sequential testing to experiments with longitudinal data.
"""

import math

from scipy.stats import norm


def tightest(alpha: float) -> float:
    """Return the intrinsic time times rho^2 at which bounds at alpha, half of it a side, are the tightest.

    Source: Waudby-Smith and others (2021), section 2.4, but for its last digits.
    """
    spent = -2 * math.log(alpha)
    return spent + math.log1p(spent)


def radius(time: float, alpha: float) -> float:
    """Return half the width of a confidence sequence, in standard errors, at an intrinsic time in units of 1 / rho^2.

    Args:
        time: more than 0; `tightest` is where the sequence is tuned to.
        alpha: that it is ever wrong, half of it on each side.
    """
    return math.sqrt(2 * (1 + 1 / time) * math.log1p(math.sqrt(1 + time) / alpha))


def fixed_radius(alpha: float) -> float:
    """Return the same for an interval at one look that was planned."""
    return float(norm.isf(alpha / 2))


def intrinsic_time(weight: float, variance: float, spread: float, effect: float, alpha: float) -> float:
    """Return an intrinsic time in units of 1 / rho^2, so that `effect` is just seen where bounds are tightest.

    As if decisions were independent: where those of a user hang together, time is ahead of that, by a little width.
    The scale must not move with time, so it is of what stays: the spread of single decisions and the effect.

    Args:
        weight: M, how many pairs of decisions the difference is of: N_1 N_2 / (N_1 + N_2).
        variance: of the estimate, by users.
        spread: variance of the reward of a decision.
        effect: the absolute difference that is to be seen.
        alpha: of the sequence.
    """
    at = tightest(alpha)
    seen = (radius(at, alpha) * spread / effect) ** 2
    return max(at * weight**2 * variance / seen, 1e-12)
