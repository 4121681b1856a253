"""What a policy is asked, what it answers and what it learns from, as arrays with a row for each.

Axis names: B queries, A candidates, F features, K slots of a slate, T entries of a history, N impressions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.errors import PolicyError
from rl.policy.sparse import Sparse

ITEM, OUTCOME, AGE = 0, 1, 2
"""Columns of a history entry."""

SHOWN, IGNORED, VIEW, CLICK, PURCHASE = 0, 1, 2, 3, 4
"""Outcomes of a history entry. SHOWN: what the user did is not known."""
N_OUTCOMES = 5
OUTCOMES = ("shown", "ignored", "view", "click", "purchase")
"""What they are called."""


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

    def rows(self, rows: slice | IntArray) -> "Query":
        """Take some of the B; an index may repeat."""
        dense = (self.features[rows], self.state[rows], self.items[rows], self.mask[rows])
        history = None if self.history is None else self.history[rows]
        return Query(*dense, history, None if self.sparse is None else self.sparse.rows(rows))


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
class Impressions:
    """N shown items with what they earned: the sums over these are all that a policy here learns from.

    A correction of an earlier impression (a click that became a purchase) has count 0 and the *difference* of the
    rewards, and of their squares, so that adding it gives what one impression with the final reward would have given.

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
    """[N] 1 for a new impression, or more if it stands for others like it; 0 for a correction; less than 0 for one that
    is taken back, with its reward."""
    sparse: Sparse | None = None
    """Features by id, of N contexts and the one item shown in each. None: there are none."""
    squares: FloatArray = field(default_factory=lambda: np.zeros(0))
    """[N] the reward's square, or the difference to the square observed before; may be left out without corrections."""
    at: FloatArray = field(default_factory=lambda: np.zeros(0))
    """[N] log position of the decision, for policies that forget; NaN, and if left out: that of what comes next."""

    def __post_init__(self) -> None:
        if len(self.squares) < len(self.rewards):
            if not np.asarray(self.counts).all():
                raise PolicyError(
                    "a correction (count 0) needs squares: the reward's square less that of the reward observed before"
                )
            object.__setattr__(self, "squares", self.rewards**2)
        if len(self.at) < len(self.rewards):
            object.__setattr__(self, "at", np.full(len(self.rewards), np.nan))

    def __len__(self) -> int:
        return len(self.rewards)

    @classmethod
    def concatenate(cls, parts: "list[Impressions]") -> "Impressions":
        """Join several in order; at least one is needed, and all or none have features by id."""
        sparse = [part.sparse for part in parts if part.sparse is not None]
        dense: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in DENSE}
        return cls(**dense, sparse=Sparse.concatenate(sparse) if sparse else None)

    def rows(self, rows: slice | BoolArray | IntArray) -> "Impressions":
        """Take some of the N."""
        dense: dict[str, Any] = {name: getattr(self, name)[rows] for name in DENSE}
        return Impressions(**dense, sparse=None if self.sparse is None else self.sparse.rows(rows))

    @classmethod
    def of_slates(cls, query: Query, slates: Slates, rewards: FloatArray) -> "Impressions":
        """Observe the reward of every slot; rewards is [B, K]."""
        rows = np.arange(len(query))[:, None]
        alike = query.features.shape[1] == 1  # features of the context serve every slot
        return cls(
            features=query.features[rows, slates.positions * (not alike)].reshape(rewards.size, -1),
            state=np.repeat(query.state, rewards.shape[1]),
            items=query.items[rows, slates.positions].ravel(),
            rewards=rewards.ravel(),
            counts=np.ones(rewards.size),
            sparse=None if query.sparse is None else query.sparse.take(slates.positions),
        )


WEIGHTED = ("rewards", "counts", "squares")
"""The fields that are sums over all that an impression stands for."""

DENSE = ("features", "state", "items", "rewards", "counts", "squares", "at")
"""The fields of impressions that are arrays of N rows."""
