"""The shop with views, purchases and changing interests, whose users may be known a little."""

from typing import Any

import gymnasium as gym
import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.queries import CLICK, IGNORED
from rl.simulators.batched import BatchedEnv, Info, Observation
from rl.simulators.shop.shop import (
    BASE,
    FAVOURITE,
    FAVOURITES,
    GAIN,
    PER_AFFINITY,
    PRODUCTS,
    STEPS,
    remember,
)

AFFINITIES = 11  # in tenths
PROPENSITIES = np.array([0.1, 0.3, 0.5])  # a click on the favourite becomes a purchase
OTHER_PURCHASE = 0.5  # the same for another product, as a share of that
VIEW_FAVOURITE, VIEW_OTHER = 0.5, 0.2  # what is not clicked is viewed
SHIFT = 0.03  # a step
LEVELS = np.array([0.0, 0.2, 1.0, 2.0])  # rewards of ignored, view, click and purchase
AGE_BANDS, GENDERS, LOCATIONS = 4, 2, FAVOURITES
AT_HOME = 0.6  # the first favourite is the one of the user's location
AGE_GIVEN_PROPENSITY = np.array([[0.4, 0.3, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25], [0.1, 0.2, 0.3, 0.4]])
USER_FEATURES = AGE_BANDS + GENDERS + LOCATIONS


