"""Linear policies: ridge regression, LinUCB and linear Thompson, one model for all items or one for each.

With one model the features are joint ones of context and item. With a model for each item ("disjoint" models) the
context alone will do. Either way a basis may stand between the raw features and the model. The sums of the posterior
(see `rl.policies.gaussian`) add, so updates merge exactly whatever their order or their origin.
"""

from abc import abstractmethod
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.linalg import cho_solve

from rl.exploration import EpsilonGreedy, ExplorerConfig, Votes
from rl.policies.basis import BasisConfig, Identity
from rl.policies.gaussian import Gaussian, Relevance
from rl.policy import FloatArray, Observations, Policy, PolicyError, Query, checked


class _Config(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    regularisation: Annotated[
        float, Field(gt=0, description="λ: prior precision of every weight, in units of 1/σ²")
    ] = 1.0
    models: Annotated[
        Literal["shared", "per_item"],
        Field(description="one model of the joint features, or for each item one of its own, N·G² numbers in all"),
    ] = "shared"
    basis: BasisConfig = Identity()
    relevance: Annotated[
        Relevance | None, Field(description="find a prior precision for each weight; none: all have λ")
    ] = None


class RidgeConfig(_Config):
    """Point scores A⁻¹b for any explorer."""

    kind: Literal["ridge"] = "ridge"
    explorer: ExplorerConfig = EpsilonGreedy(epsilon=0.1)


class LinUCBConfig(_Config):
    """Upper confidence bounds.

    Source: Li et al., "A contextual-bandit approach" (2010), eq. 4-6; with a model per item it is their algorithm 1.
    """

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


class LinearPolicy(Policy):
    """What linear policies share: the configuration says how the uncertainty of the models is used."""

    def __init__(self, config: LinearConfig) -> None:
        self.config = config
        self.explorer = config.explorer

    @abstractmethod
    def deviation(self, query: Query) -> FloatArray:
        """Return √(φᵀA⁻¹φ) of each candidate, [B, A]."""

    @abstractmethod
    def draws(self, query: Query, config: LinearThompsonConfig, rng: np.random.Generator) -> FloatArray:
        """Return each candidate's score under S draws of the weights, the same draws for all queries, [B, S, A]."""

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return what the configuration explores with: means, upper bounds (both [B, 1, A]) or samples [B, S, A]."""
        return self.scored(query, rng)[0]

    def scored(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """See `rl.policy.Policy.scored`."""
        expected = self.expected(query)
        match self.config:
            case LinUCBConfig():
                return (expected + self.config.alpha * self.deviation(query))[:, None, :], expected
            case LinearThompsonConfig():
                return self.draws(query, self.config, rng), expected
            case RidgeConfig():
                return expected[:, None, :], expected


class Linear(LinearPolicy):
    """One model of the joint features of context and item; features of the context alone tell no items apart."""

    def __init__(self, config: LinearConfig, n_features: int) -> None:
        super().__init__(config)
        self._model = Gaussian.prior(config.basis.size(n_features), config.regularisation, config.relevance)

    @property
    def mean(self) -> FloatArray:
        """Posterior mean of the weights, [G]."""
        return self._model.solved()[1].copy()

    @property
    def covariance(self) -> FloatArray:
        """A⁻¹: posterior covariance of the weights in units of the noise variance, [G, G]."""
        inverse: FloatArray = cho_solve((self._model.solved()[0], True), np.eye(len(self._model.b)))
        return inverse

    def expected(self, query: Query) -> FloatArray:
        """Return φᵀA⁻¹b, [B, A]."""
        expected: FloatArray = self._features(query) @ self._model.solved()[1]
        return expected

    def deviation(self, query: Query) -> FloatArray:
        """See `LinearPolicy.deviation`."""
        phi = self._features(query)
        return self._model.deviation(phi.reshape(-1, phi.shape[-1])).reshape(query.mask.shape)

    def draws(self, query: Query, config: LinearThompsonConfig, rng: np.random.Generator) -> FloatArray:
        """See `LinearPolicy.draws`."""
        weights = self._model.draw(config.noise_sd, config.samples, rng)  # [S, G]
        sampled: FloatArray = (self._features(query) @ weights.T).swapaxes(1, 2)
        return sampled

    def _features(self, query: Query) -> FloatArray:
        """Return φ of every candidate, [B, A, G]."""
        phi = self.config.basis(query.features)
        alike = phi.shape[:2] == query.mask.shape
        return phi if alike else np.broadcast_to(phi, (*query.mask.shape, phi.shape[-1]))

    def update(self, observations: Observations) -> None:
        """Add to the sums, see `Gaussian.add`."""
        self._model.add(self.config.basis(observations.features), observations.rewards, observations.counts)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return A [G, G] and b [G]."""
        return {"A": self._model.A.copy(), "b": self._model.b.copy()}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.Policy.load_state_dict`."""
        A, b = (checked(state, name, getattr(self._model, name).shape) for name in ("A", "b"))
        model = self._model.with_sums(A, b)
        try:
            model.solved()
        except LinAlgError as error:
            raise PolicyError("array 'A' of the saved policy is not positive definite: it is no precision") from error
        self._model = model
