"""Small decision processes whose policies have exact values, and episodes of them."""

from dataclasses import dataclass

import numpy as np

from rl.evaluation.offpolicy.episodes import EpisodeLog
from rl.policy.arrays import FloatArray, IntArray

_LONGEST = 60


@dataclass(frozen=True)
class DecisionProcess:
    """States, actions, and where they lead."""

    start: FloatArray
    """[S]."""
    moves: FloatArray
    """[S, A, S] probabilities; what lacks to one ends the episode."""
    rewards: FloatArray
    """[S, A] means; drawn as 0 or 1."""
    discount: float

    def value(self, policy: FloatArray) -> float:
        """Return the exact value of a policy [S, A]."""
        moves = np.einsum("sa,sat->st", policy, self.moves)
        rewards = (policy * self.rewards).sum(axis=1)
        return float(self.start @ np.linalg.solve(np.eye(len(moves)) - self.discount * moves, rewards))

    def play(self, policy: FloatArray, n: int, rng: np.random.Generator) -> tuple[IntArray, IntArray, FloatArray]:
        """Return states, actions and rewards [n, T] of episodes; states beyond an end are -1."""
        states, actions = np.full((n, _LONGEST), -1), np.zeros((n, _LONGEST), np.int64)
        rewards = np.zeros((n, _LONGEST))
        now = draw(np.tile(self.start, (n, 1)), rng)
        for step in range(_LONGEST):
            going = np.flatnonzero(now >= 0)
            if not len(going):
                break
            at = now[going]
            act = draw(policy[at], rng)
            states[going, step], actions[going, step] = at, act
            rewards[going, step] = rng.random(len(going)) < self.rewards[at, act]
            now[going] = draw(self.moves[at, act], rng)
        return states, actions, rewards


def draw(distributions: FloatArray, rng: np.random.Generator) -> IntArray:
    """Return an outcome [n] of each distribution [n, K]; -1 with what lacks to one."""
    outcomes = (distributions.cumsum(axis=1) < rng.random((len(distributions), 1))).sum(axis=1)
    return np.where(outcomes == distributions.shape[1], -1, outcomes)


def as_log(
    process: DecisionProcess, behaviour: FloatArray, target: FloatArray, n: int, rng: np.random.Generator
) -> tuple[EpisodeLog, FloatArray, FloatArray]:
    """Return a log of one policy, and features [n, T, S A] of what was taken and of what another does, in the mean."""
    states, actions, rewards = process.play(behaviour, n, rng)
    alive = states >= 0
    at = np.maximum(states, 0)
    size = target.shape[0] * target.shape[1]
    taken = np.eye(size)[at * target.shape[1] + actions]
    of_state = np.zeros((target.shape[0], size))
    for state in range(target.shape[0]):
        of_state[state, state * target.shape[1] : (state + 1) * target.shape[1]] = target[state]
    weights = np.where(alive, target[at, actions] / behaviour[at, actions], 1.0)
    return EpisodeLog(rewards, weights, alive, process.discount), taken, of_state[at]


def chain(length: int = 6) -> tuple[DecisionProcess, FloatArray, FloatArray]:
    """Return a chain that pays at its end, who goes anywhere, and who most often goes on."""
    moves, rewards = np.zeros((length, 2, length)), np.zeros((length, 2))
    for state in range(length):
        moves[state, 0, max(state - 1, 0)] = 0.9
        moves[state, 1, min(state + 1, length - 1)] = 0.9
    rewards[:, 0], rewards[-1, 1] = 0.1, 0.8
    start = np.eye(length)[0]
    return DecisionProcess(start, moves, rewards, 0.95), np.full((length, 2), 0.5), np.tile([0.3, 0.7], (length, 1))


def shop(items: int = 4, moods: int = 5) -> tuple[DecisionProcess, FloatArray, FloatArray]:
    """Return customers who buy when they are in the mood and shown what they like, and stay longer when they do."""
    rng = np.random.default_rng(11)
    likes = rng.dirichlet(np.ones(items), size=moods)
    rewards = 0.05 + 0.6 * likes * np.linspace(0.3, 1, moods)[:, None]
    moves = np.zeros((moods, items, moods))
    for mood in range(moods):
        for item in range(items):
            up = likes[mood, item]
            moves[mood, item, min(mood + 1, moods - 1)] += 0.85 * up
            moves[mood, item, max(mood - 1, 0)] += 0.85 * (1 - up)
    behaviour = 0.2 / items + 0.8 * np.full((moods, items), 1 / items)
    target = 0.1 / items + 0.9 * (0.5 * np.eye(items)[likes.argmax(axis=1)] + 0.5 / items)
    return DecisionProcess(np.full(moods, 1 / moods), moves, rewards, 0.9), behaviour, target
