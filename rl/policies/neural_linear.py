"""Neural-linear: a network learns the features, a Bayesian linear model learns on them. Light: torch only to train.

The last hidden layer of a multi-layer perceptron is the basis of a linear policy. The network is trained anew on the
kept observations after every `refresh_every` of them; the linear policy then starts again from its prior and sees the
kept observations through the new features. Between two refreshes updates add as those of linear policies do. Across a
refresh their order counts, as it says which observations the network had seen.

Source: Riquelme, Tucker and Snoek, "Deep Bayesian Bandits Showdown" (ICLR 2018), section 3, "NeuralLinear".
"""

from itertools import pairwise
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from rl.policies.basis import BasisConfig, Identity
from rl.policies.linear import Linear, LinearPolicy, LinearThompsonConfig, LinUCBConfig, RidgeConfig
from rl.policies.memory import Memory
from rl.policies.per_item import PerItem
from rl.policy import FloatArray, Observations, Policy, Query, checked


class NeuralLinearConfig(BaseModel):
    """A network under a linear policy."""

    model_config = ConfigDict(frozen=True, extra="forbid")
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
    refresh_every: Annotated[int, Field(ge=1, description="observations between two trainings")] = 1_000
    capacity: Annotated[int, Field(ge=1, description="observations kept, the newest")] = 10_000
    steps: Annotated[int, Field(ge=1, description="gradient steps of a training")] = 300
    batch: Annotated[int, Field(ge=1, description="observations a step")] = 256
    learning_rate: Annotated[float, Field(gt=0, description="of Adam")] = 3e-3
    seed: Annotated[int, Field(ge=0, description="of the first weights and the trainings' batches")] = 0


class NeuralLinear(Policy):
    """A linear policy on learned features. Everything it will do follows from its arrays, the kept data included."""

    def __init__(self, config: NeuralLinearConfig, n_features: int, n_items: int) -> None:
        self.config, self.explorer = config, config.head.explorer
        self._n_items = n_items
        self._weights = initial_weights((config.basis.size(n_features), *config.hidden), config.seed)
        self._memory = Memory(config.capacity, n_features)
        self._head = self._new_head()

    def _new_head(self) -> LinearPolicy:
        head, size = self.config.head, self.config.hidden[-1] + 1
        return Linear(head, size) if head.models == "shared" else PerItem(head, size, self._n_items)

    def features(self, raw: FloatArray) -> FloatArray:
        """Return the last hidden layer and a constant 1 for raw features [..., F], [..., H + 1]."""
        phi = self.config.basis(raw)
        for weights, bias in self._weights:
            phi = np.maximum(phi @ weights + bias, 0.0)
        return np.concatenate([phi, np.ones((*phi.shape[:-1], 1))], axis=-1)

    def _seen_through(self, query: Query) -> Query:
        return Query(self.features(query.features), query.state, query.items, query.mask)

    def expected(self, query: Query) -> FloatArray:
        """Return the linear policy's expectation, [B, A]."""
        return self._head.expected(self._seen_through(query))

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """See `LinearPolicy.scores`."""
        return self._head.scores(self._seen_through(query), rng)

    def update(self, observations: Observations) -> None:
        """Keep and learn; refresh after each observation that makes `refresh_every` more, wherever a call ends."""
        start = 0
        while start < len(observations):
            left = self.config.refresh_every - self._memory.seen % self.config.refresh_every
            some = observations.rows(slice(start, start + left))
            start += len(some)
            self._memory.add(some)
            if len(some) == left:
                self.refresh()
            else:
                self._learn(some)

    def _learn(self, observations: Observations) -> None:
        o = observations
        self._head.update(Observations(self.features(o.features), o.state, o.items, o.rewards, o.counts))

    def refresh(self) -> None:
        """Train the network on what is kept, and let a new linear policy see it through the new features."""
        from rl.policies.training import trained  # torch is needed here and nowhere else

        kept = self._memory.observations()
        seed = int(np.random.SeedSequence([self.config.seed, self._memory.seen]).generate_state(1)[0])
        inputs = self.config.basis(kept.features)
        shared = self.config.head.models == "shared"
        self._weights = trained(self._weights, inputs, kept, 0 if shared else self._n_items, self.config, seed)
        self._head = self._new_head()
        self._learn(kept)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the layers, the linear policy's sums and the kept data."""
        layers: dict[str, NDArray[np.float64]] = {}
        for i, (weights, bias) in enumerate(self._weights):
            layers |= {f"w{i}": weights.copy(), f"c{i}": bias.copy()}
        return layers | self._head.state_dict() | self._memory.state_dict()

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.Policy.load_state_dict`."""
        weights = [
            (checked(state, f"w{i}", w.shape), checked(state, f"c{i}", c.shape))
            for i, (w, c) in enumerate(self._weights)
        ]
        head, memory = self._new_head(), Memory(self.config.capacity, self._memory.n_features)
        head.load_state_dict(state)
        memory.load_state_dict(state)
        self._weights, self._head, self._memory = weights, head, memory


def initial_weights(sizes: tuple[int, ...], seed: int) -> list[tuple[FloatArray, FloatArray]]:
    """Draw layers of weights [in, out] with variance 2 / in and biases 0. Source: He et al. (2015), eq. 10."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((i, o)) * np.sqrt(2.0 / max(i, 1)), np.zeros(o)) for i, o in pairwise(sizes)]
