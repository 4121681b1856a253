"""From outcomes to observations, on outcomes made by hand."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pydantic import ValidationError

from data.attribution.join import Outcome
from data.features.rfm import N_STATES
from data.fields import Scalar
from data.schema import Decision
from rl.encoders.base import VisitEncoder
from rl.encoders.json_features import FeaturesEncoder
from rl.encoders.visit import Visit
from rl.online.observe import correct, observe
from rl.policies import (
    CrossedConfig,
    PolicyConfig,
    RFMBanditConfig,
    RidgeConfig,
    build,
)
from tests.support.markets import MONDAY, random_encoder

ENCODER = random_encoder(n_users=3, n_items=4, rank=2, rng=np.random.default_rng(0), bought={(2, 3): 4.0})


def outcome(
    user: str | None, slate: tuple[str, ...], rewards: tuple[float, ...], context: dict[str, Scalar] | None = None
) -> Outcome:
    decision = Decision(
        decision_id="d",
        time=MONDAY,
        user_id=user,
        context=context or {},
        candidates=slate,
        slate=slate,
        propensities=(0.5,) * len(slate),
        scores=(0.0,) * len(slate),
        policy="p",
        policy_version="p-1",
    )
    return Outcome(decision, rewards, sum(rewards), True, True)


FRIDAY_IN_MAY = datetime(2011, 5, 20, 12, tzinfo=UTC)
OUTCOMES = [
    outcome("u2", ("i3", "i1"), (5.0, 0.0)),
    outcome(None, ("i4",), (1.0,), {"time": FRIDAY_IN_MAY.isoformat()}),
    outcome("zoe", ("i9", "i2", "i3"), (0.0, 1.0, 0.0)),
]
SLOTS = [(2, 3), (2, 1), (0, 4), (0, 0), (0, 2), (0, 3)]  # positions of customer and item


def test_every_slot_is_observed_in_order() -> None:
    observations = observe(OUTCOMES, ENCODER)
    times = [MONDAY, MONDAY, FRIDAY_IN_MAY, MONDAY, MONDAY, MONDAY]
    assert observations.rewards.tolist() == [5, 0, 1, 0, 1, 0]
    assert observations.counts.tolist() == [1] * 6
    assert observations.items.tolist() == [item for _, item in SLOTS]
    assert observations.state.tolist() == ENCODER.states(np.array([user for user, _ in SLOTS]), times).tolist()
    for row, ((user, item), time) in enumerate(zip(SLOTS, times, strict=True)):
        expected = ENCODER.joint(np.array([user]), [time], np.array([[item]]))[0, 0]
        np.testing.assert_array_equal(observations.features[row], expected)
    assert observations.features[0, -2] == 1  # u2 bought i3 before


def test_a_correction_is_the_difference_slot_by_slot() -> None:
    before = [(1.0, 0.0), (1.0,), (0.0, 5.0, -1.0)]
    corrections = correct(list(zip(OUTCOMES, before, strict=True)), ENCODER)
    seen = observe(OUTCOMES, ENCODER)
    assert corrections.rewards.tolist() == [4, 0, 0, 0, -4, 1]
    assert corrections.counts.tolist() == [0] * 6
    for name in ("features", "state", "items"):
        np.testing.assert_array_equal(getattr(corrections, name), getattr(seen, name))


@pytest.mark.parametrize("config", [RidgeConfig(), RFMBanditConfig()], ids=lambda config: config.kind)
def test_observing_and_correcting_is_as_observing_the_end(config: PolicyConfig) -> None:
    now, before = outcome("u1", ("i1", "i2"), (5.0, 1.0)), outcome("u1", ("i1", "i2"), (1.0, 0.0))
    at_once, in_steps = (build(config, ENCODER.n_features, N_STATES, ENCODER.popularity) for _ in range(2))
    at_once.update(observe([now], ENCODER))
    in_steps.update(observe([before], ENCODER))
    in_steps.update(correct([(now, before.rewards)], ENCODER))
    for name, array in at_once.state_dict().items():
        assert array.any()
        np.testing.assert_allclose(in_steps.state_dict()[name], array, rtol=0, atol=1e-9)


SEVERAL: dict[str, tuple[PolicyConfig, VisitEncoder]] = {
    "ridge": (RidgeConfig(), ENCODER),
    "rfm_bandit": (RFMBanditConfig(), ENCODER),
    "described": (CrossedConfig(), FeaturesEncoder(())),
}


@pytest.mark.parametrize("kind", SEVERAL)
def test_a_decision_of_weight_3_is_learned_as_three_of_them(kind: str) -> None:
    """And in two steps, the second of which corrects the first, as at once."""
    config, encoder = SEVERAL[kind]
    context: dict[str, Scalar] = {"page": "home"}
    now, before = outcome("u1", ("i1", "i2"), (5.0, 1.0), context), outcome("u1", ("i1", "i2"), (1.0, 0.0), context)
    heavy = [replace(o, decision=o.decision.model_copy(update={"weight": 3.0})) for o in (now, before)]
    once, thrice, weighted, in_steps = (
        build(config, encoder.n_features, N_STATES, encoder.popularity) for _ in range(4)
    )
    once.update(observe([now], encoder))
    thrice.update(observe([now] * 3, encoder))
    weighted.update(observe([heavy[0]], encoder))
    in_steps.update(observe([heavy[1]], encoder))
    in_steps.update(correct([(heavy[0], before.rewards)], encoder))
    query = encoder.query([Visit("u1", MONDAY, ("i1", "i2"), context)])
    expected = thrice.expected(query)
    assert np.abs(once.expected(query) - expected).max() > 0.01
    for policy in (weighted, in_steps):
        np.testing.assert_allclose(policy.expected(query), expected, rtol=0, atol=1e-9)
        restored = build(config, encoder.n_features, N_STATES, encoder.popularity)
        restored.load_state_dict(policy.state_dict())
        np.testing.assert_allclose(restored.expected(query), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", SEVERAL)
@pytest.mark.parametrize("before", [(1.0,), (1.0, 0.0, -1.0)], ids=["one more was seen", "one less was seen"])
def test_slots_that_were_not_seen_are_not_learned(kind: str, before: tuple[float, ...]) -> None:
    """In two steps as at once, whatever the first has taken for seen."""
    config, encoder = SEVERAL[kind]
    context: dict[str, Scalar] = {"page": "home"}
    others = [outcome("u2", ("i3", "i1"), (0.0, 2.0), context), outcome("u1", ("i3",), (1.0,), context)]
    one = outcome("u1", ("i1", "i2", "i3"), (5.0, 1.0), context)
    at_once, in_steps = (build(config, encoder.n_features, N_STATES, encoder.popularity) for _ in range(2))
    assert len(observe([one], encoder)) == 2
    at_once.update(observe([one, *others], encoder))
    in_steps.update(observe([replace(one, rewards=before), *others], encoder))
    in_steps.update(correct([(one, before), (others[0], others[0].rewards)], encoder))
    query = encoder.query([Visit("u1", MONDAY, ("i1", "i2", "i3"), context)])
    restored = build(config, encoder.n_features, N_STATES, encoder.popularity)
    restored.load_state_dict(in_steps.state_dict())
    for policy in (in_steps, restored):
        np.testing.assert_allclose(policy.expected(query), at_once.expected(query), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("context", "time"),
    [
        ({}, MONDAY),
        ({"time": "2011-05-20T12:00:00+00:00"}, FRIDAY_IN_MAY),
        ({"time": "2011-05-20T12:00:00Z"}, FRIDAY_IN_MAY),
    ],
)
def test_the_visit_is_when_the_context_says(context: dict[str, Scalar], time: datetime) -> None:
    assert outcome("u1", ("i1",), (0.0,), context).decision.visit_time == time


@pytest.mark.parametrize("given", [None, 1234, "yesterday", "2011-05-20T12:00:00"])
def test_a_context_with_another_time_is_no_decision(given: Scalar) -> None:
    with pytest.raises(ValidationError, match="ISO 8601 with an offset"):
        outcome("u1", ("i1",), (0.0,), {"time": given})


def test_visits_are_encoded_row_by_row() -> None:
    times = [MONDAY, MONDAY + timedelta(days=40)]
    query = ENCODER.query([Visit("u2", times[0], ["i3", "i9"]), Visit(None, times[1], ["i1", "i4"])])
    assert query.items.tolist() == [[3, 0], [1, 4]]
    assert query.mask.all()
    assert query.state.tolist() == ENCODER.states(np.array([2, 0]), times).tolist()
    np.testing.assert_array_equal(query.features, ENCODER.joint(np.array([2, 0]), times, query.items))
