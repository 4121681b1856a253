"""Linear policies over the joint features of context and item: ridge regression, LinUCB, linear Thompson.

With φ the joint features of a shown item and r its reward, all three keep A = λI + Σ φφᵀ and b = Σ rφ; the posterior
of the weights is N(A⁻¹b, σ²A⁻¹). The sums add, so updates merge exactly whatever their order or their origin.
"""

from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import cho_solve, cholesky, solve_triangular

from rl.exploration import EpsilonGreedy, ExplorerConfig, Votes
from rl.policy import FloatArray, Observations, Policy, PolicyError, Query, checked


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    regularisation: Annotated[
        float, Field(gt=0, description="λ: prior precision of every weight, in units of 1/σ²")
    ] = 1.0


class RidgeConfig(_Config):
    """Point scores A⁻¹b for any explorer."""

    kind: Literal["ridge"] = "ridge"
    explorer: ExplorerConfig = EpsilonGreedy(epsilon=0.1)


class LinUCBConfig(_Config):
    """Upper confidence bounds. Source: Li et al., "A contextual-bandit approach" (2010), eq. 4-6, one shared model."""

    kind: Literal["lin_ucb"] = "lin_ucb"
    alpha: Annotated[float, Field(ge=0, description="width of the bound in posterior standard deviations")] = 1.0
    explorer: ExplorerConfig = EpsilonGreedy(epsilon=0.02)


class LinearThompsonConfig(_Config):
    """Posterior sampling, made explicit. Source: Agrawal and Goyal, ICML 2013, algorithm 1."""

    kind: Literal["linear_thompson"] = "linear_thompson"
    noise_sd: Annotated[float, Field(gt=0, description="σ: standard deviation of a reward given its features")] = 1.0
    samples: Annotated[int, Field(ge=1, description="S: posterior samples that vote")] = 100
    explorer: ExplorerConfig = Votes(floor=0.02)


LinearConfig: TypeAlias = RidgeConfig | LinUCBConfig | LinearThompsonConfig


class Linear(Policy):
    """Bayesian linear regression of the reward on φ; the configuration says how its uncertainty is used."""

    def __init__(self, config: LinearConfig, n_features: int) -> None:
        self.config = config
        self.explorer = config.explorer
        self._A = config.regularisation * np.eye(n_features)  # [F, F]
        self._b = np.zeros(n_features)  # [F]
        self._solved: tuple[FloatArray, FloatArray] | None = None  # of the current A and b; None after an update

    def _posterior(self) -> tuple[FloatArray, FloatArray]:
        """Return the lower Cholesky factor L of A = LLᵀ, [F, F], and the mean A⁻¹b, [F]."""
        if self._solved is None:
            lower = cholesky(self._A, lower=True)
            self._solved = lower, cho_solve((lower, True), self._b)
        return self._solved

    @property
    def mean(self) -> FloatArray:
        """Posterior mean of the weights, [F]."""
        return self._posterior()[1].copy()

    @property
    def covariance(self) -> FloatArray:
        """A⁻¹: posterior covariance of the weights in units of the noise variance, [F, F]."""
        inverse: FloatArray = cho_solve((self._posterior()[0], True), np.eye(len(self._b)))
        return inverse

    def expected(self, query: Query) -> FloatArray:
        """Return φᵀA⁻¹b, [B, A]."""
        expected: FloatArray = query.features @ self._posterior()[1]
        return expected

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return what the configuration explores with: means, upper bounds (both [B, 1, A]) or samples [B, S, A]."""
        match self.config:
            case LinUCBConfig():
                return (self.expected(query) + self.config.alpha * self._deviation(query))[:, None, :]
            case LinearThompsonConfig():
                weights = self._sample_weights(self.config, rng)  # [S, F]
                sampled: FloatArray = (query.features @ weights.T).swapaxes(1, 2)
                return sampled
            case RidgeConfig():
                return super().scores(query, rng)

    def _deviation(self, query: Query) -> FloatArray:
        """Return √(φᵀA⁻¹φ), [B, A]: with A = LLᵀ it is the length of L⁻¹φ."""
        lower, _ = self._posterior()
        flat = query.features.reshape(-1, len(self._b))
        whitened = solve_triangular(lower, flat.T, lower=True)  # [F, B * A]
        deviation: FloatArray = np.sqrt((whitened**2).sum(axis=0)).reshape(query.mask.shape)
        return deviation

    def _sample_weights(self, config: LinearThompsonConfig, rng: np.random.Generator) -> FloatArray:
        """Draw S weight vectors of N(mean, σ²A⁻¹), [S, F]: L⁻ᵀz has covariance A⁻¹ for standard normal z."""
        lower, mean = self._posterior()
        z = rng.standard_normal((len(self._b), config.samples))
        draws: FloatArray = mean + config.noise_sd * solve_triangular(lower, z, lower=True, trans="T").T
        return draws

    def update(self, observations: Observations) -> None:
        """Add Σ φφᵀ and Σ rφ. A correction has count 0: it changes b by the difference of the rewards, A not at all."""
        phi = observations.features  # [N, F]
        self._A = self._A + (phi * observations.counts[:, None]).T @ phi
        self._b = self._b + observations.rewards @ phi
        self._solved = None

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return A [F, F] and b [F]."""
        return {"A": self._A.copy(), "b": self._b.copy()}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.Policy.load_state_dict`."""
        self._A, self._b = checked(state, "A", self._A.shape), checked(state, "b", self._b.shape)
        self._solved = None
        try:
            self._posterior()
        except LinAlgError as error:
            raise PolicyError("array 'A' of the saved policy is not positive definite: it is no precision") from error
