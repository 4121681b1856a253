"""Crossed features: products of features of the context and of the item, by code.

Axis names: B contexts, A items of each, C and F features of a context and of an item, K products of both.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from math import comb, factorial, sqrt

import numpy as np
from numpy.typing import NDArray

from rl.encoders.json_features import categorical, letters
from rl.policy.arrays import FloatArray, IntArray, bound
from rl.policy.errors import PolicyError
from rl.policy.sparse import Sparse

CODES = 1 << 20
"""Codes are below this: of 500 features, two have one code with probability .12."""
MOST_CROSSED = 1 << 24
"""Crossed features of one item, or different ones of all, at most: more would take gigabytes and minutes."""
TOO_MANY = "are too many to be multiplied: say less, let fewer items compete, or configure fewer interactions"
WILDCARD = ":"
"""The letter of any namespace."""

Mixed = NDArray[np.uint64]
Members = tuple[IntArray, IntArray]
"""[P, degree] and [Q, degree] the places of the features that each product of a context, and of an item, multiplies."""
Term = str
"""Letters of the namespaces whose features are multiplied; none: the constant."""

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2⁶⁴ / golden ratio
_MIX = np.uint64(0xBF58476D1CE4E5B9)
_CONTEXT = np.uint64(0)
_ITEM = np.uint64(0x94D049BB133111EB)  # tells an item's feature from the same one of the context


def mix_ids(ids: IntArray, salt: np.uint64 = _CONTEXT) -> Mixed:
    """Spread the ids over 64 bits; 0 stays 0, so that sums over a padded row are those over the row."""
    x = ids.astype(np.uint64)
    spread = (x ^ (x >> np.uint64(23)) ^ salt) * _MIX
    spread = (spread ^ (spread >> np.uint64(31))) * _ODD
    return np.where(ids == 0, np.uint64(0), spread ^ (spread >> np.uint64(27)))


def to_codes(sums: Mixed, size: int = CODES) -> IntArray:
    """Return codes below `size`, a power of 2, of sums of mixed ids."""
    codes = sums * _ODD
    codes >>= np.uint64(65 - size.bit_length())
    return codes.view(np.int64)


def mixed_items(items: IntArray) -> Mixed:
    """See `mixed`, for features of items."""
    return mix_ids(items, _ITEM)


def left_out(ignore: str, keep: str) -> NDArray[np.bool_] | None:
    """Return which codes of letters are of namespaces that are left out, [256]; None where nothing is.

    Where there is something to keep all else is left out, whatever is ignored: so does Vowpal Wabbit.
    """
    if not (ignore or keep):
        return None
    out = np.full(256, bool(keep))
    out[[ord(letter) & 0xFF for letter in keep or ignore]] = not keep
    return out


def without(sparse: Sparse, out: NDArray[np.bool_]) -> Sparse:
    """Return the features that are not of namespaces left out; the places of the others are padding."""
    context, items = out[letters(sparse.context)], out[letters(sparse.items)]
    return Sparse(
        np.where(context, 0, sparse.context),
        np.where(context, 0.0, sparse.context_values),
        np.where(items, 0, sparse.items),
        np.where(items, 0.0, sparse.item_values),
    )


def weighted_context(sparse: Sparse) -> FloatArray:
    """Return values [B, C] with weights whose squares sum to 1, and numbers as their inverse hyperbolic sine.

    So the prior of a score does not depend on how much is said, and no number is so large that it drowns the others.
    """
    there = sparse.context != 0
    share = 1.0 / np.sqrt(np.maximum(there.sum(axis=1, keepdims=True), 1))
    weighted: FloatArray = _squash(sparse.context, sparse.context_values) * there * share
    return weighted


def weighted_items(sparse: Sparse) -> FloatArray:
    """Return the same of items, [B, A, F]; the id has half of the squares, if anything else is said of the item."""
    there = sparse.items != 0
    named = there[..., :1]  # but where the ids are left out
    others = there.sum(axis=2, keepdims=True) - named
    weights = np.broadcast_to(np.sqrt(np.where(named, 0.5, 1.0) / np.maximum(others, 1)), there.shape).copy()
    weights[..., :1] = np.where(others > 0, sqrt(0.5), 1.0)
    weighted: FloatArray = _squash(sparse.items, sparse.item_values) * there * weights
    return weighted


def _squash(ids: IntArray, values: FloatArray) -> FloatArray:
    values = bound(values)
    return np.where(categorical(ids), values, np.arcsinh(values))


def _flatten(products: FloatArray) -> FloatArray:
    """Return products with what is above 1 in them as 1 + its logarithm.

    Products of large numbers stay small beside those of categories, which are at most 1: three times in milliseconds,
    multiplied, are 25,000 as they are.
    """
    size = np.abs(products)
    return np.where(size > 1.0, np.copysign(1.0 + np.log(np.maximum(size, 1.0)), products), products)


def products(term: Term, ids: IntArray, mix: Mixed, values: FloatArray) -> tuple[Mixed, FloatArray]:
    """Return sums of mixed ids and products of values of the features that a term multiplies, [..., number of them].

    Features of one namespace are multiplied with others of it, each set of features once, whatever their order is.
    """
    if not term:
        return np.zeros((*ids.shape[:-1], 1), dtype=np.uint64), np.ones((*ids.shape[:-1], 1))
    at = _combine(term, ids.shape[-1])  # [n, degree]
    sums = np.zeros((*ids.shape[:-1], len(at)), dtype=np.uint64)
    product = np.full(sums.shape, sqrt(factorial(len(term))))
    letter = letters(ids)
    for place, name in enumerate(term):
        sums += mix[..., at[:, place]]
        there = values if name == WILDCARD else np.where(letter == ord(name) & 0xFF, values, 0.0)
        product *= there[..., at[:, place]]
    return sums, product


def _count(term: Term, n: int) -> int:
    """Return how many products of n features there are."""
    count = 1
    for name in dict.fromkeys(term):
        count *= comb(n, term.count(name))
    return count


@lru_cache(maxsize=256)
def _combine(term: Term, n: int) -> IntArray:
    """Return the places of the features that are multiplied, [.., degree]; places of one letter ascend."""
    at = np.zeros((1, 0), dtype=np.int64)
    for name in dict.fromkeys(term):
        degree = term.count(name)
        own = np.array(list(combinations(range(n), degree)), dtype=np.int64).reshape(-1, degree)
        at = np.concatenate([np.repeat(at, len(own), axis=0), np.tile(own, (len(at), 1))], axis=1)
    return at


def blocks(interactions: tuple[str, ...]) -> tuple[tuple[Term, Term], ...]:
    """Return the terms of context and item that interactions multiply with each other.

    A letter may be of a namespace of the context or of the item, so each interaction is split in all ways that leave
    something on both sides: what only contexts or only an item's features are multiplied to tells no more of an item in
    a context than these and the cell do.
    """
    found: dict[tuple[Term, Term], None] = {}
    for interaction in interactions:
        for chosen in range(1, (1 << len(interaction)) - 1):
            context = [letter for place, letter in enumerate(interaction) if chosen >> place & 1]
            item = [letter for place, letter in enumerate(interaction) if not chosen >> place & 1]
            found["".join(sorted(context)), "".join(sorted(item))] = None
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Factors:
    """A block of crossed features: each of the context's products times each of the item's."""

    context_sums: Mixed
    """[B, P] sums of the mixed ids that are multiplied, P products."""
    context: FloatArray
    """[B, P]"""
    item_sums: Mixed
    """[B, A, Q]"""
    items: FloatArray
    """[B, A, Q]"""

    def row(self, row: int) -> "Factors":
        """Return those of one of the B, without that axis."""
        return Factors(self.context_sums[row], self.context[row], self.item_sums[row], self.items[row])

    def rows(self, rows: slice) -> "Factors":
        """Return those of some of the B."""
        return Factors(self.context_sums[rows], self.context[rows], self.item_sums[rows], self.items[rows])

    def multiply(self) -> tuple[IntArray, FloatArray]:
        """Return codes and values [B, A, PQ] of the products."""
        shape = (*self.items.shape[:2], self.context.shape[1] * self.items.shape[2])
        codes = to_codes(self.context_sums[:, None, :, None] + self.item_sums[:, :, None, :]).reshape(shape)
        return codes, (self.context[:, None, :, None] * self.items[:, :, None, :]).reshape(shape)


class Crossing:
    """All the crossed features of a kind of policy: the items' own, the context's, and those that interactions name.

    Args:
        interactions: see `blocks`.
        ignore_linear: letters of namespaces whose features only interact.
        constant: whether there is one feature that all have.
        flat: whether products of large numbers are flattened.
    """

    def __init__(self, interactions: tuple[str, ...], ignore_linear: str, constant: bool, flat: bool = False) -> None:
        self._flat = flat
        self._blocks = [("", "")] * constant + [("", WILDCARD), (WILDCARD, ""), *blocks(interactions)]
        self._ignored = [ord(letter) & 0xFF for letter in ignore_linear]

    def size(self, c: int, f: int) -> int:
        """Return K, the number of crossed features of an item that F features are given of, C being of the context."""
        return sum(_count(of_context, c) * _count(of_item, f) for of_context, of_item in self._blocks)

    def check(self, c: int, f: int, a: int) -> None:
        """Refuse what would take more than there is memory for; C, F and the number of items as in `size`.

        Raises:
            PolicyError: more than `MOST_CROSSED` crossed features of an item, or products of all items' features.
        """
        if self.size(c, f) > MOST_CROSSED or max(_count(of_item, f) for _, of_item in self._blocks) * a > MOST_CROSSED:
            raise PolicyError(f"{c} features of the context and {f} of each of {a} items {TOO_MANY}")

    def factors(self, sparse: Sparse, context: FloatArray, items: FloatArray) -> Iterator[Factors]:
        """Yield blocks for weighted values of the context [B, C] and of the items [B, A, F]; raises as `check` does."""
        self.check(sparse.context.shape[1], sparse.items.shape[2], sparse.items.shape[1])
        mixed_context, mixed_item = mix_ids(sparse.context), mixed_items(sparse.items)
        for of_context, of_item in self._blocks:
            single = len(of_context) + len(of_item) == 1
            left, right = (self._single(sparse, context, items)) if single else (context, items)
            context_sums, of_contexts = products(of_context, sparse.context, mixed_context, left)
            item_sums, of_items = products(of_item, sparse.items, mixed_item, right)
            if self._flat:
                of_contexts, of_items = _flatten(of_contexts), _flatten(of_items)
            yield Factors(context_sums, of_contexts, item_sums, of_items)

    def members(self, c: int, f: int) -> Iterator[Members]:
        """Yield for each block of `factors` what its products multiply; C and F as in `size`."""
        for of_context, of_item in self._blocks:
            yield _combine(of_context, c), _combine(of_item, f)

    def __call__(self, sparse: Sparse, context: FloatArray, items: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return codes and values [B, A, K] of all blocks multiplied out; see `factors`."""
        codes, values = zip(*(block.multiply() for block in self.factors(sparse, context, items)), strict=True)
        return np.concatenate(codes, axis=2), np.concatenate(values, axis=2)

    def _single(self, sparse: Sparse, context: FloatArray, items: FloatArray) -> tuple[FloatArray, FloatArray]:
        if not self._ignored:
            return context, items
        ignored = [np.isin(letters(ids), self._ignored) for ids in (sparse.context, sparse.items)]
        return np.where(ignored[0], 0.0, context), np.where(ignored[1], 0.0, items)
