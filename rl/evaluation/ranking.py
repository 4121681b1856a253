"""Offline ranking metrics on held-out purchases: hit rate and nDCG at k."""

from collections.abc import Sequence, Set

import numpy as np


def hit_rate(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> float:
    """Return the share of customers with at least one relevant item among their first k, in [0, 1]."""
    return float(
        np.mean([any(item in wanted for item in ranking[:k]) for ranking, wanted in _pairs(rankings, relevant)])
    )


def ndcg(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]], k: int) -> float:
    """Return the mean normalised discounted cumulative gain of the first k, in [0, 1], with relevance 0 or 1.

    Source: Järvelin and Kekäläinen (2002): rank i counts 1 / log2(i + 1); the ideal ranking has all relevant items,
    at most k, in front.
    """
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    gains = []
    for ranking, wanted in _pairs(rankings, relevant):
        gain = sum(discounts[rank] for rank, item in enumerate(ranking[:k]) if item in wanted)
        gains.append(gain / discounts[: min(k, len(wanted))].sum())
    return float(np.mean(gains))


def _pairs(rankings: Sequence[Sequence[str]], relevant: Sequence[Set[str]]) -> list[tuple[Sequence[str], Set[str]]]:
    """Pair rankings with what is relevant; a customer without any relevant item cannot be scored."""
    if not relevant or not all(relevant):
        raise ValueError("every customer needs at least one relevant item, and there must be a customer")
    return list(zip(rankings, relevant, strict=True))
