"""The policy interface: score -> distribution over the candidates -> sample. Light: numpy only.

Every policy answers B queries at once; rollouts use a large B, a served request B = 1. Axis names: B queries,
A candidates, S posterior samples of a score (1 where scores are points), F features, K slots of a slate, T entries of a
history, N observations.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from data.errors import RecommenderError
from rl.policy.draws import sample
from rl.policy.sparse import Sparse

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


LARGEST = 1e15
"""What a feature's or a reward's absolute value is taken to be at most: the doors refuse more, old logs may hold it."""

ITEM, OUTCOME, AGE = 0, 1, 2
"""Columns of a history entry."""

SHOWN, IGNORED, VIEW, CLICK, PURCHASE = 0, 1, 2, 3, 4
"""Outcomes of a history entry. SHOWN: what the user did is not known."""
N_OUTCOMES = 5


class PolicyError(RecommenderError):
    """A policy was asked for what it cannot give; says what, and what would be right."""


@dataclass(frozen=True, slots=True)
class Query:
    """B questions: in which context, choosing among which candidates."""

    features: FloatArray
    """[B, A, F] joint features of context and candidate, or [B, 1, F] features of the context alone."""
    state: IntArray
    """[B] code of the discrete context, for tabular policies."""
    items: IntArray
    """[B, A] positions in the catalogue, from 1. 0 is padding where the mask is off, an unknown item where it is on."""
    mask: BoolArray
    """[B, A] which candidates may be chosen."""
    history: IntArray | None = None
    """[B, T, 3] what the user was shown or did, oldest first and padded on the left: item, outcome, and age in steps
    (1 is the last). Item 0 is padding. None: no history is kept."""
    sparse: Sparse | None = None
    """Features by id, of B contexts and A candidates each. None: there are none."""

    def __len__(self) -> int:
        return len(self.state)

    @classmethod
    def of(cls, observation: Mapping[str, Any]) -> "Query":
        """Make a query of a batched observation; `items` and `mask` are needed, missing features are no features."""
        batch = len(observation["items"])
        nothing = {"features": np.zeros((batch, 1, 0)), "state": np.zeros(batch, dtype=np.int64)}
        mask = np.asarray(observation["mask"], dtype=np.bool_)
        return cls(**(nothing | dict(observation) | {"mask": mask}))


@dataclass(frozen=True, slots=True)
class Slates:
    """B answers of K slots each."""

    positions: IntArray
    """[B, K] indices into the query's candidate axis, best slot first, without repeats.

    Under a constraint K is the length of the longest slate, at most the k that was asked for and possibly 0. A slate
    that ends before it has position -1, propensity 1 and score 0 in what is left; with B = 1 there is none."""
    propensities: FloatArray
    """[B, K] probability of the slot's item given the slots before it, in (0, 1]."""
    scores: FloatArray
    """[B, K] expected reward of the slot's item, with the constraint's bias where there is one."""
    first: FloatArray | None = None
    """[B, A] the distribution that the first slot was drawn from; None where it is not kept."""


