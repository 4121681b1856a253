"""Small worlds with known contents, shared by the tests of learning."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from rl.encoders.customers import CustomerEncoder
from rl.policy.arrays import FloatArray
from rl.simulators.market.market import Market

MONDAY = datetime(2011, 8, 1, 9, tzinfo=UTC)


def purchases(
    lines: Sequence[tuple[str | None, str, float, str]], prices: Mapping[str, float] | None = None, pieces: float = 1.0
) -> pa.Table:
    """Purchase events of (customer, item, days after MONDAY, session) each."""
    prices = prices or {}
    return pa.table(
        {
            "event_id": [f"{number:06d}" for number in range(len(lines))],
            "user_id": pa.array([line[0] for line in lines], pa.string()),
            "item_id": [line[1] for line in lines],
            "time": pa.array([MONDAY + timedelta(days=line[2]) for line in lines], pa.timestamp("us", tz="UTC")),
            "outcome": [pieces] * len(lines),
            "session": [line[3] for line in lines],
            "price": [prices.get(line[1], 2.0) for line in lines],
        }
    )


def random_encoder(
    n_users: int, n_items: int, rank: int, rng: np.random.Generator, bought: Mapping[tuple[int, int], float]
) -> CustomerEncoder:
    """An encoder of random numbers; `bought` counts by (customer position, item position)."""
    pairs = sorted(bought)
    zeros = np.zeros((1, rank))
    return CustomerEncoder(
        items=tuple(f"i{n}" for n in range(1, n_items + 1)),
        users=tuple(f"u{n}" for n in range(1, n_users + 1)),
        popularity=np.concatenate([[0.0], rng.integers(1, 50, n_items).astype(np.float64)]),
        item_basics=np.concatenate([[[1.0, 0.0, 0.0]], rng.standard_normal((n_items, 3))]),
        item_vectors=np.concatenate([zeros, rng.standard_normal((n_items, rank))]),
        user_vectors=np.concatenate([zeros, rng.standard_normal((n_users, rank))]),
        user_segments=np.concatenate([[0], rng.integers(1, 5, n_users)]),
        pair_keys=np.array([user * (n_items + 1) + item for user, item in pairs], dtype=np.int64),
        pair_counts=np.array([bought[pair] for pair in pairs], dtype=np.float64),
    )


def tiny_market(rng: np.random.Generator, n_users: int = 3, n_items: int = 4) -> Market:
    """A market of random numbers, small enough to try every slate; its ids are those of `random_encoder`."""
    activity = rng.random(n_users) + 0.1
    return Market(
        items=tuple(f"i{n}" for n in range(1, n_items + 1)),
        users=tuple(f"u{n}" for n in range(1, n_users + 1)),
        activity=activity / activity.sum(),
        appeal=rng.standard_normal(n_items),
        taste=rng.standard_normal((n_users, n_items)),
        season=rng.standard_normal((12, n_items)),
        segment=rng.integers(2, size=n_users),
        segment_taste=rng.standard_normal((2, n_items)),
        buy_given_click=rng.uniform(0.2, 0.8, n_items),
        prices=np.full(n_items, 2.0),
    )


def four_errors(p: FloatArray, n: int) -> FloatArray:
    """Four standard errors of the frequency of an event of probability p in n draws."""
    errors: FloatArray = 4 * np.sqrt(p * (1 - p) / n)
    return errors
