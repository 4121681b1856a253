"""What every policy can do: score the candidates, turn scores into a distribution, sample slates from it, and learn.

Every policy answers B queries at once; rollouts use a large B, a served request B = 1. Axis names as in
`rl.policy.queries`, and S posterior samples of a score (1 where scores are points).
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.draws import sample
from rl.policy.errors import PolicyError
from rl.policy.explanation.leave_one_out import leave_one_out
from rl.policy.explanation.parts import TOP, Explanation, Names
from rl.policy.queries import Impressions, Query, Slates


class Explorer(Protocol):
    """Turns scores into an explicit distribution."""

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """Return [B, A] probabilities for scores [B, S, A]; rows sum to 1 and are 0 where the mask [B, A] is off."""
        ...

    def parts(self, scores: FloatArray, mask: BoolArray) -> Mapping[str, FloatArray]:
        """Return what `probabilities` are sums of, [B, A] each, by what a part is called.

        `rl.policy.explorers.UNIFORM` is that of uniform draws.
        """
        ...

    def slate(
        self, scores: FloatArray, mask: BoolArray, k: int, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Draw one slate of k slots without repeats for scores [S, A] and a mask [A] with at least k candidates.

        It is the one that `rl.policy.draws.sample` draws, slot by slot, from `probabilities`: a served request is
        spared the axis of queries. Returns what `rl.policy.draws.sample_one` does.
        """
        ...


class Constraint(Protocol):
    """What holds for slates whatever the policy thinks; `rl.policy.rules` has those of a shop."""

    @property
    def bias(self) -> FloatArray | None:
        """[B or 1, A] what is added to every sample of the scores and to the expected rewards; None: nothing."""
        ...

    def allowed(self, left: BoolArray, slot: int, chosen: IntArray) -> BoolArray:
        """Return which candidates may be shown next, [B, A]; a slate ends where there is none.

        Args:
            left: [B, A] candidates that have not been shown; not to be changed.
            slot: position of the next slot, from 0.
            chosen: [B, slot] positions of what was chosen before; -1 in a slate that has ended, where `left` is off.
        """
        ...


