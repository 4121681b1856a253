"""Offline ranking metrics on held-out purchases: what was bought among the first k, and what is shown at all.

Each is of many customers: `rankings` are theirs, the best item first, `relevant` what they bought. A ranking that is
shorter than k has nothing in its other places.
"""

from collections.abc import Mapping, Sequence, Set
from itertools import chain

import numpy as np

from rl.policy.arrays import BoolArray, FloatArray


def hit_rate(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> float:
    """Return the share of customers with at least one relevant item among their first k, in [0, 1]."""
    return float(_hits(rankings, relevant, k).any(axis=1).mean())


def precision(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> float:
    """Return the share of the first k places that have a relevant item, in [0, 1]."""
    return float(_hits(rankings, relevant, k).mean())


def recall(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> float:
    """Return the mean share of a customer's relevant items that are among the first k, in [0, 1]."""
    return float((_hits(rankings, relevant, k).sum(axis=1) / _sizes(relevant)).mean())


def mean_average_precision(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> float:
    """Return the mean over customers of the average precision at k, in [0, 1].

    Average precision is the sum, over the places with a relevant item, of the precision down to there, divided by as
    many as there could be: the number of relevant items, at most k.
    """
    hits = _hits(rankings, relevant, k)
    down_to = hits.cumsum(axis=1) / np.arange(1, k + 1)
    return float(((hits * down_to).sum(axis=1) / np.minimum(_sizes(relevant), k)).mean())


def ndcg(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> float:
    """Return the mean normalised discounted cumulative gain of the first k, in [0, 1], with relevance 0 or 1.

    Source: Järvelin and Kekäläinen (2002): rank i counts 1 / log2(i + 1); the ideal ranking has all relevant items,
    at most k, in front.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gains = _hits(rankings, relevant, k) @ discounts
    ideals = np.cumsum(discounts)[np.minimum(_sizes(relevant), k).astype(np.int64) - 1]
    return float((gains / ideals).mean())


def coverage(rankings: Sequence[Sequence[str]], catalogue: Set[str], k: int) -> float:
    """Return the share of a catalogue's items that are among somebody's first k, in [0, 1]."""
    if not catalogue:
        raise ValueError("a catalogue needs at least one item")
    return len(catalogue & set(_shown(rankings, k))) / len(catalogue)


def novelty(rankings: Sequence[Sequence[str]], popularity: Mapping[str, float], k: int) -> float:
    """Return the mean self-information of what is shown in the first k places, in bits; the more, the less known it is.

    An item's is -log2 of its share of all purchases, to each of which one is added, so that one without any has some.

    Args:
        rankings: see above.
        popularity: purchases by item, of the whole catalogue.
        k: see above.

    Source: Zhou et al. (2010), Solving the apparent diversity-accuracy dilemma of recommender systems.
    """
    shown = _shown(rankings, k)
    if not shown:
        raise ValueError("novelty needs at least one item that is shown")
    total = sum(popularity.values()) + len(popularity)
    return float(-np.log2([(popularity[item] + 1) / total for item in shown]).mean())


def _shown(rankings: Sequence[Sequence[str]], k: int) -> list[str]:
    return list(chain.from_iterable(ranking[:k] for ranking in rankings))


def _sizes(relevant: Sequence[Set[str]]) -> FloatArray:
    """Return how many items are relevant to each customer, [n]."""
    return np.array([len(wanted) for wanted in relevant], dtype=np.float64)


def _hits(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> BoolArray:
    """Return which of the first k places [n, k] have a relevant item; a customer without any cannot be scored."""
    if not relevant or not all(relevant):
        raise ValueError("every customer needs at least one relevant item, and there must be a customer")
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    hits = np.zeros((len(relevant), k), dtype=np.bool_)
    for row, (ranking, wanted) in enumerate(zip(rankings, relevant, strict=True)):
        hits[row, : len(ranking)] = [item in wanted for item in ranking[:k]]
    return hits
