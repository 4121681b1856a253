"""The linear model of the crossed policy: sums, the posterior of the weights, how large rewards are.

Rewards are φᵀw + noise, less what the cells take (`rl.policies.crossed.cells`). Where the noise is not given it is
learned: rewards are taken as differences from their mean, prior_sd and cell_sd are in units of twice their standard
deviation, and their ratios to the noise, which the sums need, are those to σ = .3 of such a unit. Given these ratios
the evidence for σ² is largest at what they leave of Σ (r - m)². Axis names: D features, S samples, N observations.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular

from rl.policies.crossed.config import CrossedConfig
from rl.policies.linear.evidence import mean_and_spread
from rl.policies.linear.posterior import check_precision, factor
from rl.policy.arrays import FloatArray, IntArray, check_array
from rl.policy.queries import Impressions

_NOISE = 0.3  # σ, in units of the spread of rewards, that the ratios of learned sums are of


class Scale(NamedTuple):
    """How large rewards are."""

    centre: float
    """m: what rewards are taken as differences from."""
    unit: float
    """What prior_sd, cell_sd and the explorer are in units of."""
    noise: float
    """σ."""


@dataclass(slots=True)
class Solved:
    """What follows from the sums."""

    lower: FloatArray
    """L [D, D], S = LLᵀ."""
    mean: FloatArray
    """[D]"""
    scale: Scale
    draws: FloatArray | None = None
    """[D, S]"""


class LinearModel:
    """Sums of what observations' features [N, D] say of the weights; D grows."""

    def __init__(self, config: CrossedConfig) -> None:
        self._config = config
        self._learned = config.noise_sd is None
        self._noise = (config.noise_sd or _NOISE) ** 2
        self.own = self._noise / config.cell_sd**2 if config.cell_sd else np.inf
        """κ: how many observations of a cell the prior of what it has of its own is worth."""
        self._S, self._h = np.zeros((0, 0)), np.zeros(0)  # σ² times the precision and precision-weighted mean of w
        self._g = np.zeros(0)  # h of rewards that are all 1
        self._rewards = np.zeros(3)  # Σ1, Σr and Σr²; only Σ1 of a loaded one whose noise is given
        self._by_cell = np.zeros(3)  # Σ n²/(n + κ), Σ nb/(n + κ) and Σ b²/(n + κ) over the cells
        self._solved: Solved | None = None  # None after a change

    def __len__(self) -> int:
        return len(self._h)

    def grow(self, size: int) -> None:
        """Give the sums of features that are new, up to D = size, their prior."""
        old = len(self)
        more = size - old
        if more:
            self._S = np.pad(self._S, (0, more))
            self._h, self._g = np.pad(self._h, (0, more)), np.pad(self._g, (0, more))
            self._S[np.arange(old, size), np.arange(old, size)] = self._noise
            self._solved = None

    def add(self, phi: FloatArray, o: Impressions) -> None:
        """Add N observations with features [N, D]."""
        self._S += (phi * o.counts[:, None]).T @ phi
        self._h += o.rewards @ phi
        self._g += o.counts @ phi
        self._rewards += (o.counts.sum(), o.rewards.sum(), o.squares.sum())
        self._solved = None

    def take(self, at: IntArray, s: FloatArray, n: float, b: float, sign: float) -> None:
        """Take away what a cell with the sums s at some places stands for, or give it back where the sign is -1."""
        share = sign / (n + self.own)
        shared = share * s
        self._S[at[:, None], at] -= shared[:, None] * s
        self._h[at] -= b * shared
        self._g[at] -= n * shared
        self._by_cell += share * np.array([n * n, n * b, b * b])
        self._solved = None

    def solve(self) -> Solved:
        """Return what follows from the sums; computed once after each change."""
        if self._solved is None:
            lower, of_h, of_g = self._S, self._h, self._g
            if len(self):
                lower = factor(self._S)
                of_h, of_g = cho_solve((lower, True), np.stack([of_h, of_g], axis=1), check_finite=False).T
            scale = self._scale(of_h, of_g)
            self._solved = Solved(lower, of_h - scale.centre * of_g, scale)
        return self._solved

    def _scale(self, of_h: FloatArray, of_g: FloatArray) -> Scale:
        """Return how large rewards and noise are, given S⁻¹h and S⁻¹g."""
        n, total, squares = self._rewards
        if not self._learned:
            return Scale(0.0, 1.0, self._config.noise_sd or _NOISE)
        centre, spread = mean_and_spread(n, total, squares)
        left = np.array([n - self._g @ of_g, total - self._h @ of_g, squares - self._h @ of_h]) - self._by_cell
        within = max(float(left[2] - 2 * centre * left[1] + centre**2 * left[0]), 0.0) if spread else 0.0
        spread = spread or 0.5  # of rewards that are all alike nothing can be said: any unit will do
        return Scale(centre, 2 * spread, float(np.sqrt((within + spread**2) / (n + 1))))

    def covary(self, phi: FloatArray) -> FloatArray:
        """Return σ²S⁻¹φ for features φ [D], or [D, n] of several: times φ it is the variance of φᵀw."""
        solved = self.solve()
        found: FloatArray = cho_solve((solved.lower, True), phi, check_finite=False) if len(phi) else phi
        return solved.scale.noise**2 * found

    def draws(self) -> FloatArray:
        """Return S draws of w, [D, S]: the same until something is learned."""
        solved = self.solve()
        if solved.draws is None:
            rng = np.random.default_rng([len(self), int(self._rewards[0])])
            z = rng.standard_normal((len(self), self._config.samples))
            spread = z if not len(z) else solve_triangular(solved.lower, z, lower=True, trans="T", check_finite=False)
            solved.draws = solved.mean[:, None] + solved.scale.noise * spread
        return solved.draws

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return S [D, D], h [D] and the number of observations; where the noise is learned all other sums too."""
        state = {"S": self._S.copy(), "h": self._h.copy(), "count": self._rewards[:1].copy()}
        if self._learned:
            state |= {"g": self._g.copy(), "rewards": self._rewards.copy(), "by_cell": self._by_cell.copy()}
        return state

    def restore(self, state: dict[str, NDArray[np.float64]], size: int) -> "LinearModel":
        """Return that of a saved state with D = size.

        Raises:
            PolicyError: an array is missing or has another shape, or S is no precision.
        """
        loaded = LinearModel(self._config)
        loaded._S, loaded._h = check_array(state, "S", (size, size)), check_array(state, "h", (size,))
        loaded._rewards[:1] = check_array(state, "count", (1,))
        loaded._g = np.zeros(size)  # only needed where the noise is learned
        if self._learned:
            loaded._g = check_array(state, "g", (size,))
            loaded._rewards, loaded._by_cell = (check_array(state, name, (3,)) for name in ("rewards", "by_cell"))
        if size:
            check_precision(loaded._S, "array 'S' of the saved policy is not positive definite")
        return loaded
