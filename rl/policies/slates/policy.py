"""The policy of a slate network: the slate that is worth most, explored slot by slot."""

import numpy as np
import torch

from rl.policies.slates.choice import best_slates
from rl.policies.slates.network import SlateNetwork
from rl.policies.transformer.policy import TransformerPolicy, tensors
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError
from rl.policy.explorers import ExplorerConfig
from rl.policy.interface import Constraint
from rl.policy.queries import Query, Slates


class SlatePolicy(TransformerPolicy):
    """Scores candidates by their part in the best slate of k, so that its greedy slate is that one.

    The expected reward of a candidate is what the policy is asked for everywhere else: that of showing it alone.

    Args:
        network: used as it is, so that later changes of its weights change the policy.
        explorer: what is drawn from the scores; each slot from the candidates that are left.
        k: slots of the slates that `scores` and `distribution` are for; `decide` is told its own.
    """

    network: SlateNetwork
    explorer: ExplorerConfig
    ranks_by_expected = False

    def __init__(self, network: SlateNetwork, explorer: ExplorerConfig, k: int) -> None:
        super().__init__(network, explorer)
        self.k = k

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return the scores of `best_slates`, [B, 1, A]."""
        return self.score(query, rng)[0]

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return the scores of `best_slates` [B, 1, A], and the values of the candidates shown alone [B, A]."""
        if query.features.shape[2] != self.network.n_features:
            found, wanted = query.features.shape[2], self.network.n_features
            raise PolicyError(f"a query has {found} features, this network was trained with {wanted}")
        items, mask, history, features = tensors(query)
        with torch.inference_mode():
            judged = self.network.judge(items, history, features)
            _, scores = best_slates(judged.added, judged.logits, mask, min(self.k, items.shape[1]))
            alone = judged.nothing.unsqueeze(1) + judged.logits.sigmoid() * judged.added
        return scores.numpy().astype(np.float64)[:, None, :], alone.numpy().astype(np.float64)

    def of_length(self, k: int) -> "SlatePolicy":
        """See `Policy.of_length`."""
        return self if k == self.k else SlatePolicy(self.network, self.explorer, k)

    def decide(self, query: Query, k: int, rng: np.random.Generator, constraint: Constraint | None = None) -> Slates:
        """See `Policy.decide`; the slate aimed at is the best of k, whatever the policy's own k is."""
        if k != self.k:
            return self.of_length(k).decide(query, k, rng, constraint)
        return super().decide(query, k, rng, constraint)
