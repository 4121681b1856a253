"""Ranking metrics by hand, and rankings of held-out purchases by policies that are known."""

from math import log2

import numpy as np
import pytest

from data.errors import DataError
from data.features.customers import Encoder, EncoderConfig, fit
from rl.encoders.customers import CustomerEncoder
from rl.evaluate import evaluate, rank
from rl.evaluation.ranking import coverage, hit_rate, mean_average_precision, ndcg, novelty, precision, recall
from rl.policies.baselines import Popularity
from rl.policies.linear.config import RidgeConfig
from rl.policies.linear.linear import Linear
from tests.support.markets import MONDAY, purchases

RANKINGS = [["a", "b", "c", "d"], ["d", "c", "b", "a"], ["a", "b", "c", "d"]]
RELEVANT = [{"a", "d"}, {"b"}, {"x"}]


@pytest.mark.parametrize(("k", "share"), [(1, 1 / 3), (2, 1 / 3), (3, 2 / 3), (4, 2 / 3), (9, 2 / 3)])
def test_hit_rate_by_hand(k: int, share: float) -> None:
    assert hit_rate(RANKINGS, RELEVANT, k) == pytest.approx(share)


@pytest.mark.parametrize(
    ("k", "gains"),
    [
        (1, (1.0, 0.0, 0.0)),
        (2, (1 / (1 + 1 / log2(3)), 0.0, 0.0)),
        (3, (1 / (1 + 1 / log2(3)), 1 / log2(4), 0.0)),
        (4, ((1 + 1 / log2(5)) / (1 + 1 / log2(3)), 1 / log2(4), 0.0)),
        (9, ((1 + 1 / log2(5)) / (1 + 1 / log2(3)), 1 / log2(4), 0.0)),  # a ranking shorter than k
    ],
)
def test_ndcg_by_hand(k: int, gains: tuple[float, ...]) -> None:
    assert ndcg(RANKINGS, RELEVANT, k) == pytest.approx(sum(gains) / 3)


def test_ndcg_with_more_relevant_than_k() -> None:
    assert ndcg([["a", "b", "c"]], [{"a", "b", "c"}], 2) == pytest.approx(1.0)
    assert ndcg([["x", "b", "c"]], [{"a", "b", "c"}], 2) == pytest.approx(1 / log2(3) / (1 + 1 / log2(3)))


@pytest.mark.parametrize(
    ("k", "places", "shares", "averages"),
    [
        (1, 1, (1 / 2, 0, 0), (1, 0, 0)),
        (2, 1, (1 / 2, 0, 0), (1 / 2, 0, 0)),
        (4, 3, (1, 1, 0), ((1 + 2 / 4) / 2, 1 / 3, 0)),
        (9, 3, (1, 1, 0), ((1 + 2 / 4) / 2, 1 / 3, 0)),
    ],
)
def test_precision_recall_and_average_precision_by_hand(
    k: int, places: int, shares: tuple[float, ...], averages: tuple[float, ...]
) -> None:
    assert precision(RANKINGS, RELEVANT, k) == pytest.approx(places / (3 * k))
    assert recall(RANKINGS, RELEVANT, k) == pytest.approx(sum(shares) / 3)
    assert mean_average_precision(RANKINGS, RELEVANT, k) == pytest.approx(sum(averages) / 3)


def test_coverage_and_novelty_by_hand() -> None:
    """Of four purchases and one more of each of four items, a has 4/8 and d 1/8: 1 and 3 bits."""
    popularity = {"a": 3.0, "b": 1.0, "c": 0.0, "d": 0.0}
    assert coverage(RANKINGS, popularity.keys(), 1) == 2 / 4
    assert coverage(RANKINGS, popularity.keys(), 9) == 1.0
    assert coverage([["car"]], popularity.keys(), 1) == 0.0
    assert novelty(RANKINGS, popularity, 1) == pytest.approx((1 + 3 + 1) / 3)
    with pytest.raises(ValueError, match="catalogue needs at least one item"):
        coverage(RANKINGS, set(), 1)
    with pytest.raises(ValueError, match="at least one item that is shown"):
        novelty([[]], popularity, 1)


