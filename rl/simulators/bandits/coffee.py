"""The coffee machine: which of four coffees, for whom, in which weather, at what time of day."""

import gymnasium as gym
import numpy as np

from rl.policy.arrays import FloatArray
from rl.simulators.bandits.contextual import ContextualBandit
from rl.simulators.batched import Observation

USERS, WEATHERS, TIMES, COFFEES = 4, 3, 3, 4
CELLS = USERS * WEATHERS * TIMES
_TABLE_SEED = 5  # gives counts 11, 10, 6 and 9: no coffee is right for many


def preferences() -> np.ndarray:
    """Return the position of the one right coffee for each user, weather and time, [4, 3, 3]."""
    return np.random.default_rng(_TABLE_SEED).integers(COFFEES, size=(USERS, WEATHERS, TIMES))


class Coffee(ContextualBandit):
    """One coffee for a user in a weather at a time of day; exactly one of the four is right.

    Description: a user (of 4), a weather (of 3) and a time of day (of 3) are drawn uniformly. The right coffee of each
        of the 36 cells was drawn once, without any structure between the cells (`preferences()`): neither a user nor a
        pair of properties tells it.
    Observation space: `features` [1, 46] of 0 and 1: user (4), weather (3), time (3), and one for each of the 36 cells;
        only the first 10 if `crossed` is off. `state`, the number of the cell, user * 9 + weather * 3 + time; `items`
        [4], the coffees 1 to 4; `mask` [4], all on.
    Action space: the position of the coffee, 0 to 3.
    Reward: 1 for the right coffee.
    Starting state: a cell drawn uniformly.
    Episode end: after each step.
    Information: `expected` and `best`, see `ContextualBandit`.
    Ceilings, exact: oracle 1, best fixed coffee 11/36 = .3056, random .25.
    Options: `crossed`, whether the cells are among the features (by default they are).
    Source: the problem of Azure Personalizer's public tutorial, with a table of our own.
    """

    def __init__(self, num_envs: int = 1, *, crossed: bool = True) -> None:
        one_hot = [np.eye(n) for n in (USERS, WEATHERS, TIMES)]
        cells = np.indices((USERS, WEATHERS, TIMES)).reshape(3, CELLS)
        parts = [table[cell] for table, cell in zip(one_hot, cells, strict=True)]
        self._contexts = np.concatenate(parts + [np.eye(CELLS)] * crossed, axis=1)  # [cells, D]
        self._table = np.eye(COFFEES)[preferences().ravel()]  # [cells, 4]
        width = self._contexts.shape[1]
        super().__init__(num_envs, COFFEES, np.zeros(width), np.ones(width), state=gym.spaces.Discrete(CELLS))

    def visit(self) -> tuple[FloatArray, FloatArray]:
        """See `ContextualBandit.visit`."""
        self._cell = self.rng.integers(CELLS, size=self.num_envs)
        return self._contexts[self._cell], self._table[self._cell]

    def observe(self) -> Observation:
        """See `BatchedEnv.observe`."""
        return {**super().observe(), "state": self._cell}

    def ceilings(self) -> dict[str, float]:
        """See `ContextualBandit.ceilings`."""
        return {"oracle": 1.0, "random": 1 / COFFEES, "fixed": float(self._table.mean(axis=0).max())}
