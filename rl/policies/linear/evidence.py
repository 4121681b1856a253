"""Noise and prior of Bayesian linear models, learned from the sums that they are made of.

For each of M models (one for all items, or one for each), r = m + φᵀw + noise, with noise N(0, σ²) and weight j of
every model N(0, σ²/(λsⱼ²)). Nobody has to say what rewards or features look like:

- v is the variance of all rewards, and m is what they have in common once each model has explained what it can:
  m = (U + w r̄) / (V + w) with U = Σ (Σr - xᵀA⁻¹b) and V = Σ (n - xᵀA⁻¹x) over the models. It maximises the evidence,
  with the mean r̄ of all rewards as what one more model was seen to earn once: w = 1 / (1 + h/λ), h as below. The mean
  alone would be that of what was chosen, which is the best, and make every item that is new look as good.
  So rewards plus 1,000 are learned as the rewards are.
- sⱼ² = Σφⱼ⁴ / Σφⱼ² is the size of feature j where it is there: 1 for an indicator, however rare, 3 for a standard
  normal number. So euros are learned as cents are, and no number is so large that it drowns the others.
- λ, the ratio of noise to signal, and σ² maximise it too: σ² = (Q + v) / (n + 1) with Q = Σ (|r - m|² - bᵀA⁻¹b)
  over the models, and λ is the grid point with the largest
  -(n + 1)/2 log(Q + v) - Σ ½ log det(A / λ) - ½ (log₂(λ / h) / 4)²; A and b are those of centred rewards and of
  features divided by s, with λ on A's diagonal. The last term is a weak prior around h = mean |φ/s|², where signal
  and noise are alike; v counts as one observation more.

All of it is a function of sums, so it is the same whatever the order in which they came. λ and s are powers of two:
they change seldom, and the models need only be solved anew when one does.

Source: MacKay, "Bayesian interpolation" (1992), section 3; σ² at its best for each λ as in Rasmussen and Williams,
"Gaussian processes for machine learning" (2006), section 5.4.1. Axis names: M models, G features, K points of the grid.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dormqr, dpttrf, dpttrs, dsytrd

from rl.policy.arrays import FloatArray, IntArray, check_array
from rl.policy.queries import Impressions

_EXPONENTS = np.arange(-16, 28, 2)
_GRID: FloatArray = np.exp2(_EXPONENTS)  # of λ
_OCTAVES = 4.0  # standard deviation of the prior of log₂ λ
_ALIKE = 1e-12  # rewards that vary by less of their mean square are alike: more is rounding
_WIDTH = 0.5
"""Of the samples that vote, in posterior standard deviations. Samples of a whole one explore more than pays.

Source: Chapelle and Li, "An empirical evaluation of Thompson sampling" (2011), section 4: of α = .25, .5 and 1 the
lowest regret has .5.
"""
_MOST, _COST = 64, 1 << 22  # how many models' evidence is asked for, and Σ G³ of them


@dataclass(frozen=True, slots=True)
class Prior:
    """What a model's sums are solved with."""

    centre: float = 0.0
    """m."""
    spread: float = 1.0
    """√v: standard deviation of the rewards; 1 where all are alike."""
    noise_sd: float = 1.0
    """σ."""
    precision: FloatArray | None = None
    """λs² [G], in units of 1/σ²; None: the sums have it already."""

    @property
    def drawn_sd(self) -> float:
        """What deviations of samples that vote are in units of: σ as it is given, or half of what is learned."""
        return self.noise_sd if self.precision is None else _WIDTH * self.noise_sd

    @property
    def unit(self) -> float:
        """What rewards are 1 apart in, for explorers: 2√v, the difference of two rewards that are equally frequent.

        1 where the noise is given.
        """
        return 1.0 if self.precision is None else 2 * self.spread


UNKNOWN = Prior()


class Sums(Protocol):
    """The sums of one model, see `rl.policies.linear.posterior.Gaussian`."""

    def quadratic_forms(self, scales: FloatArray) -> tuple[FloatArray, ...]:
        """Return log det, bᵀA⁻¹b, bᵀA⁻¹x and xᵀA⁻¹x, [K], of features divided by scales [G]."""
        ...


