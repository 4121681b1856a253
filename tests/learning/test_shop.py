"""Learning in the generated shop: policies against the market's own ceilings, and learners broken on purpose.

A policy is judged by the expected reward, under the market, of its slates of 10 in the last 2,000 of 20,000 decisions.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from data.features.customers import Encoder, EncoderConfig, fit
from data.reward import RewardSpec
from rl.experience.events import generated_events
from rl.policies import (
    LinearThompsonConfig,
    PolicyConfig,
    PopularityConfig,
    RFMBanditConfig,
    build,
)
from rl.policy.queries import Impressions
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market
from rl.simulators.market.market import Market
from rl.simulators.market.retail import RetailEnv
from rl.simulators.play import interact

DECISIONS, JUDGED, BATCH, K = 20_000, 2_000, 20, 10

five_seeds = pytest.mark.parametrize("seed", range(5))


@cache
def shop(seed: int) -> tuple[Market, Encoder]:
    rng = np.random.default_rng(seed)
    config = GeneratedMarketConfig()
    market = generate_market(config, rng)
    return market, fit(generated_events(market, config.invoices, rng), EncoderConfig())


@cache
def final_reward(config: PolicyConfig, seed: int, reward_sign: float = 1.0) -> float:
    """Return the mean expected reward of the judged decisions of a policy that has learned in the shop."""
    market, encoder = shop(seed)
    policy = build(config, encoder.n_features, encoder.n_states, encoder.popularity)
    env = RetailEnv(market, encoder, num_envs=BATCH, k=K)
    learn = policy.update

    def update(observations: Impressions) -> None:
        learn(replace(observations, rewards=reward_sign * observations.rewards))

    setattr(policy, "update", update)  # noqa: B010 - the broken learner, sign -1, is broken here and nowhere else
    steps = interact(policy, env, DECISIONS // BATCH, seed, np.random.default_rng(100 + seed))
    expected = np.concatenate([of_step for _, of_step in steps])
    assert len(expected) == DECISIONS
    return float(expected[-JUDGED:].mean())


def closed_gap(seed: int, reward: float) -> float:
    """Return which share of the way from random to the oracle a reward is."""
    ceilings = shop(seed)[0].ceilings(K, RewardSpec())
    return (reward - ceilings["random"]) / (ceilings["oracle"] - ceilings["random"])


def thompson_learns(seed: int, reward_sign: float = 1.0) -> bool:
    closed = closed_gap(seed, final_reward(LinearThompsonConfig(), seed, reward_sign))
    print(f"seed {seed}, reward sign {reward_sign}: linear Thompson closes {closed:.3f} of the gap")
    return closed >= 0.8


def rfm_bandit_learns(seed: int, reward_sign: float = 1.0) -> bool:
    rewards = final_reward(RFMBanditConfig(), seed, reward_sign), final_reward(PopularityConfig(), seed)
    gaps = [closed_gap(seed, reward) for reward in rewards]
    print(f"seed {seed}, reward sign {reward_sign}: RFM bandit closes {gaps[0]:.3f}, popularity {gaps[1]:.3f}")
    return rewards[0] > rewards[1]


@pytest.mark.slow
@five_seeds
def test_linear_thompson_closes_most_of_the_gap(seed: int) -> None:
    assert thompson_learns(seed)


@pytest.mark.slow
@five_seeds
def test_linear_thompson_that_learns_the_opposite_does_not(seed: int) -> None:
    assert not thompson_learns(seed, reward_sign=-1.0)


@pytest.mark.slow
@five_seeds
def test_the_rfm_bandit_beats_popularity(seed: int) -> None:
    assert rfm_bandit_learns(seed)


@pytest.mark.slow
@five_seeds
def test_an_rfm_bandit_that_learns_the_opposite_does_not(seed: int) -> None:
    assert not rfm_bandit_learns(seed, reward_sign=-1.0)
