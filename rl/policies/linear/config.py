"""How linear policies are set up."""

from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from rl.policies.forgetting.config import Forgetting
from rl.policies.linear.basis import BasisConfig, Identity
from rl.policy.config import BasePolicyConfig
from rl.policy.explorers import EpsilonGreedy, ExplorerConfig, Votes
from rl.policy.interface import Policy


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


class _Config(BasePolicyConfig):
    """Noise and prior are learned (`rl.policies.linear.evidence`), unless one of them, or a relevance, is given."""

    noise_sd: Annotated[
        float | None,
        Field(gt=0, description="σ: standard deviation of a reward given its features; 1 if only the prior is given"),
    ] = None
    regularisation: Annotated[
        float | None,
        Field(gt=0, description="λ: prior precision of every weight in units of 1/σ²; 1 if only the noise is given"),
    ] = None
    models: Annotated[
        Literal["shared", "per_item"],
        Field(description="one model of the joint features, or for each item one of its own, N·G² numbers in all"),
    ] = "shared"
    basis: BasisConfig = Identity()
    relevance: Annotated[
        Relevance | None, Field(description="find a prior precision for each weight; none: all have λ")
    ] = None
    forgetting: Annotated[Forgetting | None, Field(description="how it forgets, where rewards drift; none: never")] = (
        None
    )

    @property
    def learns_prior(self) -> bool:
        """Whether noise and prior are learned."""
        return self.noise_sd is None and self.regularisation is None and self.relevance is None

    @property
    def precision(self) -> float:
        """What the sums begin with: λ where it is given, else 0."""
        return 0.0 if self.learns_prior else self.regularisation or 1.0

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        from rl.policies.forgetting.policy import ForgettingPolicy
        from rl.policies.linear.linear import Linear
        from rl.policies.linear.per_item import PerItem

        assert isinstance(self, LinearConfig), "one of the kinds"
        if self.forgetting is not None:
            remembering = self.model_copy(update={"forgetting": None})
            return ForgettingPolicy(self.forgetting, lambda: remembering.build(n_features, n_states, popularity))
        if self.models == "shared":
            return Linear(self, n_features)
        return PerItem(self, n_features, n_items=len(popularity) - 1)


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
    samples: Annotated[int, Field(ge=1, description="S: posterior samples that vote")] = 100
    explorer: ExplorerConfig = Votes(floor=0.02)


LinearConfig: TypeAlias = RidgeConfig | LinUCBConfig | LinearThompsonConfig


class NeuralLinearConfig(BasePolicyConfig):
    """A network under a linear policy."""

    kind: Literal["neural_linear"] = "neural_linear"
    head: Annotated[
        LinearThompsonConfig | LinUCBConfig | RidgeConfig,
        Field(discriminator="kind", description="the policy over the last hidden layer, or over a basis of it"),
    ] = LinearThompsonConfig(models="per_item")
    basis: Annotated[BasisConfig, Field(description="of the network's inputs")] = Identity()
    hidden: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1, description="widths of layers")] = (
        100,
        100,
    )
    refresh_every: Annotated[int, Field(ge=1, description="impressions between two trainings")] = 1_000
    capacity: Annotated[int, Field(ge=1, description="impressions kept, the newest")] = 10_000
    steps: Annotated[int, Field(ge=1, description="gradient steps of a training")] = 300
    batch: Annotated[int, Field(ge=1, description="impressions a step")] = 256
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 3e-3
    seed: Annotated[int, Field(ge=0, description="of the first weights and the trainings' batches")] = 0

    @model_validator(mode="after")
    def _check(self) -> "NeuralLinearConfig":
        if self.head.forgetting is not None:
            raise ValueError(
                "head.forgetting: the network remembers `capacity` impressions, its head learns on them alone"
            )
        return self

    def build(self, n_features: int, n_states: int, popularity: NDArray[np.float64]) -> Policy:
        """See `BasePolicyConfig.build`."""
        from rl.policies.linear.neural import NeuralLinear

        return NeuralLinear(self, n_features, n_items=len(popularity) - 1)