class Evidence:
    """Sums that tell the prior, beside those of the models: of each model's rewards, and of all features.

    Args:
        models: M.
        size: G.
    """

    def __init__(self, models: int, size: int) -> None:
        self.rewards = np.zeros((models, 3))
        """Σ1, Σr and Σr² of each."""
        self.powers = np.zeros((2, size))
        """Σφ² and Σφ⁴ over all models."""
        self._prior: Prior | None = None  # None after a change

    def add(self, model: int, features: FloatArray, o: Impressions) -> None:
        """Add N observations of one model, with features [N, G]."""
        self.rewards[model] += (o.counts.sum(), o.rewards.sum(), o.squares.sum())
        squares = features**2
        self.powers += np.stack([o.counts @ squares, o.counts @ squares**2])
        self._prior = None

    def prior(self, models: Sequence[Sums]) -> Prior:
        """Return what the models, whose sums have no prior, are to be solved with; computed once after each change."""
        if self._prior is None:
            self._prior = self._fit_prior(models)
        return self._prior

    def _fit_prior(self, models: Sequence[Sums]) -> Prior:
        n, total, squares = self.rewards.sum(axis=0)
        scales = self._scales()
        if n <= 0 or not len(scales):
            return Prior(precision=scales**2)
        centre, spread = mean_and_spread(n, total, squares)
        size = max(float((self.powers[0] / scales**2).sum() / n), _GRID[0])  # h
        likely = float(np.log2(size))
        if not spread:
            return Prior(centre, precision=_GRID[np.abs(_EXPONENTS - likely).argmin()] * scales**2)
        some = self._choose_models(len(scales))
        n, total, squares = self.rewards[some].sum(axis=0)
        # Of rewards less their mean: Σ |r|² - bᵀA⁻¹b, U and V + w, [K]
        left, u = squares - 2 * centre * total + centre**2 * n, np.full(len(_GRID), total - centre * n)
        once = _GRID / (_GRID + size)  # w
        v, log_det = n + once, np.zeros(len(_GRID))
        for model in some.tolist():
            own, bb, bx, xx = models[model].quadratic_forms(scales)
            log_det += own
            left = left - (bb - 2 * centre * bx + centre**2 * xx)
            u, v = u - (bx - centre * xx), v - xx
        v = np.maximum(v, once)  # less is rounding
        left = np.maximum(left - u**2 / v, 0.0) + spread**2
        value = -0.5 * ((n + 1) * np.log(left) + log_det + ((_EXPONENTS - likely) / _OCTAVES) ** 2)
        best = int(value.argmax())
        noise = float(np.sqrt(left[best] / (n + 1)))
        return Prior(centre + float(u[best] / v[best]), spread, noise, _GRID[best] * scales**2)

    def _scales(self) -> FloatArray:
        """Return s [G], powers of two."""
        scales: FloatArray = np.exp2(np.round(np.log2(sizes(*self.powers))))
        return scales

    def _choose_models(self, size: int) -> IntArray:
        """Return the models whose evidence is asked for: all, or as many as time allows of those that saw most."""
        shown = np.flatnonzero(self.rewards[:, 0] > 0)
        most = min(_MOST, max(1, _COST // max(size, 1) ** 3))
        if len(shown) <= most:
            return shown
        return np.sort(shown[np.argsort(-self.rewards[shown, 0], kind="stable")[:most]])

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return `rewards` [M, 3] and `powers` [2, G]."""
        return {"rewards": self.rewards.copy(), "powers": self.powers.copy()}

    def restore(self, state: dict[str, NDArray[np.float64]]) -> "Evidence":
        """Return those of a saved state.

        Raises:
            PolicyError: an array is missing or has another shape.
        """
        loaded = Evidence(len(self.rewards), self.powers.shape[1])
        loaded.rewards = check_array(state, "rewards", self.rewards.shape)
        loaded.powers = check_array(state, "powers", self.powers.shape)
        return loaded


def sizes(squares: FloatArray, fourths: FloatArray) -> FloatArray:
    """Return √(Σφ⁴ / Σφ²) of features with these sums [G]: how large each is where it is there; 1 if it never was."""
    there = squares > 0
    ratio = np.where(there, fourths / np.where(there, squares, 1.0), 1.0)
    size: FloatArray = np.sqrt(np.maximum(ratio, 1e-60))
    return size


def mean_and_spread(n: float, total: float, squares: float) -> tuple[float, float]:
    """Return the mean and the standard deviation of n rewards with the sums Σr and Σr²; 0 of rewards that are alike."""
    if n <= 0:
        return 0.0, 0.0
    mean, square = float(total / n), float(squares / n)
    variance = square - mean**2
    return mean, float(np.sqrt(variance)) if variance > _ALIKE * square else 0.0


def quadratic_forms(A: FloatArray, z: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return log det((A + λI) / λ), [K], and zᵀ(A + λI)⁻¹z, [K, Z, Z], for each λ of the grid and vectors z [G, Z].

    A [G, G] is made tridiagonal once; then each λ costs O(G).
    """
    size = len(A)
    if size == 1:
        d = A[0, 0] + _GRID
        return np.log(d / _GRID), np.outer(z[0], z[0]) / d[:, None, None]
    reflected, d, e, tau, _ = dsytrd(A, lower=1)
    z = z.copy()
    z[1:], _, _ = dormqr("L", "T", reflected[1:, :-1], tau, z[1:], 64 * z.shape[1])
    log_det, inner = np.full(len(_GRID), np.inf), np.zeros((len(_GRID), z.shape[1], z.shape[1]))
    for k, ratio in enumerate(_GRID):
        pivots, below, fault = dpttrf(d + ratio, e)
        if not fault:  # else λ is less than what was rounded
            log_det[k] = np.log(pivots / ratio).sum()
            inner[k] = z.T @ dpttrs(pivots, below, z)[0]
    return log_det, inner
