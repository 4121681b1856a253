"""The wheel bandit: four arms that pay only for rare contexts, and one that is always safe."""

import numpy as np

from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.bandits.contextual import ContextualBandit

ARMS = 5
PLAIN, SAFE, RARE = 1.0, 1.2, 50.0
NOISE, NOISE_RARE = 0.05, 0.01  # standard deviations


class Wheel(ContextualBandit):
    """Points of the unit disc; outside the radius delta one of four arms pays 50.

    Description: a point x is drawn uniformly from the unit disc. Inside the radius delta, arms 1 to 4 pay N(1, .05) and
        arm 5 pays N(1.2, .05), .05 being the standard deviation. Outside it the arm of x's quadrant pays N(50, .01) and
        the others pay as inside. The quadrants of arms 1 to 4 have the signs (+, +), (+, -), (-, +), (-, -). The nearer
        delta is to 1, the rarer is what is worth exploring for.
    Observation space: `features` [1, 3], x and a constant 1; `items` [5], the arms 1 to 5; `mask` [5], all on.
    Action space: the position of the arm, 0 to 4.
    Reward: what the arm pays.
    Starting state: a point of the disc.
    Episode end: after each step.
    Information: `expected` and `best`, see `ContextualBandit`.
    Ceilings: exact, by `ceilings()`. With p = 1 - delta^2: oracle 1.2 (1 - p) + 50 p, random 1.04 (1 - p) + 10.84 p,
        best fixed arm max(1.2, (1 - p) + 13.25 p). For delta .5, .9, .99: oracle 37.8, 10.472, 2.17112; random 8.39,
        2.902, 1.23502; fixed 10.1875, 3.3275, 1.243775.
    Options: `delta`, in (0, 1).
    Source: Riquelme, Tucker and Snoek, "Deep Bayesian Bandits Showdown" (2018), section 5.4; the constant is ours.
    """

    def __init__(self, num_envs: int = 1, *, delta: float = 0.95) -> None:
        if not 0 < delta < 1:
            raise ValueError(f"delta must be between 0 and 1, got {delta}")
        self.delta = delta
        super().__init__(num_envs, ARMS, low=np.array([-1.0, -1.0, 0.0]), high=np.ones(3))

    def visit(self) -> tuple[FloatArray, FloatArray]:
        """See `ContextualBandit.visit`."""
        radius = np.sqrt(self.rng.random(self.num_envs))  # uniform by area
        angle = 2 * np.pi * self.rng.random(self.num_envs)
        x, y = radius * np.cos(angle), radius * np.sin(angle)
        expected = np.tile([PLAIN] * (ARMS - 1) + [SAFE], (self.num_envs, 1))
        outside = np.flatnonzero(radius >= self.delta)
        expected[outside, (2 * (x <= 0) + (y <= 0))[outside]] = RARE
        return np.stack([x, y, np.ones(self.num_envs)], axis=1), expected

    def earn(self, actions: IntArray, expected: FloatArray) -> FloatArray:
        """See `ContextualBandit.earn`."""
        noise = np.where(expected == RARE, NOISE_RARE, NOISE)
        rewards: FloatArray = expected + noise * self.rng.standard_normal(self.num_envs)
        return rewards

    def ceilings(self) -> dict[str, float]:
        """See `ContextualBandit.ceilings`."""
        p = 1 - self.delta**2  # share of contexts outside
        quadrant = PLAIN + p / 4 * (RARE - PLAIN)  # an arm's mean, whichever of the four
        return {
            "oracle": (1 - p) * SAFE + p * RARE,
            "random": (4 * quadrant + SAFE) / ARMS,
            "fixed": max(SAFE, quadrant),
        }
