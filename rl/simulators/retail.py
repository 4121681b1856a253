"""The retail simulator: a market's customers visit, a policy shows slates, they click and buy. Needs gymnasium.

The environment is batched: one `step` answers B visits at once, each an episode of one step (a contextual bandit).
"""

from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from data.features import Encoder
from data.schema import RewardSpec
from rl.policy import FloatArray, IntArray, Query
from rl.simulators.market import Market, months_of, reward_levels


class RetailEnv(gym.vector.VectorEnv[dict[str, Any], IntArray, FloatArray]):
    """Visits to a shop.

    Description: at each step a customer visits at some time of the year; the policy shows K items of the catalogue;
        he clicks each with the market's probability and buys some of what he clicked.
    Observation space: a dictionary with the fields of `rl.policy.Query`: features [A, F], state, items [A], mask [A].
    Action space: K positions on the candidate axis, without repeats.
    Reward: the sum over slots under the reward specification (by default click 1, purchase 5).
    Starting state: a customer drawn by activity, a time drawn uniformly over the year.
    Episode end: after each step.
    Information: `rewards` [B, K] of each slot, `clicked` and `bought` [B, K], `expected` [B] reward of the slate.
    Ceilings: `market.ceilings(k, spec)` has the exact values of the oracle, of random, and of the best fixed slate.
    """

    def __init__(self, market: Market, encoder: Encoder, num_envs: int, k: int = 10, spec: RewardSpec | None = None):
        self.market, self.encoder, self.num_envs, self.k = market, encoder, num_envs, k
        self.reward_spec = spec or RewardSpec()
        self._positions = encoder.item_positions(market.items)  # [N]: market index -> catalogue position
        n_items = len(market.items)
        self.single_observation_space = gym.spaces.Dict(
            {
                "features": gym.spaces.Box(-np.inf, np.inf, (n_items, encoder.n_features), np.float64),
                "state": gym.spaces.Discrete(encoder.n_states),
                "items": gym.spaces.Box(0, len(encoder.items), (n_items,), np.int64),
                "mask": gym.spaces.MultiBinary(n_items),
            }
        )
        self.single_action_space = gym.spaces.MultiDiscrete([n_items] * k)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.metadata = {"autoreset_mode": gym.vector.AutoresetMode.SAME_STEP}
        self._rng = np.random.default_rng()

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Seed the visits and the customers' choices, and start B visits.

        Raises:
            ValueError: a list of seeds was given; the visits of a batch are drawn together.
        """
        if isinstance(seed, list):
            raise ValueError(f"a batch of visits takes one seed, got a list of {len(seed)}")
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        return self._visit(), {}

    def step(self, actions: IntArray) -> tuple[dict[str, Any], FloatArray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Show slates [B, K]; every visit ends and B new ones start."""
        clicked, bought = self.market.respond(self._users, self._months, actions, self._rng)
        nothing, click, purchase = reward_levels(self.reward_spec)
        rewards = np.where(bought, purchase, np.where(clicked, click, nothing))
        expected = self.market.expected_rewards(self._users, self._months, self.reward_spec)
        info = {
            "rewards": rewards,
            "clicked": clicked,
            "bought": bought,
            "expected": np.take_along_axis(expected, actions, axis=1).sum(axis=1),
        }
        done = np.ones(self.num_envs, dtype=np.bool_)
        return self._visit(), rewards.sum(axis=1), done, np.zeros_like(done), info

    def _visit(self) -> dict[str, Any]:
        self._users, times = self.market.sample_visits(self.num_envs, self._rng)
        self._months = months_of(times)
        users = self.encoder.user_positions(self.market.users[user] for user in self._users)
        items = np.broadcast_to(self._positions, (self.num_envs, len(self._positions)))
        query = Query(
            features=self.encoder.joint(users, times, items),
            state=self.encoder.states(users, times),
            items=items,
            mask=np.ones(items.shape, dtype=np.bool_),
        )
        return asdict(query)