class Policy(ABC):
    """Answers queries with slates and knows with what probability it did."""

    explorer: Explorer
    learns: ClassVar[bool] = True
    """Impressions change it; off: `update` does nothing."""
    ranks_by_expected: ClassVar[bool] = True
    """The best candidates are those of highest expected reward. Off: a slate is more than its items, and the best ones
    are those of highest scores."""

    single_path: ClassVar[bool] = True
    """One query alone is answered by `Explorer.slate`, with the same bits in less time; see `rl.policy.explorers`.
    Off: it is answered as many are."""

    @abstractmethod
    def expected(self, query: Query) -> FloatArray:
        """Return the expected reward of each candidate, [B, A]; finite also where the mask is off."""

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return what exploration works on, [B, S, A]: the expected reward, unless a policy knows its uncertainty."""
        return self.expected(query)[:, None, :]

    def score(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return `scores` and `expected`; to be overridden where the two share their work."""
        return self.scores(query, rng), self.expected(query)

    def posterior(self, query: Query) -> tuple[FloatArray, FloatArray | None]:
        """Return the posterior mean and standard deviation of each candidate's expected reward, [B, A] both.

        The deviation is None where a policy does not know how uncertain it is.
        """
        return self.expected(query), None

    def explain(self, query: Query, positions: Sequence[int], names: Names, top: int = TOP) -> Explanation:
        """Explain what is expected of some candidates of one query; to be overridden where a policy knows better.

        A policy whose method is "exact" or "table" promises that contributions add up to what `expected` returns.

        Args:
            query: B = 1.
            positions: of the candidates.
            names: of what the query has.
            top: contributions, and shares of the variance, that are listed of each; the others are summed up.
        """
        return leave_one_out(self.expected, query, positions, names, top)

    def distribution(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return the distribution of the first slot, [B, A]."""
        return self.explorer.probabilities(self.scores(query, rng), query.mask)

    def decide(self, query: Query, k: int, rng: np.random.Generator, constraint: Constraint | None = None) -> Slates:
        """Sample slates of k items without repeats.

        Each slot is drawn from the explorer's distribution over the candidates that are left and that the constraint
        allows after the slots before, so its conditional propensity is exact for every explorer. Under a constraint a
        slate ends, shorter than k, where no candidate is allowed.

        Raises:
            PolicyError: k is not positive, or a query has fewer than k candidates (under a constraint: none).
        """
        fewest = int(query.mask.sum(axis=1).min(initial=query.mask.shape[1]))
        if k < 1 or fewest < (k if constraint is None else 1):
            raise PolicyError(f"k must be between 1 and the number of candidates, got k={k} with {fewest} candidates")
        scores, expected = self.score(query, rng)
        if constraint is not None:
            return self._decide_within(constraint, scores, expected, query.mask, k, rng)
        if len(query) == 1 and self.single_path:
            drawn, chances, first = self.explorer.slate(scores[0], query.mask[0], k, rng)
            return Slates(drawn, chances, expected[:, drawn[0]], first)
        rows, left = np.arange(len(query)), query.mask.copy()
        positions = np.empty((len(query), k), dtype=np.int64)
        propensities = np.empty((len(query), k))
        first = np.empty(0)
        for slot in range(k):
            p = self.explorer.probabilities(scores, left)  # [B, A]
            chosen = sample(p, rng)  # [B]
            positions[:, slot], propensities[:, slot] = chosen, p[rows, chosen]
            left[rows, chosen] = False
            first = p if slot == 0 else first
        return Slates(positions, propensities, np.take_along_axis(expected, positions, axis=1), first)

    def _decide_within(
        self,
        constraint: Constraint,
        scores: FloatArray,
        expected: FloatArray,
        mask: BoolArray,
        k: int,
        rng: np.random.Generator,
    ) -> Slates:
        if constraint.bias is not None:
            scores, expected = scores + constraint.bias[:, None, :], expected + constraint.bias
        rows, left = np.arange(len(mask)), mask.copy()
        positions = np.full((len(mask), k), -1, dtype=np.int64)
        propensities, worth = np.ones((len(mask), k)), np.zeros((len(mask), k))
        first, length = np.zeros(mask.shape), 0
        for slot in range(k):
            allowed = constraint.allowed(left, slot, positions[:, :slot])
            going: BoolArray = np.logical_or.reduce(allowed, axis=1)  # [B]
            if not going.any():
                break
            # An explorer needs a candidate in every row: in a slate that has ended any will do, it is not shown.
            p = self.explorer.probabilities(scores, allowed | ~going[:, None])
            at, shown = rows[going], sample(p, rng)[going]
            positions[at, slot], propensities[at, slot], worth[at, slot] = shown, p[at, shown], expected[at, shown]
            left[at, shown], left[~going] = False, False
            first = np.where(going[:, None], p, 0.0) if slot == 0 else first
            length = slot + 1
        return Slates(positions[:, :length], propensities[:, :length], worth[:, :length], first)

    def of_length(self, k: int) -> "Policy":
        """Return the policy whose `score` is what slates of k are drawn from; only a slate's own policy is another."""
        return self

    def export_graph(self) -> bytes | None:
        """Return an ONNX model of what the policy computes now, for where nothing is trained.

        It takes seconds of a core, so it is done once, when a training saves what it gives.

        Returns:
            None: the policy has none, and answers by itself.

        Raises:
            PolicyError: the model computes something else than the policy.
        """
        return None

    @abstractmethod
    def update(self, impressions: Impressions) -> None:
        """Learn. Adding impressions in one call or in many, in any order, gives the same policy up to rounding."""

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return all that was learned, as arrays."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            PolicyError: an array is missing or has another shape than this policy's.
        """
