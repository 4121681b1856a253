"""What holds for every simulator, whatever it simulates."""

import re
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rl.policy import Query
from rl.simulators.batched import BatchedEnv, Observation, SingleEnv
from rl.simulators.registry import SIMULATORS, make, register
from rl.training.environments import ceilings

STEPS = 45  # more than two episodes of the shop
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SIMULATORS),
    ("raycommend/Coffee-v0", {"crossed": False}),
    ("raycommend/ShopPlus-v0", {"user_features": True}),
]
EPISODIC = [f"raycommend/{name}-v0" for name in ("Shop", "ShopShown", "ShopPlus", "InterestEvolution")]
every = pytest.mark.parametrize(("name", "options"), OPTIONS)


def flat(step: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """All arrays of what `reset` or `step` returned, by name."""
    found: dict[str, np.ndarray] = {}
    for place, part in enumerate(step):
        if not isinstance(part, dict):
            found[str(place)] = np.asarray(part)
            continue
        for key, value in part.items():
            inner = value.items() if isinstance(value, dict) else [("", value)]
            found |= {f"{place} {key} {name}": np.asarray(array) for name, array in inner}
    return found


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(array, other[name]) for name, array in one.items())


def trajectory(env: BatchedEnv, seed: int, steps: int = STEPS) -> list[dict[str, np.ndarray]]:
    env.action_space.seed(0)
    found = [flat(env.reset(seed=seed))]
    return found + [flat(env.step(env.action_space.sample())) for _ in range(steps)]


@every
def test_gymnasium_finds_nothing_to_say(name: str, options: dict[str, Any]) -> None:
    register()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make(name, **options)
        check_env(env.unwrapped)
        assert isinstance(env.unwrapped, SingleEnv)


@every
def test_gymnasium_makes_batches(name: str, options: dict[str, Any]) -> None:
    register()
    env = gym.make_vec(name, num_envs=3, vectorization_mode="vector_entry_point", **options)
    assert isinstance(env, BatchedEnv)
    assert env.num_envs == 3


@every
def test_observations_are_queries_in_their_space(name: str, options: dict[str, Any]) -> None:
    env = make(name, 5, **options)
    env.action_space.seed(0)
    observation, _ = env.reset(seed=0)
    ended = np.zeros(5, dtype=np.bool_)
    for _ in range(STEPS):
        assert env.observation_space.contains(observation)
        query = Query.of(observation)
        assert query.mask.shape == query.items.shape
        assert query.items.min() >= 1
        assert query.mask.all()
        assert query.features.shape[:2] in {(5, 1), query.items.shape}
        observation, rewards, terminated, truncated, info = env.step(env.action_space.sample())
        assert rewards.shape == terminated.shape == truncated.shape == (5,)
        assert rewards.dtype == np.float64
        assert not truncated.any()
        assert all(len(info[key]) == 5 for key in env.logged)
        assert terminated.all() or not env.one_step
        ended |= terminated
    assert ended.all() or name == "raycommend/InterestEvolution-v0"


@every
def test_same_seed_same_trajectory(name: str, options: dict[str, Any]) -> None:
    env = make(name, 4, **options)
    first = trajectory(env, 3)
    assert all(same(a, b) for a, b in zip(first, trajectory(env, 3), strict=True))
    assert all(same(a, b) for a, b in zip(first, trajectory(make(name, 4, **options), 3), strict=True))
    assert not all(same(a, b) for a, b in zip(first, trajectory(env, 4), strict=True))


@every
def test_what_was_returned_does_not_change(name: str, options: dict[str, Any]) -> None:
    env = make(name, 4, **options)
    env.action_space.seed(0)
    returned = [flat(env.reset(seed=0))]
    kept = [{key: array.copy() for key, array in step.items()} for step in returned]
    for _ in range(STEPS):
        step = flat(env.step(env.action_space.sample()))
        returned.append(step)
        kept.append({key: array.copy() for key, array in step.items()})
    assert all(same(a, b) for a, b in zip(returned, kept, strict=True))


@every
def test_a_batch_of_one_is_a_single_environment(name: str, options: dict[str, Any]) -> None:
    register()
    batch, single = make(name, 1, **options), gym.make(name, **options).unwrapped
    batch.action_space.seed(0)
    for seed in range(3):
        after, alone = batch.reset(seed=seed)[0], single.reset(seed=seed)[0]
        ended = False
        while not ended:
            assert all(np.array_equal(after[key][0], alone[key]) for key in after)
            actions = batch.action_space.sample()
            after, rewards, terminated, _, info = batch.step(actions)
            alone, reward, ended, _, alone_info = single.step(actions[0])
            assert (reward, ended) == (rewards[0], terminated[0])
            assert all(np.array_equal(info[key][0], value) for key, value in alone_info.items())
        assert all(np.array_equal(info["final_obs"][key][0], alone[key]) for key in alone)


@pytest.mark.parametrize("name", EPISODIC)
def test_a_row_that_starts_anew_leaves_the_others_alone(name: str) -> None:
    env = make(name, 4)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(5):
        before, *_ = env.step(env.action_space.sample())
    env.start(np.array([1, 2]))
    after = env.observe()
    assert same_rows(before, after, [0, 3])
    assert not same_rows(before, after, [1, 2])


def same_rows(before: Observation, after: Observation, rows: list[int]) -> bool:
    return all(np.array_equal(before[key][rows], after[key][rows]) for key in before)


@every
def test_a_reset_takes_one_seed(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="takes one seed, got a list of 2"):
        make(name, 2, **options).reset(seed=[1, 2])


@every
def test_mistakes_are_told(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="colour"):
        make(name, 1, colour="red")
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        make(name, 0, **options)


@pytest.mark.parametrize(
    ("name", "options", "names"),
    [
        ("Shop-v0", {}, "random greedy_on_the_exact_belief oracle"),
        ("ShopShown-v0", {}, "random best"),
        ("ShopPlus-v0", {}, "random fixed greedy_on_the_exact_belief oracle"),
        ("ShopPlus-v0", {"user_features": True}, "random fixed greedy_on_the_exact_belief oracle"),
        ("InterestEvolution-v0", {}, "random by_interest by_interest_and_quality by_quality priced"),
    ],
)
def test_ceilings_are_those_of_the_card(name: str, options: dict[str, Any], names: str) -> None:
    env = make(f"raycommend/{name}", 1, **options)
    known, card = ceilings(env), (type(env).__doc__ or "").split("Ceilings")[1]
    assert list(known) == names.split()
    assert list(known.values()) == sorted(known.values())
    assert {f"{value:.3f}".removesuffix("00") for value in known.values()} <= set(re.findall(r"\d+\.\d+", card))


def test_an_unknown_name_is_told() -> None:
    with pytest.raises(ValueError, match="there is no simulator 'raycommend/Nothing-v0'; there are raycommend/C"):
        make("raycommend/Nothing-v0", 1)


def test_single_steps_are_told_apart() -> None:
    assert [name for name in SIMULATORS if not make(name, 1).one_step] == EPISODIC
