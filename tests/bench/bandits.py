"""What the bandit benches share: a policy or a peer plays a simulator, and what it did is counted exactly."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from rl.algorithms.bandit.module import build_policy
from rl.policies import PolicyConfig
from rl.policy.arrays import FloatArray, IntArray
from rl.policy.queries import Impressions, Query
from rl.simulators.bandits.contextual import ContextualBandit
from tests.bench.common import say


@dataclass(frozen=True)
class Played:
    """What every one of n interactions was worth, [n] each: expected rewards, free of the rewards' noise."""

    expected: FloatArray
    """Of the arm that was taken."""
    best: FloatArray
    """Of the best arm."""
    uniform: FloatArray
    """The mean of all arms': what a uniform draw is expected to earn."""
    actions: IntArray
    """Which arm was taken."""

    def regret(self) -> float:
        """Return the cumulative regret in percent of that of uniform draws in the same contexts."""
        return float(self.curve()[-1])

    def curve(self) -> FloatArray:
        """Return the cumulative regret after each interaction in percent of that of uniform draws at the end, [n]."""
        whole = (self.best - self.uniform).sum()
        curve: FloatArray = 100 * np.cumsum(self.best - self.expected) / whole
        return curve


Act = Callable[[Query], IntArray]
Learn = Callable[[FloatArray], None]


def play(env: ContextualBandit, n: int, seed: int, act: Act, learn: Learn) -> Played:
    """Play n interactions: act returns the positions [B] for a query, learn gets their rewards [B]."""
    drawn: list[FloatArray] = []
    visit = env.visit

    def recorded() -> tuple[FloatArray, FloatArray]:
        features, expected = visit()
        drawn.append(expected)
        return features, expected

    setattr(env, "visit", recorded)  # noqa: B010 - uniform's regret needs every arm's expectation
    observation, _ = env.reset(seed=seed)
    played: list[tuple[FloatArray, FloatArray, FloatArray, IntArray]] = []
    for step in range(-(-n // env.num_envs)):
        actions = act(Query.of(observation))
        observation, rewards, _, _, info = env.step(actions)
        learn(rewards)
        played.append((info["expected"], info["best"], drawn[step].mean(axis=1), actions))
    expected, best, uniform, taken = zip(*played, strict=True)
    earned = [np.concatenate(column)[:n] for column in (expected, best, uniform)]
    return Played(earned[0], earned[1], earned[2], np.concatenate(taken)[:n])


def play_policy(
    config: PolicyConfig,
    env: ContextualBandit,
    n: int,
    seed: int,
    told: Callable[[FloatArray], FloatArray] = lambda rewards: rewards,
) -> Played:
    """Let a policy that knows nothing play, and learn what it is told of the rewards after every batch."""
    policy = build_policy(config, env.single_observation_space)
    rng = np.random.default_rng([seed, 1])
    shown: list[tuple[Query, object]] = []

    def act(query: Query) -> IntArray:
        slates = policy.decide(query, 1, rng)
        shown[:] = [(query, slates)]
        return slates.positions[:, 0]

    def learn(rewards: FloatArray) -> None:
        query, slates = shown[0]
        policy.update(Impressions.of_slates(query, slates, told(rewards)[:, None]))  # type: ignore[arg-type]

    return play(env, n, seed, act, learn)


def mean_curve(runs: Sequence[FloatArray], points: int = 400) -> tuple[list[float], list[float]]:
    """Return steps and the mean over runs [n] there, thinned out for drawing."""
    mean = np.mean(runs, axis=0)
    at = np.unique(np.linspace(0, len(mean) - 1, points).astype(int))
    return (at + 1.0).tolist(), mean[at].tolist()


def windowed(values: FloatArray, window: int) -> FloatArray:
    """Return the mean of the last `window` values at each, [n]; of all there are at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    means: FloatArray = (sums[ends] - sums[starts]) / (ends - starts)
    return means


def seeds_of(name: str, description: str | None) -> range:
    """Read --seeds, and compute with one thread from here on."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.bench.{name}", description=description)
    parser.add_argument("--seeds", type=int, default=3, help="how many; the figures are means over them")
    threadpool_limits(1)
    torch.set_num_threads(1)
    return range(parser.parse_args().seeds)


__all__ = ["Played", "mean_curve", "play", "play_policy", "say", "seeds_of", "windowed"]
