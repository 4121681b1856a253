"""Logs of bandits whose values are known: simulated ones, and tables of classes with a softened classifier."""

from dataclasses import dataclass

import numpy as np

from rl.evaluation.offpolicy.log import BanditLog, Predictions
from rl.policy.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Problem:
    """A bandit with a logger, softmax over linear scores with a floor, and a softmax target; rewards are 0 or 1."""

    actions: int = 10
    dimensions: int = 5
    logger_scale: float = 0.5
    target_scale: float = 2.0
    floor: float = 0.2
    """Share of the decisions that the logger makes uniformly: no weight is above actions / floor."""
    seed: int = 7

    def parameters(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return the coefficients [d, A] of rewards, logger and target."""
        rng = np.random.default_rng(self.seed)
        shape = (self.dimensions, self.actions)
        rewards, other = rng.normal(size=shape), rng.normal(size=shape)
        return rewards, 0.5 * rewards + other, 0.7 * rewards + 0.3 * other

    def draw(self, n: int, rng: np.random.Generator) -> tuple[FloatArray, BanditLog, FloatArray]:
        """Return contexts [n, d], a log of n decisions, and what each of their actions truly earns [n, A]."""
        rewards, logger, target = self.parameters()
        contexts = rng.normal(size=(n, self.dimensions))
        means = 1 / (1 + np.exp(-(contexts @ rewards) / 2 + 1))
        greedy = softmax(self.logger_scale * contexts @ logger)
        behaviour = self.floor / self.actions + (1 - self.floor) * greedy
        chosen = sample(behaviour, rng)
        at = np.arange(n)
        earned = (rng.random(n) < means[at, chosen]).astype(float)
        return (
            contexts,
            BanditLog(chosen, earned, behaviour[at, chosen], softmax(self.target_scale * contexts @ target)),
            means,
        )

    def truth(self, n: int = 1_000_000) -> float:
        """Return the target's value, to some 3e-4."""
        _, log, means = self.draw(n, np.random.default_rng(1_000 + self.seed))
        return value(log, means)


def value(log: BanditLog, means: FloatArray) -> float:
    """Return what the target earns on a log's contexts, from what actions earn [n, A]."""
    return float(Predictions(log, means).expected.mean())


def softmax(scores: FloatArray) -> FloatArray:
    """Return the distributions [n, A] of scores."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    distributions: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return distributions


def sample(distributions: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return an action [n] of each distribution [n, A]."""
    sums = distributions.cumsum(axis=1)
    chosen = (sums < rng.random((len(sums), 1)) * sums[:, -1:]).sum(axis=1)
    actions: IntArray = np.minimum(chosen, distributions.shape[1] - 1).astype(np.int64)
    return actions


def log_classes(
    classes: IntArray, behaviour: FloatArray, target: FloatArray, rng: np.random.Generator
) -> tuple[BanditLog, float]:
    """Return a log of who classifies at random, with reward 1 for the right class, and the target's true value."""
    chosen = sample(behaviour, rng)
    at = np.arange(len(classes))
    log = BanditLog(chosen, (chosen == classes).astype(float), behaviour[at, chosen], target)
    return log, float(target[at, classes].mean())
