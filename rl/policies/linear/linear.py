"""Linear policies: ridge regression, LinUCB and linear Thompson, one model for all items or one for each.

With one model the features are joint ones of context and item. With a model for each item ("disjoint" models) the
context alone will do. Either way a basis may stand between the raw features and the model. The sums of the posterior
(see `rl.policies.linear.posterior`) add, so updates merge exactly whatever their order or their origin.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from rl.policies.linear.config import LinearConfig, LinearThompsonConfig, LinUCBConfig, RidgeConfig
from rl.policies.linear.evidence import Evidence, Prior
from rl.policies.linear.explanation import explain_sum, uncertainty_of
from rl.policies.linear.posterior import Gaussian, check_precision
from rl.policy.arrays import FloatArray, bound, check_array
from rl.policy.explanation.parts import TOP, Explanation, Names
from rl.policy.interface import Explorer, Policy
from rl.policy.queries import Impressions, Query


class LinearPolicy(Policy):
    """What linear policies share: M models of G features, and how their uncertainty is used."""

    def __init__(self, config: LinearConfig, models: int, n_features: int) -> None:
        self.config = config
        size = config.basis.size(n_features)
        self._given = None if config.learns_prior else Prior(noise_sd=config.noise_sd or 1.0)
        self._models = [Gaussian.prior(size, config.precision, config.relevance) for _ in range(models)]
        self._evidence = None if self._given else Evidence(models, size)

    @property
    def prior(self) -> Prior:
        """What the models' sums are solved with now."""
        if self._evidence is None:
            assert self._given is not None, "noise and prior are given or learned"
            return self._given
        return self._evidence.prior(self._models)

    @property
    def explorer(self) -> Explorer:  # type: ignore[override]  # it follows from what was learned
        """The configured one, in units of the spread of rewards where that is learned."""
        return self.config.explorer.scale(self.prior.unit)

    @abstractmethod
    def deviation(self, query: Query) -> FloatArray:
        """Return √(φᵀA⁻¹φ) of each candidate, [B, A]."""

    @abstractmethod
    def draws(self, query: Query, config: LinearThompsonConfig, rng: np.random.Generator) -> FloatArray:
        """Return each candidate's score under S draws of the weights, the same draws for all queries, [B, S, A]."""

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return what the configuration explores with: means, upper bounds (both [B, 1, A]) or samples [B, S, A]."""
        return self.score(query, rng)[0]

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """See `rl.policy.interface.Policy.score`."""
        expected = self.expected(query)
        match self.config:
            case LinUCBConfig():
                width = self.config.alpha * self.prior.noise_sd
                return (expected + width * self.deviation(query))[:, None, :], expected
            case LinearThompsonConfig():
                return self.draws(query, self.config, rng), expected
            case RidgeConfig():
                return expected[:, None, :], expected

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray]:
        """See `rl.policy.interface.Policy.posterior`."""
        return self.expected(query), self.prior.noise_sd * self.deviation(query)

    def weights(self, item: int) -> FloatArray:
        """Return the posterior mean of the weights that the item at a position of the catalogue has, [G]."""
        return self._model_of(item).solve(self.prior)[1].copy()

    def _model_of(self, item: int) -> Gaussian:
        return self._models[item if len(self._models) > 1 else 0]

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain exactly: what a feature adds is its weight times what the basis makes of it."""
        phi, scores, prior = self.features(query.features)[0], self.expected(query)[0], self.prior
        of_basis = self.config.basis.names([names.column(place) for place in range(query.features.shape[2])])
        items = []
        for position in positions:
            row, item = phi[position if len(phi) > 1 else 0], int(query.items[0, position])
            score = float(scores[position])
            explained = explain_sum(score, prior.centre, of_basis, row, self.weights(item), top)
            variances = prior.noise_sd**2 * self._model_of(item).variances(row, prior)
            items.append(replace(explained, uncertainty=uncertainty_of(of_basis, variances, top)))
        return Explanation("exact", tuple(items))

    def features(self, raw: FloatArray) -> FloatArray:
        """Return φ of raw features, [..., G]."""
        return self.config.basis(bound(raw))

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        count, size = len(self._models), len(self._models[0].b)
        evidence = None if self._evidence is None else self._evidence.restore(state)
        A, b = check_array(state, "A", (count, size, size)), check_array(state, "b", (count, size))
        x = np.zeros((count, size)) if evidence is None else check_array(state, "x", (count, size))
        models = [model.with_sums(*sums) for model, *sums in zip(self._models, A, b, x, strict=True)]
        for item, model in enumerate(models):
            if model is not self._models[item]:
                of_item = f" for item {item}" * (count > 1)
                check_precision(model.A, f"array 'A' of the saved policy is not positive definite{of_item}")
        self._models, self._evidence = models, evidence

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return A [M, G, G] and b [M, G]; where the prior is learned x [M, G] and what `Evidence` keeps as well."""
        names = ("A", "b") if self._evidence is None else ("A", "b", "x")
        sums = {name: np.stack([getattr(model, name) for model in self._models]) for name in names}
        return sums if self._evidence is None else sums | self._evidence.state_dict()

    def _learn(self, model: int, features: FloatArray, o: Impressions) -> None:
        self._models[model].add(features, o.rewards, o.counts)
        if self._evidence is not None:
            self._evidence.add(model, features, o)


class Linear(LinearPolicy):
    """One model of the joint features of context and item; features of the context alone tell no items apart."""

    def __init__(self, config: LinearConfig, n_features: int) -> None:
        super().__init__(config, 1, n_features)

    @property
    def mean(self) -> FloatArray:
        """Posterior mean of the weights, [G]; rewards are these times φ, and the prior's centre."""
        return self._models[0].solve(self.prior)[1].copy()

    def expected(self, query: Query) -> FloatArray:
        """Return m + φᵀA⁻¹(b - mx), [B, A]."""
        prior = self.prior
        expected: FloatArray = self._phi(query) @ self._models[0].solve(prior)[1] + prior.centre
        return expected

    def deviation(self, query: Query) -> FloatArray:
        """See `LinearPolicy.deviation`."""
        phi = self._phi(query)
        return self._models[0].deviation(phi.reshape(-1, phi.shape[-1]), self.prior).reshape(query.mask.shape)

    def draws(self, query: Query, config: LinearThompsonConfig, rng: np.random.Generator) -> FloatArray:
        """See `LinearPolicy.draws`."""
        prior = self.prior
        weights = self._models[0].draw(config.samples, rng, prior)  # [S, G]
        sampled: FloatArray = (self._phi(query) @ weights.T).swapaxes(1, 2) + prior.centre
        return sampled

    def _phi(self, query: Query) -> FloatArray:
        """Return φ of every candidate, [B, A, G]."""
        phi = self.features(query.features)
        alike = phi.shape[:2] == query.mask.shape
        return phi if alike else np.broadcast_to(phi, (*query.mask.shape, phi.shape[-1]))

    def update(self, impressions: Impressions) -> None:
        """Add to the sums, see `Gaussian.add`."""
        self._learn(0, self.features(impressions.features), impressions)

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the sums of the one model, A [G, G] and b [G], and what else there is to learn a prior from."""
        state = super().state_dict()
        return state | {name: state[name][0] for name in state.keys() & {"A", "b", "x"}}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        size = len(self._models[0].b)
        shapes = {"A": (size, size), "b": (size,)} | ({} if self._evidence is None else {"x": (size,)})
        super().load_state_dict(state | {name: check_array(state, name, shape)[None] for name, shape in shapes.items()})
