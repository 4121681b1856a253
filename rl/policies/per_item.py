"""A linear model of its own for each item, for features of the context alone. Light: numpy and scipy."""

from collections.abc import Iterator

import numpy as np
from numpy.linalg import LinAlgError
from numpy.typing import NDArray

from rl.policies.gaussian import Gaussian
from rl.policies.linear import LinearConfig, LinearPolicy, LinearThompsonConfig
from rl.policy import FloatArray, IntArray, Observations, PolicyError, Query, checked


class PerItem(LinearPolicy):
    """Disjoint models. Item 0, the unknown item, keeps the prior; an item that was never shown has it as well.

    Source: Li et al., "A contextual-bandit approach" (2010), algorithm 1.
    """

    def __init__(self, config: LinearConfig, n_features: int, n_items: int) -> None:
        super().__init__(config)
        size = config.basis.size(n_features)
        self._models = [Gaussian.prior(size, config.regularisation, config.relevance) for _ in range(n_items + 1)]

    def expected(self, query: Query) -> FloatArray:
        """Return φᵀA⁻¹b with the sums of each candidate's item, [B, A]."""
        expected = np.empty(query.mask.shape)
        for model, rows, columns, phi in self._by_item(query):
            expected[rows, columns] = phi @ model.solved()[1]
        return expected

    def deviation(self, query: Query) -> FloatArray:
        """See `LinearPolicy.deviation`."""
        deviation = np.empty(query.mask.shape)
        for model, rows, columns, phi in self._by_item(query):
            deviation[rows, columns] = model.deviation(phi)
        return deviation

    def draws(self, query: Query, config: LinearThompsonConfig, rng: np.random.Generator) -> FloatArray:
        """See `LinearPolicy.draws`."""
        sampled = np.empty((len(query), config.samples, query.mask.shape[1]))
        for model, rows, columns, phi in self._by_item(query):
            sampled[rows, :, columns] = phi @ model.draw(config.noise_sd, config.samples, rng).T
        return sampled

    def _by_item(self, query: Query) -> Iterator[tuple[Gaussian, IntArray, IntArray, FloatArray]]:
        """Yield each asked item's model, where it is asked (rows and columns, [n] each), and φ there, [n, G]."""
        phi = self.config.basis(query.features)
        of_context = phi.shape[1] == 1
        for item in np.unique(query.items):
            rows, columns = np.nonzero(query.items == item)
            yield self._models[item], rows, columns, phi[rows, 0 if of_context else columns]

    def update(self, observations: Observations) -> None:
        """Add every observation to the sums of its item; those of unknown items are not learned."""
        phi = self.config.basis(observations.features)
        for item in np.unique(observations.items[observations.items > 0]):
            of_item = observations.items == item
            self._models[item].add(phi[of_item], observations.rewards[of_item], observations.counts[of_item])

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return A [N + 1, G, G] and b [N + 1, G]; row 0 is the prior."""
        return {name: np.stack([getattr(model, name) for model in self._models]) for name in ("A", "b")}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.Policy.load_state_dict`."""
        n, size = len(self._models), len(self._models[0].b)
        A, b = checked(state, "A", (n, size, size)), checked(state, "b", (n, size))
        loaded = [model.with_sums(*sums) for model, *sums in zip(self._models, A, b, strict=True)]
        for item, model in enumerate(loaded):
            try:
                model.solved()
            except LinAlgError as error:
                message = f"array 'A' of the saved policy is not positive definite for item {item}: it is no precision"
                raise PolicyError(message) from error
        self._models = loaded
