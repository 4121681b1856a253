"""SlateQ where every value is known: two steps, three items, slates of two, and a bait that takes the clicks.

A new user who clicks the bait leaves with a small reward; the seed is worth nothing at once but brings them back as a
regular, whose bait is worth much. They click the bait more readily, so that the best slate for a new user has no bait.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from rl.algorithms.slate_q.algorithm import SlateQConfig
from rl.algorithms.slate_q.module import SlateQModule
from rl.policies.slates.choice import slate_values
from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.draws import sample
from rl.policy.queries import Query
from rl.simulators import registry
from rl.simulators.batched import BatchedEnv, Info, Observation

BAIT, SEED, DULL = 1, 2, 3
WEIGHT = np.array([0.0, 4.0, 1.0, 0.5])  # of items 1 to 3, beside 1 for nothing
REWARD = np.array([[0.0, 0.8, 0.0, 0.2], [0.0, 5.0, 0.0, 1.0]])  # of new users and of regulars
GAMMA = 0.9
# Regulars: nothing 0, bait 5, seed 0, dull 1; the best slate, bait and dull, is worth (4 × 5 + .5 × 1) / 5.5.
OF_REGULAR = 20.5 / 5.5
# New users: nothing 0, bait .8, seed what they are worth as a regular, dull .2. Seed and dull are worth
# (3.355 + .1) / 2.5 = 1.38, bait and seed (3.2 + 3.355) / 6 = 1.09, bait and dull (3.2 + .1) / 5.5 = .6.
VALUES = np.array([[0.0, 0.8, GAMMA * OF_REGULAR, 0.2], [0.0, 5.0, 0.0, 1.0]])
NAME = "raycommend/Bait-v0"


class Bait(BatchedEnv):
    """Features [1, 1]: whether they are a regular. Candidates are the three items in any order."""

    discount = GAMMA
    logged = ("chosen",)

    def __init__(self, num_envs: int) -> None:
        observation = gym.spaces.Dict(
            {
                "features": gym.spaces.Box(0, 1, (1, 1), dtype=np.float64),
                "items": gym.spaces.Box(1, 3, (3,), np.int64),
                "mask": gym.spaces.MultiBinary(3),
            }
        )
        super().__init__(num_envs, observation, gym.spaces.MultiDiscrete([3, 3]))
        self._regular = np.zeros(num_envs, dtype=np.int64)

    def start(self, rows: IntArray) -> None:
        self._regular[rows] = 0

    def advance(self, actions: IntArray) -> tuple[FloatArray, BoolArray, Info]:
        shown = np.take_along_axis(self._items, actions, axis=1)
        slot = sample(np.concatenate([np.ones((self.num_envs, 1)), WEIGHT[shown]], axis=1), self.rng) - 1
        item = np.where(slot >= 0, shown[np.arange(self.num_envs), slot], 0)
        rewards = REWARD[self._regular, item]
        returns = (self._regular == 0) & (item == SEED)
        self._regular = returns.astype(np.int64)
        return rewards, ~returns, {"chosen": slot}

    def observe(self) -> Observation:
        self._items = self.rng.permuted(np.tile([BAIT, SEED, DULL], (self.num_envs, 1)), axis=1)
        mask = np.ones((self.num_envs, 3), dtype=np.int8)
        return {"features": self._regular[:, None, None].astype(np.float64), "items": self._items, "mask": mask}


def trained(monkeypatch: pytest.MonkeyPatch, **options: Any) -> SlateQModule:
    """Train in this process."""
    monkeypatch.setitem(registry.SIMULATORS, NAME, Bait)
    settings: dict[str, Any] = {
        "network": {"width": 16, "layers": 0, "value_scale": 3.0},
        "loss": "mse",
        "lr": 3e-3,
        "epsilon_final": 0.3,
        "env_steps_per_update": 24,
        "horizon": 30_000,
        "lr_final_share": 0.02,
        "rounds_per_iteration": 50,
    }
    config = SlateQConfig().environment(NAME, disable_env_checking=True).training(**settings | options)
    algorithm = config.debugging(seed=3, log_level="ERROR").build_algo()
    try:
        while algorithm.env_steps < config.horizon:
            algorithm.train()
        module: SlateQModule = algorithm.learner_group._learner.q_module
        return module
    finally:
        algorithm.stop()


def learned(module: SlateQModule) -> tuple[FloatArray, FloatArray, list[set[int]]]:
    """Return values [2, 4] of nothing and the items, probabilities [2, 3] of items alone, and the slates shown."""
    items = np.tile([BAIT, SEED, DULL], (2, 1))
    observation = {"items": items, "mask": np.ones((2, 3)), "features": np.array([[[0.0]], [[1.0]]])}
    with torch.no_grad():
        judged = module.judge(module._target, {name: torch.from_numpy(array) for name, array in observation.items()})
    values = torch.cat([torch.zeros(2, 1), judged.added], dim=1) + judged.nothing.unsqueeze(1)
    actions = module.averaged_policy()
    slates = actions.decide(Query.of(observation), 2, np.random.default_rng(0)).positions
    return values.numpy(), judged.logits.sigmoid().numpy(), [set(items[0, slate]) for slate in slates]


def test_what_is_written_above_is_right() -> None:
    pairs = torch.tensor([[0, 1], [0, 2], [1, 2]])
    logits = torch.from_numpy(np.log(WEIGHT[1:])).expand(3, 3)
    of = [
        slate_values(torch.zeros(3), torch.from_numpy(VALUES[state, 1:]).expand(3, 3), logits, pairs)
        for state in (0, 1)
    ]
    np.testing.assert_allclose(of[0], [1.0925, 0.6, 1.3818], atol=1e-4)
    assert of[1].max() == pytest.approx(OF_REGULAR)
    assert of[1].argmax() == 1


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_the_exact_values_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    values, alone, slates = learned(trained(monkeypatch))
    np.testing.assert_allclose(values, VALUES, atol=0.2)
    np.testing.assert_allclose(alone, np.tile(WEIGHT[1:] / (1 + WEIGHT[1:]), (2, 1)), atol=0.04)
    assert slates == [{SEED, DULL}, {BAIT, DULL}]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_returns_of_two_steps_are_those_of_the_slates_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regulars were shown slates at random as well, the mean of which is worth less than the best."""
    of_random = (20 / 6 + 20.5 / 5.5 + 0.5 / 2.5) / 3
    values, _, slates = learned(trained(monkeypatch, n_step=2))
    assert GAMMA * of_random < values[0, SEED] < GAMMA * OF_REGULAR
    assert slates == [{SEED, DULL}, {BAIT, DULL}]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_learner_that_ignores_the_future_shows_the_bait(monkeypatch: pytest.MonkeyPatch) -> None:
    values, _, slates = learned(trained(monkeypatch, gamma=0.0))
    np.testing.assert_allclose(values, REWARD, atol=0.25)
    assert slates == [{BAIT, DULL}, {BAIT, DULL}]
