"""Explorers: from scores to an explicit distribution over the candidates.

Each takes scores [B, S, A] and a mask [B, A] and returns probabilities [B, A]. Those for point scores average over S.

`slate` and `slot_distribution` are the path of one request: the same draws, to the last bit, without the axis of
queries and, for epsilon-greedy, without a distribution for each slot. Of 50 candidates a slate of 10 takes it 44 µs by
`slate`, 215 by `slot_distribution` and 444 as one of many, where the whole request takes some 310. The plain way is the
one for many, which answers single requests too where `rl.policy.interface.Policy.single_path` is off.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from math import ceil
from typing import Annotated, Literal, Self, TypeAlias

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.draws import sample_one
from rl.policy.errors import PolicyError

UNIFORM = "uniform"
"""The part of uniform draws in a probability."""
_NONE_LEFT = "a query has no candidate left: the mask is off everywhere"


class BaseExplorer(BaseModel, ABC):
    """Base of every explorer, which has a `kind` of its own beside its fields: `probabilities` is all that it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""

    def parts(self, scores: FloatArray, mask: BoolArray) -> Mapping[str, FloatArray]:
        """See `rl.policy.interface.Explorer`; one part, of the explorer's kind, unless it draws uniformly, too."""
        return {str(getattr(self, "kind", UNIFORM)): self.probabilities(scores, mask)}

    def scale(self, unit: float) -> Self:
        """Return the explorer for rewards in which a difference of `unit` is what 1 is to this one."""
        return self

    def slot_distribution(self, scores: FloatArray) -> Callable[[BoolArray], FloatArray]:
        """Return what gives the probabilities [A] of one query with scores [S, A] for a mask [A].

        To the last bit they are those of `probabilities`.
        """
        batch = scores[None]
        return lambda mask: self.probabilities(batch, mask[None])[0]

    def slate(
        self, scores: FloatArray, mask: BoolArray, k: int, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """See `rl.policy.interface.Explorer`."""
        return sample_one(self.slot_distribution(scores), mask, k, rng)


class Uniform(BaseExplorer):
    """Every candidate alike."""

    kind: Literal["uniform"] = "uniform"

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""
        return _uniform(mask)


class EpsilonGreedy(BaseExplorer):
    """The best candidate, and with probability epsilon any (the best included). Ties share the best's part."""

    kind: Literal["epsilon_greedy"] = "epsilon_greedy"
    epsilon: Annotated[float, Field(ge=0, le=1, description="probability of a uniform draw")] = 0.1

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""
        return self.epsilon * _uniform(mask) + (1 - self.epsilon) * _best(_points(scores), mask)

    def parts(self, scores: FloatArray, mask: BoolArray) -> Mapping[str, FloatArray]:
        """See `rl.policy.interface.Explorer`."""
        return {UNIFORM: self.epsilon * _uniform(mask), "best": (1 - self.epsilon) * _best(_points(scores), mask)}

    def slot_distribution(self, scores: FloatArray) -> Callable[[BoolArray], FloatArray]:
        """See `BaseExplorer.slot_distribution`."""
        points = _points(scores[None])[0]

        def probabilities(mask: BoolArray) -> FloatArray:
            each = self._each(_count_one(mask))
            left = np.where(mask, points, -np.inf)
            best = left == left[left.argmax()]
            p: FloatArray = mask * each + best * ((1 - self.epsilon) * (1 / np.count_nonzero(best)))
            return p

        return probabilities

    def slate(
        self, scores: FloatArray, mask: BoolArray, k: int, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """See `rl.policy.interface.Explorer`; without equal scores no distribution is made for each slot."""
        points = _points(scores[None])[0]
        if len(set(points.tolist())) < len(points):
            return super().slate(scores, mask, k, rng)
        ascending = points.argsort()
        ranked: list[int] = ascending[mask[ascending]].tolist()  # of those left: the best is the last
        left: list[int] = mask.nonzero()[0].tolist()
        first = mask * np.float64(self._each(len(left)))
        first[ranked[-1]] += 1 - self.epsilon
        positions, propensities = list[int](), list[float]()
        for drawn in rng.random(k).tolist():
            best, each = left.index(ranked[-1]), self._each(len(left))
            place = _invert(1.0 - drawn, best, each, each + (1 - self.epsilon), len(left))
            propensities.append(each + (1 - self.epsilon) if place == best else each)
            positions.append(left.pop(place))
            ranked.remove(positions[-1])
        return np.array([positions]), np.array([propensities]), first[None]

    def _each(self, n_candidates: int) -> float:
        """Return the probability of every candidate that is not the best."""
        return self.epsilon * (1 / n_candidates)


class Softmax(BaseExplorer):
    """Probabilities proportional to exp(score / temperature)."""

    kind: Literal["softmax"] = "softmax"
    temperature: Annotated[float, Field(gt=0, description="in units of reward, or of their learned spread")] = 0.1

    def scale(self, unit: float) -> Self:
        """See `BaseExplorer.scale`."""
        return self if unit == 1.0 else self.model_copy(update={"temperature": self.temperature * unit})

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""
        _count(mask)
        points = np.where(mask, _points(scores) / self.temperature, -np.inf)
        weights = np.exp(points - points.max(axis=1, keepdims=True))
        p: FloatArray = weights / weights.sum(axis=1, keepdims=True)
        return p


class SquareCB(BaseExplorer):
    """Inverse gap weighting: p = 1 / (n + gamma * gap) for n candidates, the rest for the best.

    Source: Foster and Rakhlin, "Beyond UCB" (2020), algorithm 1, after Abe and Long (1999).
    """

    kind: Literal["squarecb"] = "squarecb"
    gamma: Annotated[
        float, Field(gt=0, description="how greedy; in units of 1 / reward, or 1 / their learned spread")
    ] = 100.0

    def scale(self, unit: float) -> Self:
        """See `BaseExplorer.scale`."""
        return self if unit == 1.0 else self.model_copy(update={"gamma": self.gamma / unit})

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""
        n_candidates = _count(mask)
        points = np.where(mask, _points(scores), -np.inf)
        rows, best = np.arange(len(points)), points.argmax(axis=1)
        gap = np.where(mask, points[rows, best][:, None] - points, 0.0)
        p = np.where(mask, 1.0 / (n_candidates + self.gamma * gap), 0.0)
        p[rows, best] = 0.0
        p[rows, best] = 1.0 - p.sum(axis=1)
        return p

    def slot_distribution(self, scores: FloatArray) -> Callable[[BoolArray], FloatArray]:
        """See `BaseExplorer.slot_distribution`."""
        points = _points(scores[None])[0]

        def probabilities(mask: BoolArray) -> FloatArray:
            best = int(np.where(mask, points, -np.inf).argmax())
            gap = (points[best] - points) * mask
            p: FloatArray = mask / (_count_one(mask) + self.gamma * gap)
            p[best] = 0.0
            p[best] = 1.0 - np.add.reduce(p)
            return p

        return probabilities


class Votes(BaseExplorer):
    """Thompson sampling as an explicit distribution: how many of the S posterior samples each candidate wins.

    A sample's ties share its vote. The floor keeps every propensity away from 0, which off-policy estimates need.
    """

    kind: Literal["votes"] = "votes"
    floor: Annotated[float, Field(ge=0, le=1, description="probability of a uniform draw")] = 0.02

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""
        uniform, votes = self.parts(scores, mask).values()
        rounded: FloatArray = np.minimum(uniform + votes, 1.0)  # the sum of two rounded parts can be 1 + 2e-16
        return rounded

    def parts(self, scores: FloatArray, mask: BoolArray) -> Mapping[str, FloatArray]:
        """See `rl.policy.interface.Explorer`."""
        masked = np.where(mask[:, None, :], scores, -np.inf)
        wins = (masked == masked.max(axis=2, keepdims=True)) & mask[:, None, :]  # [B, S, A]
        votes = np.einsum("bsa,bs->ba", wins, 1.0 / np.maximum(wins.sum(axis=2), 1))
        return {UNIFORM: self.floor * _uniform(mask), "votes": (1 - self.floor) * (votes / scores.shape[1])}


class WithUniform:
    """Any explorer, and with probability epsilon a uniform draw instead."""

    def __init__(self, explorer: BaseExplorer, epsilon: float) -> None:
        self.explorer, self.epsilon = explorer, epsilon

    def probabilities(self, scores: FloatArray, mask: BoolArray) -> FloatArray:
        """See `rl.policy.interface.Explorer`."""
        p = self.epsilon * _uniform(mask) + (1 - self.epsilon) * self.explorer.probabilities(scores, mask)
        rounded: FloatArray = np.minimum(p, 1.0)
        return rounded

    def parts(self, scores: FloatArray, mask: BoolArray) -> Mapping[str, FloatArray]:
        """See `rl.policy.interface.Explorer`; what the other explorer draws uniformly is added."""
        found = {name: (1 - self.epsilon) * p for name, p in self.explorer.parts(scores, mask).items()}
        uniform = self.epsilon * _uniform(mask) + found.pop(UNIFORM, np.zeros(mask.shape))
        return {UNIFORM: uniform, **found}

    def slate(
        self, scores: FloatArray, mask: BoolArray, k: int, rng: np.random.Generator
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """See `rl.policy.interface.Explorer`."""
        inner = self.explorer.slot_distribution(scores)

        def probabilities(mask: BoolArray) -> FloatArray:
            p = self.epsilon * (mask / _count_one(mask)) + (1 - self.epsilon) * inner(mask)
            rounded: FloatArray = np.minimum(p, 1.0)
            return rounded

        return sample_one(probabilities, mask, k, rng)


ExplorerConfig: TypeAlias = Annotated[Uniform | EpsilonGreedy | Softmax | SquareCB | Votes, Field(discriminator="kind")]
"""Any explorer, told apart by its `kind`."""


def _points(scores: FloatArray) -> FloatArray:
    """Return the mean over S of scores [B, S, A], [B, A]."""
    points: FloatArray = scores[:, 0] if scores.shape[1] == 1 else scores.mean(axis=1)
    return points


def _count_one(mask: BoolArray) -> int:
    """Count the candidates of one query; none is an error."""
    if n_candidates := int(np.count_nonzero(mask)):
        return n_candidates
    raise PolicyError(_NONE_LEFT)


def _count(mask: BoolArray) -> IntArray:
    """Count the candidates of each query, [B, 1]; none is an error."""
    n_candidates: IntArray = mask.sum(axis=1, keepdims=True)
    if not n_candidates.all():
        raise PolicyError(_NONE_LEFT)
    return n_candidates


def _uniform(mask: BoolArray) -> FloatArray:
    p: FloatArray = mask / _count(mask)
    return p


def _invert(threshold: float, best: int, each: float, peak: float, n: int) -> int:
    """Return the first of n at which the cumulative distribution is a threshold in (0, 1], as
    `rl.policy.draws.sample` does.

    The distribution is `each` everywhere but at `best`, where it is `peak`.
    """
    before = best * each
    if before < threshold <= before + peak:
        return best
    if threshold <= before:
        return min(ceil(threshold / each), best) - 1
    return min(best + ceil((threshold - before - peak) / each), n - 1)


def _best(points: FloatArray, mask: BoolArray) -> FloatArray:
    """Spread probability 1 evenly over the best candidates of points [B, A]."""
    points = np.where(mask, points, -np.inf)
    best = (points == points.max(axis=1, keepdims=True)) & mask
    return _uniform(best)
