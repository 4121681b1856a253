"""The recommender: candidates, propensities, routing and replay."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import numpy as np
import pytest

from rl.encoders.customers import CustomerEncoder
from rl.encoders.visit import Visit
from rl.policies.baselines import Random
from rl.policy.errors import PolicyError
from rl.policy.queries import Slates
from serve.abtests.assignment import unit_interval
from serve.decisions.draws import generator
from serve.decisions.recommender import Recommender
from serve.decisions.router import Router
from tests.support.clocks import NOON
from tests.support.shops import POLICIES, untrained
from tests.support.shops import recommender as make
from tests.support.visits import visit


@pytest.fixture
def recommender(encoder: CustomerEncoder) -> Recommender:
    return make({name: untrained(encoder, name) for name in POLICIES}, {"linear_thompson": 1.0})


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_visit_is_the_same_decision(recommender: Recommender, policy: str) -> None:
    one = visit(recommender, "d1", NOON, k=5, user_id="12000", policy=policy)
    assert recommender.decide(one) == recommender.decide(one)


def test_another_decision_id_is_another_draw(recommender: Recommender) -> None:
    slates = {
        recommender.decide(visit(recommender, f"d{i}", NOON, k=5, user_id="12000", policy="random")).slate
        for i in range(20)
    }
    assert len(slates) > 15


def test_fewer_candidates_than_slots(recommender: Recommender) -> None:
    decision = recommender.decide(Visit(None, NOON, ["20001", "new"], decision_id="d1", k=10, policy="random"))
    assert decision.candidates == ("20001", "new")
    assert sorted(decision.slate) == ["20001", "new"]
    assert decision.propensities == (0.5, 1.0)


def test_of_a_catalogue_the_most_popular_items_are_shown(recommender: Recommender, encoder: CustomerEncoder) -> None:
    decision = recommender.decide(visit(recommender, "d1", NOON, k=3, policy="popularity"))
    assert decision.candidates == encoder.items
    popularity = dict(zip(encoder.items, encoder.popularity[1:], strict=True))
    best = sorted((popularity[item] for item in decision.candidates), reverse=True)[:3]
    assert [popularity[item] for item in decision.slate] == best
    assert list(decision.scores) == best


@pytest.mark.parametrize("policy", POLICIES)
def test_unknown_customers_and_items_are_served(recommender: Recommender, policy: str) -> None:
    decision = recommender.decide(
        visit(recommender, "d1", NOON, k=2, user_id="nobody", candidates=["a", "b"], policy=policy)
    )
    assert sorted(decision.slate) == ["a", "b"]


def test_the_logged_context_says_when_the_visit_was(recommender: Recommender) -> None:
    now = recommender.decide(visit(recommender, "d1", NOON, k=1))
    given = recommender.decide(
        visit(recommender, "d2", NOON, k=1, context={"time": "2011-08-01T09:00:00+02:00", "page": "home"})
    )
    assert now.context == {"time": "2026-01-05T12:00:00+00:00"}
    assert given.context == {"time": "2011-08-01T09:00:00+02:00", "page": "home"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"candidates": []}, "no candidate is left"),
        ({"policy": "champion"}, "'champion' is not served; served are random, popularity"),
        ({"context": {"time": "yesterday"}}, "ISO 8601 with an offset.*'yesterday'"),
        ({"context": {"time": "2011-08-01T09:00:00"}}, "with an offset"),
        ({"context": {"time": 5}}, "got 5"),
    ],
)
def test_what_cannot_be_answered_says_why(recommender: Recommender, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        recommender.decide(Visit(None, NOON, **{"candidates": ["a"]} | fields))


def test_routing_keeps_customers_and_follows_the_shares() -> None:
    router = Router({"a": 3.0, "b": 1.0, "never": 0.0})
    customers = [f"customer {i}" for i in range(20_000)]
    routed = Counter(router.route(customer) for customer in customers)
    assert [router.route(c) for c in customers[:50]] == [router.route(c) for c in customers[:50]]
    deviation = np.sqrt(20_000 * 0.75 * 0.25)
    assert abs(routed["a"] - 15_000) < 4 * deviation
    assert routed["never"] == 0
    with pytest.raises(PolicyError, match="at least one must be positive"):
        Router({"a": 0.0})


def test_the_hash_is_the_same_everywhere() -> None:
    assert unit_interval("12347") == 0.03940331786595053  # pinned: another value would move customers between policies


def test_the_draws_are_those_of_pcg64_begun_with_the_hash_of_the_id() -> None:
    """PCG-XSL-RR 128/64 in whole numbers (O'Neill, "PCG" (2014), section 6.3), seeded as the reference code does."""
    digest = blake2b(b"decision", digest_size=32, person=b"raycommend draws").digest()
    words = [int.from_bytes(digest[at : at + 8], "little") for at in range(0, 32, 8)]
    begin, increment = words[0] << 64 | words[1], (words[2] << 65 | words[3] << 1 | 1) % 2**128

    def step(state: int) -> int:
        return (state * 47026247687942121848144207491837523525 + increment) % 2**128

    state, numbers = step((step(0) + begin) % 2**128), []
    for _ in range(3):
        state = step(state)
        mixed, turned = (state >> 64 ^ state) % 2**64, state >> 122
        numbers.append((mixed >> turned | mixed << (64 - turned)) % 2**64)
    assert generator("decision").bit_generator.random_raw(3).tolist() == numbers
    assert generator("another").bit_generator.random_raw() != numbers[0]


def test_draws_of_many_decisions_are_spread_evenly() -> None:
    first = np.array([generator(f"decision-{number}").random() for number in range(20_000)])
    counts = np.histogram(first, bins=20, range=(0, 1))[0]
    assert ((counts - 1_000) ** 2 / 1_000).sum() < 43.8  # chi squared, 19 degrees of freedom: 1 in 1,000 is above


def test_a_decision_names_its_version(recommender: Recommender) -> None:
    assert (
        recommender.decide(visit(recommender, "d", NOON + timedelta(days=1), k=1)).policy_version == "00000000.fold.0"
    )


def test_what_is_no_propensity_is_not_answered(recommender: Recommender, monkeypatch: pytest.MonkeyPatch) -> None:
    decide = Random.decide

    def decide_wrongly(policy: Random, *arguments: Any) -> Slates:
        slates = decide(policy, *arguments)
        return replace(slates, propensities=np.full_like(slates.propensities, np.nan))

    monkeypatch.setattr(Random, "decide", decide_wrongly)
    with pytest.raises(ValueError, match=r"propensities must be in \(0, 1\]"):
        recommender.decide(visit(recommender, "d1", NOON, k=5, user_id="12000", policy="random"))
