"""A linear model of its own for each item, for features of the context alone."""

from collections.abc import Iterator

import numpy as np

from rl.policies.linear.config import LinearConfig, LinearThompsonConfig
from rl.policies.linear.linear import LinearPolicy
from rl.policies.linear.posterior import Gaussian
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.queries import Impressions, Query


class PerItem(LinearPolicy):
    """Disjoint models. Item 0, the unknown item, keeps the prior; an item that was never shown has it as well.

    Source: Li et al., "A contextual-bandit approach" (2010), algorithm 1.
    """

    def __init__(self, config: LinearConfig, n_features: int, n_items: int) -> None:
        super().__init__(config, n_items + 1, n_features)

    def expected(self, query: Query) -> FloatArray:
        """Return m + φᵀA⁻¹(b - mx) with the sums of each candidate's item, [B, A]."""
        expected, prior = np.empty(query.mask.shape), self.prior
        for model, rows, columns, phi in self._by_item(query):
            expected[rows, columns] = phi @ model.solve(prior)[1]
        return expected + prior.centre

    def deviation(self, query: Query) -> FloatArray:
        """See `LinearPolicy.deviation`."""
        deviation, prior = np.empty(query.mask.shape), self.prior
        for model, rows, columns, phi in self._by_item(query):
            deviation[rows, columns] = model.deviation(phi, prior)
        return deviation

    def draws(self, query: Query, config: LinearThompsonConfig, rng: np.random.Generator) -> FloatArray:
        """See `LinearPolicy.draws`."""
        sampled, prior = np.empty((len(query), config.samples, query.mask.shape[1])), self.prior
        for model, rows, columns, phi in self._by_item(query):
            sampled[rows, :, columns] = phi @ model.draw(config.samples, rng, prior).T
        return sampled + prior.centre

    def _by_item(self, query: Query) -> Iterator[tuple[Gaussian, IntArray, IntArray, FloatArray]]:
        """Yield each asked item's model, where it is asked (rows and columns, [n] each), and φ there, [n, G]."""
        phi = self.features(query.features)
        of_context = phi.shape[1] == 1
        for item in np.unique(query.items):
            rows, columns = np.nonzero(query.items == item)
            yield self._models[item], rows, columns, phi[rows, 0 if of_context else columns]

    def update(self, impressions: Impressions) -> None:
        """Add every impression to the sums of its item; those of unknown items are not learned."""
        phi = self.features(impressions.features)
        for item in np.unique(impressions.items[impressions.items > 0]):
            of_item = impressions.items == item
            self._learn(item, phi[of_item], impressions.rows(of_item))