@pytest.mark.parametrize("metric", [hit_rate, precision, recall, mean_average_precision, ndcg])
def test_customers_without_a_relevant_item_cannot_be_scored(metric: type) -> None:
    with pytest.raises(ValueError, match="at least one relevant item"):
        metric([["a"]], [set()], 1)
    with pytest.raises(ValueError, match="must be a customer"):
        metric([], [], 1)
    with pytest.raises(ValueError, match="k must be at least 1, got 0"):
        metric([["a"]], [{"a"}], 0)


# Evaluation: lines by item are lamp 4, mug 3, bowl 2, vase 1.

ENCODER = CustomerEncoder.of(
    fit(
        purchases(
            [(user, "lamp", day, f"{user}{day}") for user in ("ann", "bob") for day in (0, 9)]
            + [(user, "mug", 2, f"{user}2") for user in ("ann", "bob", "cat")]
            + [("ann", "bowl", 3, "ann3"), ("bob", "bowl", 4, "bob4"), ("cat", "vase", 5, "cat5")]
        ),
        EncoderConfig(rank=1),
    )
)
HELD_OUT = purchases(
    [
        ("ann", "mug", 50, "1"),
        ("ann", "vase", 51, "1"),
        ("ann", "car", 50, "1"),  # not in the catalogue
        ("bob", "vase", 52, "2"),
        ("zoe", "lamp", 53, "3"),  # nobody knows her
        ("dan", "car", 53, "4"),  # bought nothing of the catalogue: does not count
    ]
)


def popular(encoder: Encoder) -> Popularity:
    return Popularity(encoder.popularity)


def test_popularity_ranks_by_popularity_whoever_asks() -> None:
    users = ["ann", "zoe"] * 120  # more than are encoded at a time
    rankings = rank(popular(ENCODER), ENCODER, users, [MONDAY] * 240, k=3)
    assert rankings == [["lamp", "mug", "bowl"]] * 240


def test_each_customer_is_ranked_for_himself() -> None:
    """A policy that pays for what was bought before: ann never bought a vase, cat neither lamp nor bowl."""
    policy = Linear(RidgeConfig(noise_sd=1.0), ENCODER.n_features)
    weights = np.zeros(ENCODER.n_features)
    weights[-2] = 1.0
    policy.load_state_dict({"A": np.eye(ENCODER.n_features), "b": weights})
    rankings = rank(policy, ENCODER, ["cat", "ann"] * 101, [MONDAY] * 202, k=4)
    assert rankings == [["mug", "vase", "bowl", "lamp"], ["bowl", "lamp", "mug", "vase"]] * 101


def test_evaluation_by_hand() -> None:
    """First two: lamp, mug. ann wants mug and vase, bob vase, zoe lamp."""
    report = evaluate(popular(ENCODER), ENCODER, HELD_OUT, k=2)
    assert report == pytest.approx(
        {
            "customers": 3,
            "hit_rate@2": 2 / 3,
            "precision@2": 2 / 6,
            "recall@2": (1 / 2 + 0 + 1) / 3,
            "map@2": (1 / 4 + 0 + 1) / 3,
            "ndcg@2": (1 / log2(3) / (1 + 1 / log2(3)) + 0 + 1) / 3,
            "coverage@2": 2 / 4,
            "novelty@2": (log2(14 / 5) + log2(14 / 4)) / 2,
        }
    )


def test_nothing_held_out_is_an_error() -> None:
    with pytest.raises(DataError, match="nobody bought an item of the catalogue"):
        evaluate(popular(ENCODER), ENCODER, purchases([("ann", "car", 50, "1")]), k=2)
