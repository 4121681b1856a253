"""The shop: a user with one hidden favourite, who clicks it the more, the more they have clicked it."""

from typing import Any

import gymnasium as gym
import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.queries import AGE, CLICK, IGNORED, ITEM, OUTCOME, SHOWN
from rl.simulators.batched import BatchedEnv, Info, Observation

PRODUCTS, STEPS, FAVOURITES = 10, 20, 5
BASE, FAVOURITE, PER_AFFINITY, GAIN = 0.1, 0.4, 0.5, 0.1


class Shop(BatchedEnv):
    """One product a step to a user whose favourite is one of the first five products.

    Description: hidden are an affinity b, one of 0, .1, ..., 1, and the favourite, one of products 1 to 5. The
        favourite is clicked with probability .4 + .5 b, any other product with .1. A click adds .1 to b, up to 1.
    Observation space: `items` [10], the products 1 to 10; `mask` [10], all on; `history` [20, 3], the products shown in
        this episode with their outcome (ignored, click) and age.
    Action space: the position of the product to show, 0 to 9.
    Reward: 1 for a click.
    Starting state: b and the favourite drawn uniformly.
    Episode end: after 20 steps.
    Information: none.
    Ceilings: random 3.219 (exact), greedy on the exact Bayes belief 12.197 +- .006, the best policy between 12.203 and
        12.306, an oracle that knows the user 16.342 (exact). `Shop(..., outcomes=False)` shows what was shown but not
        what came of it: there the best policy repeats one of the five, 4.868 (exact).
    """

    discount = 0.0  # what is shown hardly changes what can be earned later: the greedy belief is within 1 % of the best

    def __init__(self, num_envs: int = 1, *, outcomes: bool = True) -> None:
        self._outcomes = outcomes
        observation = gym.spaces.Dict(
            {
                "items": gym.spaces.Box(1, PRODUCTS, (PRODUCTS,), np.int32),
                "mask": gym.spaces.MultiBinary(PRODUCTS),
                "history": gym.spaces.Box(0, STEPS, (STEPS, 3), np.int32),
            }
        )
        super().__init__(num_envs, observation, gym.spaces.Discrete(PRODUCTS))
        self._items = np.broadcast_to(np.arange(1, PRODUCTS + 1, dtype=np.int32), (num_envs, PRODUCTS))
        self._mask = np.ones((num_envs, PRODUCTS), dtype=np.int8)
        self._affinity = np.zeros(num_envs)  # in tenths, so that .1 added ten times is 1
        self._favourite = np.zeros(num_envs, dtype=np.int64)
        self._step = np.zeros(num_envs, dtype=np.int64)
        self._history = np.zeros((num_envs, STEPS, 3), dtype=np.int32)

    def start(self, rows: IntArray) -> None:
        """See `BatchedEnv.start`."""
        self._affinity[rows] = self.rng.integers(11, size=len(rows))
        self._favourite[rows] = self.rng.integers(FAVOURITES, size=len(rows))
        self._step[rows] = 0
        self._history[rows] = 0

    def ceilings(self) -> dict[str, float]:
        """Return the returns of the card that policies are judged by: what can be reached depends on what is shown."""
        if not self._outcomes:
            return {"random": 3.219, "best": 4.868}
        return {"random": 3.219, "greedy_on_the_exact_belief": 12.197, "oracle": 16.342}

    def click_probabilities(self) -> FloatArray:
        """Return the probability of a click on each product, [B, 10]."""
        p = np.full((self.num_envs, PRODUCTS), BASE)
        p[np.arange(self.num_envs), self._favourite] = FAVOURITE + PER_AFFINITY * self._affinity * GAIN
        return p

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """See `BatchedEnv.advance`."""
        p = np.where(actions == self._favourite, FAVOURITE + PER_AFFINITY * self._affinity * GAIN, BASE)
        clicked = self.rng.random(self.num_envs) < p
        self._affinity = np.minimum(self._affinity + clicked, 10)
        self._step += 1
        remember(self._history, actions + 1, np.where(clicked, CLICK, IGNORED) if self._outcomes else SHOWN)
        return clicked.astype(np.float64), self._step == STEPS, {}

    def observe(self) -> Observation:
        """See `BatchedEnv.observe`."""
        return {"items": self._items, "mask": self._mask, "history": self._history.copy()}


def remember(history: np.ndarray, items: IntArray, outcomes: Any) -> None:
    """Append an entry to each row of history [B, T, 3] in place; the oldest falls out, the others age by a step."""
    history[:, :-1] = history[:, 1:]
    history[:, :-1, AGE] += history[:, :-1, ITEM] > 0
    history[:, -1, ITEM], history[:, -1, OUTCOME], history[:, -1, AGE] = items, outcomes, 1
