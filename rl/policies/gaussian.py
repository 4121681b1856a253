"""Bayesian linear regression with known noise as sums over observations. Light: numpy and scipy.

With φ the features of an observation and r its reward, the sums A = λI + Σ φφᵀ and b = Σ rφ are all that is kept; the
posterior of the weights is N(A⁻¹b, σ²A⁻¹). Axis names: N observations or questions, F features, S samples.

The noise σ is given, not estimated: an estimate needs Σ r², which a correction (the difference of two rewards) does
not tell, so it would depend on whether a purchase was first seen as a click.
"""

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dtrtrs

from rl.policy import FloatArray, PolicyError


class Relevance(BaseModel):
    """Let weights have prior precisions of their own, found from the data: most features, of many, do not matter.

    A round of empirical Bayes first sets one precision for all weights, μ = (Σγᵢ + 2a) / (Σ mᵢ²/σ² + 2a/λ), from the
    means mᵢ and how well determined they are, γᵢ = 1 - λᵢvᵢ with vᵢ the diagonal of A⁻¹: an item that always earns the
    same little is soon known all over. Then weight i gets λᵢ = (1 + 2a) / (mᵢ²/σ² + vᵢ + 2a/μ), its expectation
    maximisation step under a Gamma(a, a/μ) prior. With `groups` the weights of a group, such as the indicators of one
    column's categories, share one: (n + 2a) / (Σ (mᵢ²/σ² + vᵢ) + 2a/μ) over its n weights. So a column that has shown
    that it matters is believed in before every category of it was seen, and one that has not is forgotten whole.

    Source: MacKay, "Bayesian interpolation" (1992), eq. 4.9 for μ; Tipping, "Sparse Bayesian learning and the relevance
    vector machine" (2001), eq. 15 and 17 for γ and λᵢ.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    noise_sd: Annotated[float, Field(gt=0, description="σ: standard deviation of a reward given its features")] = 1.0
    shape: Annotated[float, Field(gt=0, description="a: how strongly precisions are held at λ")] = 0.05
    rounds: Annotated[int, Field(ge=1, description="how often both are set, from λ every time")] = 4
    groups: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Field(description="for each weight the number of its group, from 0; none: a group each"),
    ] = ()


class Gaussian:
    """The posterior of one weight vector, over the sums A [F, F] and b [F].

    Args:
        A: λI + Σ φφᵀ.
        b: Σ rφ.
        precision: λ.
        relevance: how to find a precision for each weight instead; None: all have λ. Either way the sums are the same,
            and all else is a function of them.
    """

    def __init__(self, A: FloatArray, b: FloatArray, precision: float, relevance: Relevance | None = None) -> None:
        self.A, self.b = A, b
        self._precision, self._relevance = precision, relevance
        self._solved: tuple[FloatArray, FloatArray] | None = None  # of the current A and b; None after a change

    def solved(self) -> tuple[FloatArray, FloatArray]:
        """Return the lower Cholesky factor L of A = LLᵀ, [F, F], and the mean A⁻¹b, [F].

        Raises:
            LinAlgError: A is not positive definite.
        """
        if self._solved is None:
            self._solved = _solve(self.A, self.b)
            if self._relevance is not None:
                self._solved = self._with_relevance(self._relevance, *self._solved)
        return self._solved

    def _with_relevance(
        self, relevance: Relevance, lower: FloatArray, mean: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Solve with a precision for each weight in place of λ, beginning with what was solved with λ."""
        diagonal, twice = np.diag_indices_from(self.A), 2 * relevance.shape
        groups = np.array(relevance.groups) if relevance.groups else np.arange(len(mean))
        sizes = np.bincount(groups)
        own = np.full(len(mean), self._precision)  # λᵢ
        for _ in range(relevance.rounds):
            variance = (solve_triangular(lower, np.eye(len(mean)), lower=True, check_finite=False) ** 2).sum(axis=0)
            squared = (mean / relevance.noise_sd) ** 2
            determined = (1 - own * variance).sum()
            shared = (determined + twice) / (squared.sum() + twice / self._precision)
            own = ((sizes + twice) / (np.bincount(groups, squared + variance) + twice / shared))[groups]
            A = self.A.copy()
            A[diagonal] += own - self._precision
            lower, mean = _solve(A, self.b)
        return lower, mean

    def deviation(self, features: FloatArray) -> FloatArray:
        """Return √(φᵀA⁻¹φ) of features [N, F], [N]: with A = LLᵀ it is the length of L⁻¹φ."""
        whitened, _ = dtrtrs(self.solved()[0], features.T, lower=1)  # [F, N]; what solve_triangular calls
        deviation: FloatArray = np.sqrt((whitened**2).sum(axis=0))
        return deviation

    def draw(self, noise_sd: float, samples: int, rng: np.random.Generator) -> FloatArray:
        """Draw S weight vectors of N(mean, σ²A⁻¹), [S, F]: L⁻ᵀz has covariance A⁻¹ for standard normal z."""
        lower, mean = self.solved()
        z = rng.standard_normal((len(self.b), samples))
        spread: FloatArray = solve_triangular(lower, z, lower=True, trans="T", check_finite=False)  # [F, S]
        return mean + noise_sd * spread.T

    def add(self, features: FloatArray, rewards: FloatArray, counts: FloatArray) -> None:
        """Add Σ φφᵀ and Σ rφ. A correction has count 0: it changes b by the difference of the rewards, A not at all."""
        self.A = self.A + (features * counts[:, None]).T @ features
        self.b = self.b + rewards @ features
        self._solved = None

    @classmethod
    def prior(cls, n_features: int, precision: float, relevance: Relevance | None = None) -> "Gaussian":
        """Return the prior N(0, σ²/λ) of every weight, λ being the precision in units of 1/σ².

        Raises:
            PolicyError: there are groups of weights, for another number of weights.
        """
        if relevance is not None and relevance.groups and len(relevance.groups) != n_features:
            raise PolicyError(f"relevance.groups are of {len(relevance.groups)} weights, the model has {n_features}")
        return cls(precision * np.eye(n_features), np.zeros(n_features), precision, relevance)

    def with_sums(self, A: FloatArray, b: FloatArray) -> "Gaussian":
        """Return the posterior over other sums. For the same sums it is this one, with what was solved for it."""
        alike = np.array_equal(A, self.A) and np.array_equal(b, self.b)
        return self if alike else Gaussian(A, b, self._precision, self._relevance)


def _solve(A: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    lower = cholesky(A, lower=True, check_finite=False)
    return lower, cho_solve((lower, True), b, check_finite=False)
