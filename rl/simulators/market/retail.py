"""The retail simulator: a market's customers visit, a policy shows slates, they click and buy.

The environment is batched: one `step` answers B visits at once, each an episode of one step (a contextual bandit).
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pyarrow as pa

from data.features.customers import Encoder, EncoderConfig, fit
from data.features.purchases import purchase_columns
from data.ingest.clean import clean, finish_events
from data.nodes.node import load_node
from data.reward import RewardSpec
from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.simulators.batched import BatchedEnv, Info, Observation
from rl.simulators.market.generated import GeneratedMarketConfig, generate_market, generate_transactions
from rl.simulators.market.market import Market, reward_levels, to_months
from rl.simulators.spaces import SlateSpace


class RetailEnv(BatchedEnv):
    """Visits to a shop.

    Description: at each step a customer visits at some time of the year; the policy shows K items of the catalogue;
        they click each with the market's probability and buy some of what they clicked.
    Observation space: a dictionary with the fields of `rl.policy.queries.Query`: features [A, F], state, items [A],
    mask [A]. Action space: K positions on the candidate axis, without repeats.
    Reward: the sum over slots under the reward specification (by default click 1, purchase 5).
    Starting state: a customer drawn by activity, a time drawn uniformly over the year.
    Episode end: after each step.
    Information: `rewards` [B, K] of each slot, `clicked` and `bought` [B, K], `expected` [B] reward of the slate, and
        `best` [B], that of the best slate for the customer.
    Ceilings: `ceilings()` has the exact values of the oracle, of random, and of the best fixed slate. For `retail()`
        without settings (500 customers, 60 items, slates of 10): oracle 7.610, random 2.226, fixed 3.999.
    """

    discount = 0.0
    one_step = True
    logged = ("clicked", "bought", "expected", "best")

    def __init__(
        self, market: Market, encoder: Encoder, num_envs: int, k: int = 10, spec: RewardSpec | None = None
    ) -> None:
        self.market, self.encoder, self.k = market, encoder, k
        self.reward_spec = spec or RewardSpec()
        self._positions = encoder.item_positions(market.items)  # [N]: market index -> catalogue position
        self._customers = encoder.user_positions(market.users)  # [U], likewise
        n_items, bound = len(market.items), _bound(encoder)
        if not 1 <= k <= n_items:
            raise ValueError(f"k must be between 1 and the market's {n_items} items, got {k}")
        observation = gym.spaces.Dict(
            {
                "features": gym.spaces.Box(-bound, bound, (n_items, encoder.n_features), np.float64),
                "state": gym.spaces.Discrete(encoder.n_states),
                "items": gym.spaces.Box(0, len(encoder.items), (n_items,), np.int64),
                "mask": gym.spaces.MultiBinary(n_items),
            }
        )
        super().__init__(num_envs, observation, SlateSpace(n_items, k))

    def start(self, rows: IntArray) -> None:
        """See `BatchedEnv.start`; all visits start together, because all end at every step."""
        assert len(rows) == self.num_envs
        self._users, times = self.market.sample_visits(self.num_envs, self.rng)
        self._months = to_months(times)
        users = self._customers[self._users]
        items = np.broadcast_to(self._positions, (self.num_envs, len(self._positions)))
        self._visits: Observation = {
            "features": self.encoder.joint(users, times, items),
            "state": self.encoder.states(users, times),
            "items": items,
            "mask": np.ones(items.shape, dtype=np.bool_),
        }

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """See `BatchedEnv.advance`."""
        clicked, bought = self.market.respond(self._users, self._months, actions, self.rng)
        nothing, click, purchase = reward_levels(self.reward_spec)
        rewards = np.where(bought, purchase, np.where(clicked, click, nothing))
        expected = self.market.expected_rewards(self._users, self._months, self.reward_spec)  # [B, N]
        info = {
            "rewards": rewards,
            "clicked": clicked,
            "bought": bought,
            "expected": np.take_along_axis(expected, actions, axis=1).sum(axis=1),
            "best": np.sort(expected, axis=1)[:, -self.k :].sum(axis=1),
        }
        return rewards.sum(axis=1), np.ones(self.num_envs, dtype=np.bool_), info

    def observe(self) -> Observation:
        """See `BatchedEnv.observe`."""
        return dict(self._visits)

    def ceilings(self) -> dict[str, float]:
        """Return the exact mean reward of the `oracle`, of `random`, and of the best `fixed` slate."""
        return self.market.ceilings(self.k, self.reward_spec)


def retail(
    num_envs: int = 1,
    *,
    market: Mapping[str, Any] | GeneratedMarketConfig | None = None,
    encoder: Mapping[str, Any] | EncoderConfig | None = None,
    seed: int = 0,
    k: int = 10,
    spec: RewardSpec | None = None,
) -> RetailEnv:
    """Make the environment of a generated market, encoded by what was fitted on a year of its own past purchases.

    Args:
        num_envs: B.
        market: settings of the market, see `GeneratedMarketConfig`.
        encoder: settings of the encoder, see `EncoderConfig`.
        seed: of the market and its past; visits are seeded by `reset`.
        k: slots of a slate.
        spec: the reward specification.

    Raises:
        ValueError: a setting is unknown or out of range.
    """
    config, rng = GeneratedMarketConfig.model_validate(market or {}), np.random.default_rng(seed)
    drawn = generate_market(config, rng)
    node = load_node("online_retail")
    lines = generate_transactions(drawn, config.invoices, rng).drop_duplicates()
    cleaned = clean(pa.Table.from_pandas(lines, preserve_index=False), node, source="generated")
    events = finish_events(cleaned.events, node, scaler=None)
    columns = purchase_columns(node)
    past = events.select(list(columns.values())).rename_columns(list(columns))
    return RetailEnv(drawn, fit(past, EncoderConfig.model_validate(encoder or {})), num_envs, k, spec)


def _bound(encoder: Encoder) -> float:
    """Return what no joint feature of the encoder exceeds in size; see `Encoder.joint` for its parts."""
    vectors = np.abs(encoder.item_vectors).max()
    parts = (
        np.abs(encoder.item_basics).max(),  # the constant 1 among them
        vectors * max(1.0, np.abs(encoder.user_vectors).max()),
        np.log1p(encoder.pair_counts.max(initial=0.0)),
    )
    return float(max(parts))
