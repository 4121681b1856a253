"""Queries and impressions that stand for all, to try a policy with."""

from dataclasses import dataclass

import numpy as np

from rl.policy.queries import Impressions, Query


@dataclass(frozen=True)
class Samples:
    """What a policy is asked and taught to see whether it keeps its promises."""

    query: Query
    """B queries, each with at least 3 candidates."""
    impressions: Impressions
    """N new ones (counts 1), whose rewards are not all alike."""


def make_samples(
    rng: np.random.Generator, *, n_features: int, n_items: int, n_states: int = 1, n_queries: int = 12, n: int = 60
) -> Samples:
    """Return random samples for policies of dense features: strangers and unknown items among them, rewards 0, 1 and 5.

    Args:
        rng: makes them.
        n_features: F, of joint features.
        n_items: N of the catalogue, at least 3.
        n_states: number of discrete context states.
        n_queries: B.
        n: impressions.
    """
    mask = rng.random((n_queries, n_items)) < 0.7
    mask[:, :3] = True
    features = rng.standard_normal((n_queries, n_items, n_features))
    features[::4] = 0.0
    items = rng.integers(n_items + 1, size=(n_queries, n_items))
    items[::4, 1] = 0
    impressions = Impressions(
        features=rng.standard_normal((n, n_features)),
        state=rng.integers(n_states, size=n),
        items=rng.integers(n_items + 1, size=n),
        rewards=rng.choice([0.0, 1.0, 5.0], n),
        counts=np.ones(n),
        at=np.arange(1.0, n + 1.0),
    )
    return Samples(Query(features, rng.integers(n_states, size=n_queries), items, mask), impressions)
