"""The retail simulator as it is made by name; its market and its visits are tested in test_market.py."""

from typing import Any

import numpy as np
import pytest

from data.errors import DataError
from data.reward import RewardSpec
from rl.simulators.market.retail import RetailEnv, retail
from rl.simulators.registry import make
from tests.support.episodes import assert_mean

SMALL: dict[str, Any] = {"market": {"users": 30, "items": 12, "kinds": 3, "invoices": 400}, "encoder": {"rank": 3}}


@pytest.mark.heavy
def test_the_default_has_the_ceilings_of_the_card() -> None:
    env = make("raycommend/Retail-v0", 2)
    assert isinstance(env, RetailEnv)
    assert env.ceilings() == pytest.approx({"oracle": 7.610, "random": 2.226, "fixed": 3.999}, abs=5e-4)


def test_best_and_expected_are_those_of_the_ceilings() -> None:
    env = retail(4_000, **SMALL, k=3)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    _, rewards, _, _, info = env.step(np.array([rng.permutation(12)[:3] for _ in range(4_000)]))
    assert_mean(info["best"], env.ceilings()["oracle"])
    assert_mean(info["expected"], env.ceilings()["random"])
    assert_mean(rewards - info["expected"], 0.0)
    assert (info["best"] >= info["expected"] - 1e-12).all()


def test_the_seed_makes_the_market() -> None:
    one, again, other = retail(1, **SMALL), retail(1, **SMALL), retail(1, **SMALL, seed=1)
    assert one.encoder.version == again.encoder.version != other.encoder.version
    np.testing.assert_array_equal(one.market.taste, again.market.taste)


def test_every_item_was_sold_and_is_known() -> None:
    observation, _ = retail(3, **SMALL).reset(seed=0)
    assert observation["items"].tolist() == [list(range(1, 13))] * 3


def test_rewards_follow_the_specification() -> None:
    spec = RewardSpec(weights={"click": 0.0, "purchase": 1.0})
    env = retail(500, **SMALL, k=2, spec=spec)
    env.reset(seed=0)
    _, rewards, _, _, info = env.step(np.tile([0, 1], (500, 1)))
    np.testing.assert_array_equal(rewards, info["bought"].sum(axis=1))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"market": {"colour": 1}}, "colour"),
        ({"encoder": {"rank": 0}}, "greater than or equal to 1"),
        ({**SMALL, "k": 13}, "k must be between 1 and the market's 12 items, got 13"),
        ({**SMALL, "encoder": {"rank": 12}}, "rank 12 needs more than 12 items"),
    ],
)
def test_settings_that_cannot_be_used(options: dict[str, Any], message: str) -> None:
    with pytest.raises((DataError, ValueError), match=message):
        retail(**options)
