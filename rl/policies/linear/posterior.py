"""Bayesian linear regression as sums over observations.

With φ the features of an observation and r its reward, the sums A = Σ φφᵀ, b = Σ rφ and x = Σ φ are all that is kept.
The posterior of the weights is N(A⁻¹(b - mx), σ²A⁻¹), with the precision of a prior added to A: either noise σ and
precision λ are given, m is 0, and λI is in A from the beginning, or all three are learned
(`rl.policies.linear.evidence`) and the precision is added when the sums are solved. Axis names: N observations or
questions, G features, S samples.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.linalg import LinAlgError
from scipy.linalg import cho_solve, cholesky, solve_triangular
from scipy.linalg.lapack import dtrtrs

from rl.policies.linear.config import Relevance
from rl.policies.linear.evidence import UNKNOWN, Prior, quadratic_forms
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError

_SURE = 1e-10  # of a feature's own sum, added to its precision: no difference of two features is believed to be less
_ROUNDED = 1e-13  # a squared pivot that is less of its diagonal is what was rounded
_ALLOWED = 1e-3  # what rounding may have taken away from the diagonal of what was saved


class Gaussian:
    """The posterior of one weight vector, over the sums A [G, G], b [G] and x [G].

    Args:
        A: Σ φφᵀ, and λI where the prior is given.
        b: Σ rφ.
        x: Σ φ.
        precision: λ, where it is in A.
        relevance: how to find a precision for each weight instead; None: all have λ. Either way the sums are the same,
            and all else is a function of them.
    """

    def __init__(
        self, A: FloatArray, b: FloatArray, x: FloatArray, precision: float, relevance: Relevance | None = None
    ) -> None:
        self.A, self.b, self.x = A, b, x
        self._precision, self._relevance = precision, relevance
        self._solved: _Solved | None = None  # of the current sums; None after a change
        self._forms: tuple[FloatArray, tuple[FloatArray, ...]] | None = None

    def solve(self, prior: Prior = UNKNOWN) -> tuple[FloatArray, FloatArray]:
        """Return the lower Cholesky factor L of A = LLᵀ with the prior, [G, G], and the mean A⁻¹(b - mx), [G]."""
        solved = self._solved
        if solved is None or solved.precision is not prior.precision:
            if solved is None or not np.array_equal(solved.precision, prior.precision):  # type: ignore[arg-type]
                solved = self._solved = self._solve(prior.precision)
            solved.precision = prior.precision
        if solved.centre != prior.centre:
            solved.centre, solved.mean = prior.centre, solved.of_b - prior.centre * solved.of_x
        return solved.lower, solved.mean

    def _solve(self, precision: FloatArray | None) -> "_Solved":
        if precision is None:
            lower, mean = _solve(self.A, self.b)
            if self._relevance is not None:
                lower, mean = self._with_relevance(self._relevance, lower, mean)
            return _Solved(precision, lower, mean, np.zeros(0))
        A, at = self.A.copy(), np.diag_indices_from(self.A)
        A[at] += precision + _SURE * A[at]
        lower, both = _solve(A, np.stack([self.b, self.x], axis=1))
        return _Solved(precision, lower, both[:, 0], both[:, 1])

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

    def deviation(self, features: FloatArray, prior: Prior = UNKNOWN) -> FloatArray:
        """Return √(φᵀA⁻¹φ) of features [N, G], [N]: with A = LLᵀ it is the length of L⁻¹φ."""
        whitened, _ = dtrtrs(self.solve(prior)[0], features.T, lower=1)  # [G, N]; what solve_triangular calls
        deviation: FloatArray = np.sqrt((whitened**2).sum(axis=0))
        return deviation

    def variances(self, features: FloatArray, prior: Prior = UNKNOWN) -> FloatArray:
        """Return what each feature has in φᵀA⁻¹φ, φᵢ(A⁻¹φ)ᵢ, for features φ [G], [G]."""
        solved: FloatArray = cho_solve((self.solve(prior)[0], True), features, check_finite=False)
        return features * solved

    def draw(self, samples: int, rng: np.random.Generator, prior: Prior = UNKNOWN) -> FloatArray:
        """Draw S weight vectors of N(mean, s²A⁻¹), [S, G]: L⁻ᵀz has covariance A⁻¹ for standard normal z.

        s is the prior's `drawn_sd`.
        """
        lower, mean = self.solve(prior)
        z = rng.standard_normal((len(self.b), samples))
        spread: FloatArray = solve_triangular(lower, z, lower=True, trans="T", check_finite=False)  # [G, S]
        return mean + prior.drawn_sd * spread.T

    def quadratic_forms(self, scales: FloatArray) -> tuple[FloatArray, ...]:
        """Return log det, bᵀA⁻¹b, bᵀA⁻¹x and xᵀA⁻¹x, [K], of features divided by scales; for the evidence."""
        if self._forms is None or not np.array_equal(self._forms[0], scales):
            log_det, inner = quadratic_forms(
                self.A / np.outer(scales, scales), np.stack([self.b, self.x], axis=1) / scales[:, None]
            )
            self._forms = scales, (log_det, inner[:, 0, 0], inner[:, 0, 1], inner[:, 1, 1])
        return self._forms[1]

    def add(self, features: FloatArray, rewards: FloatArray, counts: FloatArray) -> None:
        """Add Σ φφᵀ, Σ rφ and Σ φ. A correction has count 0: it changes b by the difference of the rewards alone."""
        weighted = features * counts[:, None]
        self.A = self.A + weighted.T @ features
        self.b = self.b + rewards @ features
        self.x = self.x + weighted.sum(axis=0)
        self._solved = self._forms = None

    @classmethod
    def prior(cls, n_features: int, precision: float, relevance: Relevance | None = None) -> "Gaussian":
        """Return sums without observations: the prior N(0, σ²/λ) of every weight, or none where λ is 0.

        Raises:
            PolicyError: there are groups of weights, for another number of weights.
        """
        if relevance is not None and relevance.groups and len(relevance.groups) != n_features:
            raise PolicyError(f"relevance.groups are of {len(relevance.groups)} weights, the model has {n_features}")
        return cls(precision * np.eye(n_features), np.zeros(n_features), np.zeros(n_features), precision, relevance)

    def with_sums(self, A: FloatArray, b: FloatArray, x: FloatArray) -> "Gaussian":
        """Return the posterior over other sums. For the same sums it is this one, with what was solved for it."""
        alike = all(np.array_equal(*pair) for pair in ((A, self.A), (b, self.b), (x, self.x)))
        return self if alike else Gaussian(A, b, x, self._precision, self._relevance)


@dataclass(slots=True)
class _Solved:
    """What follows from the sums and a prior."""

    precision: FloatArray | None
    lower: FloatArray
    of_b: FloatArray
    """A⁻¹b."""
    of_x: FloatArray
    """A⁻¹x; empty where the prior is given, as rewards are not centred then."""
    centre: float = 0.0
    mean: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.mean = self.of_b


def _solve(A: FloatArray, b: FloatArray) -> tuple[FloatArray, FloatArray]:
    lower = factor(A)
    return lower, cho_solve((lower, True), b, check_finite=False)


def factor(A: FloatArray) -> FloatArray:
    """Return the lower Cholesky factor L of A = LLᵀ [G, G], as it is or with more on its diagonal.

    Sums over numbers of very different sizes can be singular but for rounding. Then the diagonal is raised by the
    smallest of 1e-12, 1e-11, ... of itself that makes A positive definite, so that there is always an answer.
    """
    try:
        lower: FloatArray = cholesky(A, lower=True, check_finite=False)
    except LinAlgError:
        pass
    else:
        if (lower.diagonal() ** 2 > _ROUNDED * A.diagonal()).all():
            return lower
    scaled, size = _to_correlations(A)
    at = np.diag_indices_from(A)
    for exponent in range(-12, 12):  # with more than G added to its diagonal any matrix of numbers below 1 will do
        scaled[at] = 1.0 + 10.0**exponent
        try:
            lower = size[:, None] * cholesky(scaled, lower=True, check_finite=False)
        except LinAlgError:
            continue
        return lower
    return np.diag(size)


def _to_correlations(A: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return A [G, G] divided by the roots of its diagonal on both sides, and these [G]; 1 where it is not above 0."""
    diagonal = A.diagonal()
    size = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    return A / size / size[:, None], size


def check_precision(A: FloatArray, which: str = "") -> None:
    """Check that a saved matrix [G, G] can be a precision, or a sum of outer products, up to rounding.

    Raises:
        PolicyError: it cannot; `which` says which it is.
    """
    scaled, _ = _to_correlations(A)
    scaled[np.diag_indices_from(A)] += _ALLOWED
    try:
        cholesky(scaled, lower=True, check_finite=False)
    except LinAlgError as error:
        raise PolicyError(f"{which}: it is no precision") from error
