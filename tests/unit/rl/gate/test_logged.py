"""What a policy would have done at its own decisions is what it did: of lists, under rules, with slots, in order."""

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest

from data.schema import Decision, Features, Rules, Slot
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.encoders.visit import Visit
from rl.gate.logged import Choice, choose
from rl.policies import CrossedConfig, build
from rl.policy.explorers import SquareCB
from rl.policy.queries import Impressions, Slates
from tests.support.shops import recommender

ITEMS = ("cola", "juice", "tea", "water")
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def artefact() -> Artefact:
    """A policy that has learned something and explores by known probabilities, without draws of its own."""
    config = CrossedConfig(epsilon=0.1, explorer=SquareCB())
    encoder, rng = FeaturesEncoder(()), np.random.default_rng(0)
    policy = build(config, 0, 1, encoder.popularity)
    query = encoder.query([Visit(None, NOW, ITEMS, {}, features(n)) for n in range(60)])
    positions = rng.integers(4, size=(60, 1))
    slates = Slates(positions, np.ones((60, 1)), np.zeros((60, 1)))
    policy.update(Impressions.of_slates(query, slates, (positions == 2) * 1.0))
    return Artefact(name="described", config=config, policy=policy, encoder=encoder, digest="0" * 8)


def features(number: int) -> Features:
    return Features(context=({"page": f"page{number % 3}"},), items=tuple(({"drink": item},) for item in ITEMS))


def decided(artefact: Artefact, number: int, **fields: Any) -> Decision:
    made = recommender({"described": artefact}, {"described": 1.0})
    visit = Visit(f"u{number}", NOW, ITEMS, {}, features(number), decision_id=f"d{number}", **fields)
    return made.decide(visit)


@pytest.mark.parametrize(
    "fields",
    [
        {"k": 1},
        {"k": 3},
        {"k": 4},
        {"k": 3, "rules": Rules(pins={"tea": 1})},
        {"k": 3, "rules": Rules(boosts={"water": 2.0})},
        {"k": 3, "rules": Rules(caps={"sweet": 1}, categories={"cola": ("sweet",), "juice": ("sweet",)})},
        {"slots": (Slot(slot_id="top", features=({"big": True},)), Slot(slot_id="side", exclude=("tea",)))},
    ],
)
def test_it_is_what_was_logged(artefact: Artefact, fields: dict[str, Any]) -> None:
    decisions = [decided(artefact, number, **fields) for number in range(12)]
    for decision, choice in zip(decisions, choose(artefact, decisions, None, np.random.default_rng(0)), strict=True):
        assert isinstance(choice, Choice)
        assert choice.shown.tolist() == pytest.approx(decision.propensities, abs=1e-12)
        assert choice.first.sum() == pytest.approx(1.0)
        assert choice.first[ITEMS.index(decision.slate[0])] == choice.shown[0]


def test_of_a_decision_that_cannot_be_answered_there_is_the_error(artefact: Artefact) -> None:
    good = [decided(artefact, number, k=2) for number in range(3)]
    bad = good[1].model_copy(update={"slate": ("gone", "tea")})
    found = choose(artefact, [good[0], bad, good[2]], None, np.random.default_rng(0))
    assert isinstance(found[1], ValueError)
    assert [isinstance(choice, Choice) for choice in found] == [True, False, True]
