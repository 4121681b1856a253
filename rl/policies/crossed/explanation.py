"""Explanations of the crossed policy: its crossed features by the names of what was multiplied in this visit.

The policy knows features by code, and some share a place; a visit says which features there are, so each product of it
can be named. What a cell has of its own is one contribution: what it adds, less what it takes from the linear model.
Axis names: B queries, A candidates, P and Q products of the context's and of the item's features, K of both, D places.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from rl.policies.crossed.cells import Cell
from rl.policies.crossed.crossing import Factors, Members, to_codes
from rl.policies.crossed.feature_index import Dictionary
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.explanation.parts import (
    Contribution,
    ItemExplanation,
    Names,
    Share,
    Uncertainty,
    largest,
    largest_shares,
)
from rl.policy.sparse import Sparse

CELL, NEW = "this item in this very context", "what was never seen before"


class Parts(NamedTuple):
    """What scores consist of: given w, what a candidate earns on average is N(φᵀw + offset, new + own)."""

    phi: FloatArray
    """[B, A, D] φ; in a cell that was seen it is what the cell leaves to the linear model."""
    offset: FloatArray
    """[B, A]"""
    new: FloatArray
    """[B, A] variance of what features add that nothing is known of."""
    own: FloatArray
    """[B, A] variance of what the context and the item have of their own."""


@dataclass(frozen=True, slots=True)
class Crossed:
    """The crossed features of one item that the policy knows."""

    places: IntArray
    """[K] where their weights are."""
    values: FloatArray
    """[K] φ: what is multiplied with the weights."""
    at: IntArray
    """[K, 3] each one's block, and its products of context and item there."""


@dataclass(frozen=True, slots=True)
class CellPart:
    """What a cell adds to a score."""

    cell: Cell
    share: float
    """1 / (n + κ): of the cell's sums."""
    offset: float
    """What it adds, before what it takes from the linear model."""


def cross_item(blocks: Sequence[Factors], position: int, dictionary: Dictionary, prior_sd: float) -> Crossed:
    """Return the crossed features of an item that have a place, from blocks of one query."""
    places, values, at = list[IntArray](), list[FloatArray](), list[IntArray]()
    for number, block in enumerate(blocks):
        codes = to_codes(block.context_sums[0, :, None] + block.item_sums[0, position])  # [P, Q]
        found, signs = dictionary.find(codes)
        value = prior_sd * block.context[0, :, None] * block.items[0, position] * signs
        p, q = np.nonzero(value)
        places.append(found[p, q])
        values.append(value[p, q])
        at.append(np.stack([np.full(len(p), number), p, q], axis=1))
    return Crossed(np.concatenate(places), np.concatenate(values), np.concatenate(at))


def explain_item(
    crossed: Crossed,
    name: "Naming",
    score: float,
    centre: float,
    mean: FloatArray,
    solved: FloatArray,
    cell: CellPart | None,
    unknown: tuple[float, float],
    top: int,
) -> ItemExplanation:
    """Explain a score.

    Args:
        crossed: see `cross_item`.
        name: names them.
        score: what is expected of the item.
        centre: what rewards are taken as differences from.
        mean: [D] of the weights.
        solved: [D] σ²S⁻¹φ, with φ less what the cell takes.
        cell: of the item in this context; None: there is none.
        unknown: variances of what the item and the context have of their own, and of what was never seen.
        top: contributions and shares that are listed.
    """
    own, new = unknown
    parts, variances = crossed.values * mean[crossed.places], crossed.values * solved[crossed.places]
    listed, rest = _choose(parts, top)
    found = [Contribution(name(crossed.at[k]), float(crossed.values[k]), float(parts[k])) for k in listed]
    if cell is not None:
        taken = cell.share * cell.cell.s
        found.append(Contribution((CELL,), cell.cell.n, cell.offset - float(taken @ mean[cell.cell.at])))
        own -= float(taken @ solved[cell.cell.at])
    contributions, others = largest(found, top)
    variance = max(float(variances.sum()) + own + new, 0.0)
    shares, unlisted = list[Share](), 0.0
    if variance > 0.0:
        some, unlisted = _choose(variances / variance, top)
        shares = [Share(name(crossed.at[k]), float(variances[k]) / variance) for k in some]
        shares += [Share((CELL,), own / variance), Share((NEW,), new / variance)]
    named, more = largest_shares(shares, top)
    uncertainty = Uncertainty(float(np.sqrt(variance)), named, more + unlisted)
    return ItemExplanation(score, centre, contributions, others + rest, uncertainty)


def _choose(parts: FloatArray, top: int) -> tuple[IntArray, float]:
    """Return the places of the largest absolute values, and the sum of the others."""
    if len(parts) <= top:
        return np.arange(len(parts)), 0.0
    order = np.argpartition(-np.abs(parts), top)
    return order[:top], float(parts[order[top:]].sum())


class Naming:
    """Names crossed features of one visit by what is multiplied in them."""

    def __init__(self, members: Sequence[Members], sparse: Sparse, position: int, names: Names) -> None:
        self._members, self._names = members, names
        self._context, self._item = sparse.context[0], sparse.items[0, position]

    def __call__(self, at: IntArray) -> tuple[str, ...]:
        """Return the names of the features that are multiplied, those of the context first."""
        number, p, q = at.tolist()
        of_context, of_item = self._members[number]
        ids = [*self._context[of_context[p]].tolist(), *self._item[of_item[q]].tolist()]
        return tuple(self._names.of_id(one) for one in ids) or ("constant",)