@dataclass(frozen=True, slots=True)
class Observations:
    """N shown items with what they earned: the sums over these are all that a policy here learns from.

    A correction of an earlier observation (a click that became a purchase) has count 0 and the *difference* of the
    rewards, and of their squares, so that adding it gives what one observation with the final reward would have given.

    Raises:
        PolicyError: there are corrections, and no squares.
    """

    features: FloatArray
    """[N, F] joint features of the context and the shown item."""
    state: IntArray
    """[N] code of the discrete context."""
    items: IntArray
    """[N] positions in the catalogue; 0 is an unknown item."""
    rewards: FloatArray
    """[N] reward, or the difference to the reward observed before."""
    counts: FloatArray
    """[N] 1 for a new observation, or more if it stands for others like it; 0 for a correction."""
    sparse: Sparse | None = None
    """Features by id, of N contexts and the one item shown in each. None: there are none."""
    squares: FloatArray = field(default_factory=lambda: np.zeros(0))
    """[N] the reward's square, or the difference to the square observed before; may be left out without corrections."""

    def __post_init__(self) -> None:
        if len(self.squares) < len(self.rewards):
            if not np.asarray(self.counts).all():
                raise PolicyError(
                    "a correction (count 0) needs squares: the reward's square less that of the reward observed before"
                )
            object.__setattr__(self, "squares", self.rewards**2)

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def concatenate(cls, parts: "list[Observations]") -> "Observations":
        """Join several in order; at least one is needed, and all or none have features by id."""
        sparse = [part.sparse for part in parts if part.sparse is not None]
        dense: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in DENSE}
        return cls(**dense, sparse=Sparse.concatenate(sparse) if sparse else None)

    def rows(self, rows: slice | BoolArray) -> "Observations":
        """Take some of the N."""
        dense: dict[str, Any] = {name: getattr(self, name)[rows] for name in DENSE}
        return Observations(**dense, sparse=None if self.sparse is None else self.sparse.rows(rows))

    @classmethod
    def of_slates(cls, query: Query, slates: Slates, rewards: FloatArray) -> "Observations":
        """Observe the reward of every slot; rewards is [B, K]."""
        rows = np.arange(len(query))[:, None]
        alike = query.features.shape[1] == 1  # features of the context serve every slot
        return cls(
            features=query.features[rows, slates.positions * (not alike)].reshape(rewards.size, -1),
            state=np.repeat(query.state, rewards.shape[1]),
            items=query.items[rows, slates.positions].ravel(),
            rewards=rewards.ravel(),
            counts=np.ones(rewards.size),
            sparse=None if query.sparse is None else query.sparse.shown(slates.positions),
        )


WEIGHTED = ("rewards", "counts", "squares")
"""The fields that are sums over all that an observation stands for."""

DENSE = ("features", "state", "items", "rewards", "counts", "squares")
"""The fields of observations that are arrays of N rows."""


class Explorer(Protocol):
    """Turns scores into an explicit distribution."""

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """Return [B, A] probabilities for scores [B, S, A]; rows sum to 1 and are 0 where the mask [B, A] is off."""
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
    """Observations change it; off: `update` does nothing."""
    ranks_by_expected: ClassVar[bool] = True
    """The best candidates are those of highest expected reward. Off: a slate is more than its items, and the best ones
    are those of highest scores."""

    @abstractmethod
    def expected(self, query: Query) -> FloatArray:
        """Return the expected reward of each candidate, [B, A]; finite also where the mask is off."""

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        """Return what exploration works on, [B, S, A]: the expected reward, unless a policy knows its uncertainty."""
        return self.expected(query)[:, None, :]

    def scored(self, query: Query, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Return `scores` and `expected`; to be overridden where the two share their work."""
        return self.scores(query, rng), self.expected(query)

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
        scores, expected = self.scored(query, rng)
        if constraint is not None:
            return self._decide_within(constraint, scores, expected, query.mask, k, rng)
        if len(query) == 1:
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

    @abstractmethod
    def update(self, observations: Observations) -> None:
        """Learn. Adding observations in one call or in many, in any order, gives the same policy up to rounding."""

    @abstractmethod
    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        """Return all that was learned, as arrays."""

    @abstractmethod
    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            PolicyError: an array is missing or has another shape than this policy's.
        """


def bounded(values: FloatArray) -> FloatArray:
    """Return values, those beyond `LARGEST` as that: products and sums of them stay finite."""
    return np.minimum(np.maximum(values, -LARGEST), LARGEST)


def checked(state: dict[str, NDArray[np.float64]], name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Return a copy of one array of a saved state after checking its shape.

    Raises:
        PolicyError: the array is missing, has another shape, or is not finite.
    """
    if name not in state:
        raise PolicyError(f"the saved policy has no array {name!r}; it has {sorted(state)}")
    array = np.array(state[name], dtype=np.float64)
    if array.shape != shape:
        raise PolicyError(f"array {name!r} of the saved policy has shape {array.shape}, this policy needs {shape}")
    if not np.isfinite(array).all():
        raise PolicyError(f"array {name!r} of the saved policy holds values that are not finite")
    return array
