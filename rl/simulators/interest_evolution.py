"""Interest evolution: slates for a user whose time grows with the quality of what they watch."""

import gymnasium as gym
import numpy as np

from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.draws import sample
from rl.simulators.batched import BatchedEnv, Info, Observation

TOPICS, CANDIDATES, SLATE = 20, 10, 3
TOPIC_QUALITY = np.concatenate([np.linspace(-3.0, 0.0, 14), np.linspace(0.0, 3.0, 6)])
"""Mean quality of each topic; hidden from policies."""
QUALITY_NOISE = 0.1  # standard deviation of a document's quality around its topic's
BUDGET, LENGTH = 200.0, 4.0  # minutes
NO_CLICK_MASS, NO_CLICK_COST = 2.0, 0.5  # the cost in minutes
GAIN = 0.9 / 3.4  # minutes of budget for each minute watched, by unit of quality
DRIFT = 0.3
_USED_AT_MOST = 10.0  # a bound of what is observed, in budgets; good policies use about 2


class InterestEvolution(BatchedEnv):
    """Slates of three documents to a user with a budget of time; good documents lengthen it, tempting ones do not.

    Description: there are 20 topics; topics 1 to 14 have qualities from -3 to 0, topics 15 to 20 from 0 to 3, evenly
        spaced. The user has an interest u in each topic. At each step ten new documents of random topics are the
        candidates; a document's quality q is its topic's plus N(0, .1), .1 being the standard deviation. Of the slate
        they click a document with probability proportional to u + 1 of its topic, or nothing with 2. A clicked document
        is watched for 4 minutes, or what is left of their time if that is less; m minutes watched change the time by
        -m + (.9 / 3.4) m q, no click by -.5. A click moves u by .3 (1 - |u|)(1 - u), up with probability (u + 1) / 2,
        otherwise down, within [-1, 1].
    Observation space: `features` [1, 22]: the interests in topics 1 to 20 (visible, as in the source), then what a
        platform knows of how much time is gone: minutes watched and steps made, both divided by 200. The budget
        itself and the qualities are hidden. `items` [10], the candidates' topics from 1, in which a topic may occur
        more than once; `mask` [10], all on.
    Action space: three positions on the candidate axis; one that is there again is an empty slot.
    Reward: minutes watched.
    Starting state: interests uniform in [-1, 1], 200 minutes.
    Episode end: when the time is used up, after about 71 steps of a random and 148 of a good policy.
    Information: `chosen` [B], the slot that was clicked, 0 to 2, or -1 for none.
    Ceilings, by simulation of 20,000 episodes: random 160.6 +- .1; by interest alone 168.0 +- .2; (u + 1)(1 + q) 248.8
        +- .2, and 248.2 +- .2 with the topics' qualities for q; always the topics of best quality 264.3 +- .3; the
        slate that is worth most if a minute of time is worth 1.35 minutes watched 280.2 +- .3. The last is the best
        policy known here: the optimum is not known.
    Source: Ie et al., "SlateQ" (2019), section 6, and RecSim's interest evolution environment.
    """

    discount = 1.0
    logged = ("chosen",)

    def __init__(self, num_envs: int = 1) -> None:
        low, high = np.zeros((1, TOPICS + 2)), np.full((1, TOPICS + 2), _USED_AT_MOST)
        low[:, :TOPICS], high[:, :TOPICS] = -1.0, 1.0
        observation = gym.spaces.Dict(
            {
                "features": gym.spaces.Box(low, high, dtype=np.float64),
                "items": gym.spaces.Box(1, TOPICS, (CANDIDATES,), np.int32),
                "mask": gym.spaces.MultiBinary(CANDIDATES),
            }
        )
        super().__init__(num_envs, observation, gym.spaces.MultiDiscrete([CANDIDATES] * SLATE))
        self._mask = np.ones((num_envs, CANDIDATES), dtype=np.int8)
        self._interests = np.zeros((num_envs, TOPICS))
        self._budget, self._watched, self._steps = np.zeros((3, num_envs))  # minutes, minutes, steps
        self._topics = np.zeros((num_envs, CANDIDATES), dtype=np.int64)  # from 0
        self._quality = np.zeros((num_envs, CANDIDATES))

    def ceilings(self) -> dict[str, float]:
        """Return the returns of the card that policies are judged by; where they know a quality, it is the topic's."""
        return {
            "random": 160.6,
            "by_interest": 168.0,
            "by_interest_and_quality": 248.2,
            "by_quality": 264.3,
            "priced": 280.2,
        }

    def start(self, rows: IntArray) -> None:
        """See `BatchedEnv.start`."""
        self._interests[rows] = self.rng.uniform(-1.0, 1.0, (len(rows), TOPICS))
        self._budget[rows], self._watched[rows], self._steps[rows] = BUDGET, 0.0, 0.0
        self._offer(rows)

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        """See `BatchedEnv.advance`."""
        rows = np.arange(self.num_envs)
        slot = self._choose(actions)  # [B], SLATE for none
        clicked = slot < SLATE
        position = actions[rows, np.where(clicked, slot, 0)]
        minutes = np.where(clicked, np.minimum(LENGTH, self._budget), 0.0)
        returned = GAIN * minutes * self._quality[rows, position]
        self._budget += np.where(clicked, returned - minutes, -NO_CLICK_COST)
        self._drift(rows[clicked], self._topics[rows, position][clicked])
        self._watched += minutes
        self._steps += 1
        self._offer(rows)
        return minutes, self._budget <= 0, {"chosen": np.where(clicked, slot, -1)}

    def _choose(self, slates: IntArray) -> IntArray:
        """Draw the slot that each user clicks, [B]; SLATE is none."""
        weights = np.full((self.num_envs, SLATE + 1), NO_CLICK_MASS)
        topics = np.take_along_axis(self._topics, slates, axis=1)
        weights[:, :SLATE] = 1.0 + np.take_along_axis(self._interests, topics, axis=1)
        for slot in range(1, SLATE):
            weights[:, slot] *= (slates[:, :slot] != slates[:, slot : slot + 1]).all(axis=1)
        return sample(weights, self.rng)

    def _drift(self, rows: IntArray, topics: IntArray) -> None:
        u = self._interests[rows, topics]
        step = DRIFT * (1 - np.abs(u)) * (1 - u)
        up = self.rng.random(len(u)) < (u + 1) / 2
        self._interests[rows, topics] = np.clip(u + np.where(up, step, -step), -1.0, 1.0)

    def _offer(self, rows: IntArray) -> None:
        """Draw new candidates."""
        topics = self.rng.integers(TOPICS, size=(len(rows), CANDIDATES))
        self._topics[rows] = topics
        self._quality[rows] = TOPIC_QUALITY[topics] + QUALITY_NOISE * self.rng.standard_normal(topics.shape)

    def observe(self) -> Observation:
        """See `BatchedEnv.observe`."""
        used = np.minimum(np.stack([self._watched, self._steps], axis=1) / BUDGET, _USED_AT_MOST)
        features = np.concatenate([self._interests, used], axis=1)[:, None, :]
        return {"features": features, "items": (self._topics + 1).astype(np.int32), "mask": self._mask}
