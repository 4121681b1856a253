"""Neural-linear: a network learns the features, a Bayesian linear model learns on them.

The last hidden layer of a multi-layer perceptron is the basis of a linear policy. The network is trained anew on the
kept impressions after every `refresh_every` of them; the linear policy then starts again from its prior and sees the
kept impressions through the new features. Between two refreshes updates add as those of linear policies do. Across a
refresh their order counts, as it says which impressions the network had seen.

A second linear policy learns on the inputs themselves. At each refresh both predict the newest impressions, which
neither has seen, and until the next the better one answers: with few data, or where nothing but a line is to be found,
that is the linear one.

Source: Riquelme, Tucker and Snoek, "Deep Bayesian Bandits Showdown" (ICLR 2018), section 3, "NeuralLinear".
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from rl.policies.linear.basis import Identity
from rl.policies.linear.config import LinearConfig, NeuralLinearConfig
from rl.policies.linear.evidence import sizes
from rl.policies.linear.explanation import explain_sum
from rl.policies.linear.linear import Linear, LinearPolicy
from rl.policies.linear.per_item import PerItem
from rl.policies.linear.window import ImpressionWindow
from rl.policy.arrays import FloatArray, bound, check_array
from rl.policy.errors import PolicyError
from rl.policy.explanation.leave_one_out import leave_one_out
from rl.policy.explanation.parts import TOP, Explanation, Names
from rl.policy.interface import Explorer, Policy
from rl.policy.queries import Impressions, Query

_OF_LINEAR = "linear_"  # what the names of its arrays begin with


class NeuralLinear(Policy):
    """A linear policy on learned features, or on the inputs where it predicts better from them.

    Everything it will do follows from its arrays, the kept data included.
    """

    def __init__(self, config: NeuralLinearConfig, n_features: int, n_items: int) -> None:
        self.config = config
        self._n_features, self._n_items = n_features, n_items
        size = config.basis.size(n_features)
        self._weights = initial_weights((size, *config.hidden), config.seed)
        self._scales = np.ones(size)  # of the network's inputs, powers of two
        self._window = ImpressionWindow(config.capacity, n_features)
        self._head, self._linear = self._new_head(), self._new_linear()
        self._errors = np.zeros(
            2
        )  # squared, of what was not yet learned: of the linear policy, and on learned features

    def _new_head(self) -> LinearPolicy:
        return _linear(self.config.head, self.config.hidden[-1] + 1, self._n_items)

    def _new_linear(self) -> LinearPolicy:
        relevance = self.config.head.relevance
        changes = {
            "basis": self.config.basis,
            "relevance": relevance and relevance.model_copy(update={"groups": ()}),  # they are of the layer's weights
        }
        return _linear(self.config.head.model_copy(update=changes), self._n_features, self._n_items)

    @property
    def explorer(self) -> Explorer:  # type: ignore[override]  # it follows from what was learned
        """That of the policy that answers."""
        return (self._head if self.network_answers else self._linear).explorer

    @property
    def network_answers(self) -> bool:
        """Whether learned features have predicted better than the inputs themselves."""
        return bool(self._errors[1] < self._errors[0])

    def features(self, raw: FloatArray) -> FloatArray:
        """Return the last hidden layer and a constant 1 for raw features [..., F], [..., H + 1]."""
        return self._hidden(self._inputs(raw))

    def _hidden(self, inputs: FloatArray) -> FloatArray:
        phi = inputs
        for weights, bias in self._weights:
            phi = np.maximum(phi @ weights + bias, 0.0)
        return np.concatenate([phi, np.ones((*phi.shape[:-1], 1))], axis=-1)

    def _inputs(self, raw: FloatArray) -> FloatArray:
        inputs: FloatArray = self.config.basis(bound(raw)) / self._scales
        return inputs

    def _answering(self, query: Query) -> tuple[LinearPolicy, Query]:
        if not self.network_answers:
            return self._linear, query
        return self._head, Query(self.features(query.features), query.state, query.items, query.mask)

    def expected(self, query: Query) -> FloatArray:
        """Return the answering policy's expectation, [B, A]."""
        policy, seen = self._answering(query)
        return policy.expected(seen)

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """See `LinearPolicy.scores`."""
        return self.score(query, rng)[0]

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """See `rl.policy.interface.Policy.score`."""
        policy, seen = self._answering(query)
        return policy.score(seen, rng)

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray]:
        """See `rl.policy.interface.Policy.posterior`."""
        policy, seen = self._answering(query)
        return policy.posterior(seen)

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain exactly where the linear policy answers; else by the network's inputs times the score's gradient.

        The uncertainty is the linear policy's on top: shares of it are those of learned features. Where that has a
        basis of its own, features are left out one by one instead.
        """
        if not self.network_answers:
            return self._linear.explain(query, positions, names, top)
        if not isinstance(self.config.head.basis, Identity):
            return leave_one_out(self.expected, query, positions, names, top)
        _, seen = self._answering(query)
        learned = (*(f"learned feature {unit}" for unit in range(self.config.hidden[-1])), "constant")
        explained = self._head.explain(seen, positions, Names(learned), top)
        of_inputs = self.config.basis.names([names.column(place) for place in range(query.features.shape[2])])
        inputs, nothing = self._inputs(query.features)[0], self._hidden(np.zeros(len(self._scales)))
        items = []
        for position, item in zip(positions, explained.items, strict=True):
            row = inputs[position if len(inputs) > 1 else 0]
            weights = self._head.weights(int(query.items[0, position]))
            base = self._head.prior.centre + float(nothing @ weights)
            found = explain_sum(item.score, base, of_inputs, row, self._gradient(row, weights), top)
            items.append(replace(found, uncertainty=item.uncertainty))
        return Explanation("gradient", tuple(items))

    def _gradient(self, inputs: FloatArray, weights: FloatArray) -> FloatArray:
        """Return the derivatives [G] of weights [H + 1] times the hidden layer and 1 by the inputs [G]."""
        active, phi = list[FloatArray](), inputs
        for layer, bias in self._weights:
            phi = np.maximum(phi @ layer + bias, 0.0)
            active.append((phi > 0).astype(np.float64))
        gradient = weights[:-1]
        for (layer, _), on in zip(reversed(self._weights), reversed(active), strict=True):
            gradient = layer @ (gradient * on)
        return gradient

    def update(self, impressions: Impressions) -> None:
        """Keep and learn; refresh after each impression that makes `refresh_every` more, wherever a call ends."""
        start = 0
        while start < len(impressions):
            left = self.config.refresh_every - self._window.seen % self.config.refresh_every
            some = impressions.rows(slice(start, start + left))
            start += len(some)
            self._window.add(some)
            self._linear.update(some)
            if len(some) == left:
                self.refresh()
            else:
                self._head.update(self._seen_through(some))

    def _seen_through(self, impressions: Impressions) -> Impressions:
        return replace(impressions, features=self.features(impressions.features))

    def refresh(self) -> None:
        """Train the network on what is kept, and let a new linear policy see it through the new features."""
        from rl.policies.linear.neural_training import train  # torch is needed here and nowhere else

        kept = self._window.impressions()
        self._compare(kept)
        seed = int(np.random.SeedSequence([self.config.seed, self._window.seen]).generate_state(1)[0])
        inputs = self.config.basis(bound(kept.features))
        self._scales = np.exp2(np.floor(np.log2(sizes(kept.counts @ inputs**2, kept.counts @ inputs**4))))
        shared = self.config.head.models == "shared"
        n_items = 0 if shared else self._n_items
        self._weights = train(self._weights, inputs / self._scales, kept, n_items, self.config, seed)
        self._head = self._new_head()
        self._head.update(self._seen_through(kept))

    def _compare(self, kept: Impressions) -> None:
        """Let both predict the newest of what is kept, which the network has not seen, from what was before it.

        What was found at earlier refreshes counts half as much each time.
        """
        newest = min(self.config.refresh_every, (len(kept) + 1) // 2)
        before, after = kept.rows(slice(-newest)), kept.rows(slice(len(kept) - newest, None))
        head, linear = self._new_head(), self._new_linear()
        linear.update(before)
        head.update(self._seen_through(before))
        found = [squared_error(linear, after), squared_error(head, self._seen_through(after))]
        self._errors = self._errors / 2 + found

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return the layers, both linear policies' sums, their errors and the kept data."""
        layers: dict[str, NDArray[np.float64]] = {}
        for i, (weights, bias) in enumerate(self._weights):
            layers |= {f"w{i}": weights.copy(), f"c{i}": bias.copy()}
        linear = {f"{_OF_LINEAR}{name}": array for name, array in self._linear.state_dict().items()}
        others = {"scales": self._scales.copy(), "errors": self._errors.copy()}
        return layers | self._head.state_dict() | linear | others | self._window.state_dict()

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """See `rl.policy.interface.Policy.load_state_dict`."""
        weights = [
            (check_array(state, f"w{i}", w.shape), check_array(state, f"c{i}", c.shape))
            for i, (w, c) in enumerate(self._weights)
        ]
        if "errors" not in state:
            raise PolicyError(
                "the saved policy has no array 'errors': it was saved by a version whose neural-linear policies had no "
                "linear policy beside the network; train it anew"
            )
        scales, errors = check_array(state, "scales", self._scales.shape), check_array(state, "errors", (2,))
        head, linear = self._new_head(), self._new_linear()
        window = ImpressionWindow(self.config.capacity, self._n_features)
        head.load_state_dict(state)
        saved = {n: check_array(state, f"{_OF_LINEAR}{n}", array.shape) for n, array in linear.state_dict().items()}
        linear.load_state_dict(saved)
        window.load_state_dict(state)
        self._weights, self._scales, self._errors = weights, scales, errors
        self._head, self._linear, self._window = head, linear, window


def _linear(config: LinearConfig, n_features: int, n_items: int) -> LinearPolicy:
    return Linear(config, n_features) if config.models == "shared" else PerItem(config, n_features, n_items)


def squared_error(policy: LinearPolicy, o: Impressions) -> float:
    """Return Σ (f - r)² of what a policy expects, f, of the items shown; corrections included, see `Impressions`."""
    query = Query(o.features[:, None, :], o.state, o.items[:, None], np.ones((len(o), 1), dtype=np.bool_))
    f = policy.expected(query)[:, 0]
    return float((o.counts * f**2 - 2 * o.rewards * f + o.squares).sum())


def initial_weights(sizes: tuple[int, ...], seed: int) -> list[tuple[FloatArray, FloatArray]]:
    """Draw layers of weights [in, out] with variance 2 / in and biases 0. Source: He et al. (2015), eq. 10."""
    rng = np.random.default_rng(seed)
    return [(rng.standard_normal((i, o)) * np.sqrt(2.0 / max(i, 1)), np.zeros(o)) for i, o in pairwise(sizes)]