class ShopPlus(BatchedEnv):
    """One product a step to a user whose favourite may change, who views, clicks and buys.

    Description: hidden are an affinity b, one of 0, .1, ..., 1, the favourite, one of products 1 to 5, and a propensity
        to buy r, one of .1, .3, .5. The favourite is clicked with probability .4 + .5 b, any other product with .1. A
        click becomes a purchase with probability r for the favourite and r / 2 for another product. What is not clicked
        is viewed with probability .5 if it is the favourite, otherwise .2. A click or a purchase adds .1 to b, up to 1.
        Then, with probability .03, another of the five products becomes the favourite.
        A user has an age band (1 of 4), a gender (1 of 2) and a location (1 of 5). The location is that of their first
        favourite with probability .6, and each other with .1. The age band has probabilities .4, .3, .2, .1 for r = .1,
        .25 each for r = .3, and .1, .2, .3, .4 for r = .5. The gender is uniform and tells nothing.
    Observation space: `items` [10], the products 1 to 10; `mask` [10], all on; `history` [20, 3], the products shown in
        this episode with their outcome (ignored, view, click, purchase: the strongest one) and age; with
        `user_features`, `features` [1, 11], age band, gender and location, one-hot.
    Action space: the position of the product to show, 0 to 9.
    Reward: ignored 0, view .2, click 1, purchase 2.
    Starting state: b, the favourite and r drawn uniformly.
    Episode end: after 20 steps.
    Information: `outcome` [B]; `expected` [B], the expected reward of what was shown, and `best` [B], of the favourite.
    Ceilings: random 4.621, best fixed product 6.660, an oracle that knows what is hidden 21.610 (all exact); greedy on
        the exact belief (`tests.support.belief`) 15.080 +- .014, with `user_features` 16.410 +- .015 (200,000
        episodes each). A bonus for finding out the favourite earned no more, so these should be close to the best.
    Options: `user_features`, whether the user is seen (by default not).
    """

    discount = 0.0  # as in the shop, what is shown hardly changes what can be earned later
    logged = ("outcome",)

    def __init__(self, num_envs: int = 1, *, user_features: bool = False) -> None:
        self._user_features = user_features
        spaces: dict[str, gym.Space[Any]] = {
            "items": gym.spaces.Box(1, PRODUCTS, (PRODUCTS,), np.int32),
            "mask": gym.spaces.MultiBinary(PRODUCTS),
            "history": gym.spaces.Box(0, STEPS, (STEPS, 3), np.int32),
        }
        if user_features:
            spaces["features"] = gym.spaces.Box(0.0, 1.0, (1, USER_FEATURES), np.float64)
        super().__init__(num_envs, gym.spaces.Dict(spaces), gym.spaces.Discrete(PRODUCTS))
        self._items = np.broadcast_to(np.arange(1, PRODUCTS + 1, dtype=np.int32), (num_envs, PRODUCTS))
        self._mask = np.ones((num_envs, PRODUCTS), dtype=np.int8)
        self._favourite, self._affinity, self._propensity, self._step = np.zeros((4, num_envs), dtype=np.int64)
        self._user = np.zeros((num_envs, USER_FEATURES))
        self._history = np.zeros((num_envs, STEPS, 3), dtype=np.int32)

    def start(self, rows: IntArray) -> None:
        """See `BatchedEnv.start`."""
        n = len(rows)
        favourite, propensity = self.rng.integers(FAVOURITES, size=n), self.rng.integers(len(PROPENSITIES), size=n)
        self._favourite[rows], self._propensity[rows] = favourite, propensity
        self._affinity[rows] = self.rng.integers(AFFINITIES, size=n)
        self._step[rows] = 0
        self._history[rows] = 0
        location = np.where(self.rng.random(n) < AT_HOME, favourite, self._draw_other(favourite))
        age = (self.rng.random((n, 1)) >= np.cumsum(AGE_GIVEN_PROPENSITY, axis=1)[propensity, :-1]).sum(axis=1)
        gender = self.rng.integers(GENDERS, size=n)
        parts = [np.eye(AGE_BANDS)[age], np.eye(GENDERS)[gender], np.eye(LOCATIONS)[location]]
        self._user[rows] = np.concatenate(parts, axis=1)

    def _draw_other(self, favourite: IntArray) -> IntArray:
        """Draw one of the first five products that is not the favourite."""
        return (favourite + self.rng.integers(1, FAVOURITES, size=len(favourite))) % FAVOURITES

    def ceilings(self) -> dict[str, float]:
        """Return the returns of the card that policies are judged by."""
        believing = 16.410 if self._user_features else 15.080
        return {"random": 4.621, "fixed": 6.660, "greedy_on_the_exact_belief": believing, "oracle": 21.610}

    def expected_rewards(self) -> FloatArray:
        """Return the expected reward of showing each product now, [B, 10]; it knows what is hidden."""
        match = self._favourite[:, None] == np.arange(PRODUCTS)
        p = outcome_probabilities(match, self._affinity[:, None], self._propensity[:, None])  # [B, 10, 4]
        expected: FloatArray = p @ LEVELS
        return expected

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """See `BatchedEnv.advance`."""
        expected = self.expected_rewards()  # [B, 10]
        p = outcome_probabilities(actions == self._favourite, self._affinity, self._propensity)  # [B, 4]
        drawn = (self.rng.random((self.num_envs, 1)) >= np.cumsum(p, axis=1)[:, :-1]).sum(axis=1)  # [B]
        outcome = IGNORED + drawn
        self._affinity = np.minimum(self._affinity + (outcome >= CLICK), AFFINITIES - 1)
        shifted = self.rng.random(self.num_envs) < SHIFT
        self._favourite = np.where(shifted, self._draw_other(self._favourite), self._favourite)
        self._step += 1
        remember(self._history, actions + 1, outcome)
        info = {
            "outcome": outcome,
            "expected": expected[np.arange(self.num_envs), actions],
            "best": expected.max(axis=1),
        }
        return LEVELS[drawn], self._step == STEPS, info

    def observe(self) -> Observation:
        """See `BatchedEnv.observe`."""
        observation: Observation = {"items": self._items, "mask": self._mask, "history": self._history.copy()}
        if self._user_features:
            observation["features"] = self._user[:, None, :].copy()
        return observation


def outcome_probabilities(match: BoolArray, affinity: IntArray, propensity: IntArray) -> FloatArray:
    """Return the probabilities of ignored, view, click and purchase, [..., 4], the arguments broadcast together.

    Args:
        match: whether the product shown is the favourite.
        affinity: in tenths.
        propensity: index into `PROPENSITIES`.
    """
    click = np.where(match, FAVOURITE + PER_AFFINITY * GAIN * affinity, BASE)  # or a purchase
    buy = PROPENSITIES[propensity] * np.where(match, 1.0, OTHER_PURCHASE)
    view = np.where(match, VIEW_FAVOURITE, VIEW_OTHER)
    return np.stack(
        np.broadcast_arrays((1 - click) * (1 - view), (1 - click) * view, click * (1 - buy), click * buy), axis=-1
    )
