"""What holds for every simulator, whatever it simulates."""

import re
import subprocess
import sys
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from rl.policy.queries import Query
from rl.simulators.batched import BatchedEnv, Observation, SingleEnv
from rl.simulators.registry import SIMULATORS, make, register
from rl.simulators.spaces import ActionError, SlateSpace, batch_actions
from rl.training.run.environments import ceilings

STEPS = 45  # more than two episodes of the shop
OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in SIMULATORS if name != "raycommend/Retail-v0"),
    ("raycommend/Retail-v0", {"market": {"users": 50, "items": 12, "kinds": 3, "invoices": 400}}),
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
def test_a_reset_takes_a_seed_for_each_row(name: str, options: dict[str, Any]) -> None:
    one, other = make(name, 2, **options), make(name, 2, **options)
    first = flat(one.reset(seed=[1, 2]))
    assert same(first, flat(other.reset(seed=[1, 2])))
    actions = one.action_space.sample()
    assert same(flat(one.step(actions)), flat(other.step(actions)))
    assert one.reset(seed=[None, 2])[0].keys() == one.single_observation_space.spaces.keys()
    with pytest.raises(ValueError, match="one for each of 2 episodes, got 3"):
        one.reset(seed=[1, 2, 3])


def outside(env: BatchedEnv) -> list[tuple[Any, str]]:
    """Actions of two episodes that are not in the space, the second of which is at fault, with what is said of them."""
    good = env.action_space.sample()
    n = env.observation_space["items"].shape[1]  # type: ignore[index]
    beyond, below, huge = good.copy(), good.copy(), good.copy()
    beyond[1], below[1], huge[1] = n, -1, 10**6
    wrong = r"episode 1: action \[?{}\b.* is not in {}"
    space = re.escape(str(env.single_action_space))
    cases: list[tuple[Any, str]] = [
        (beyond, wrong.format(n, space)),
        (below, wrong.format(-1, space)),
        (huge, wrong.format(10**6, space)),
        (good + 0.7, f"is not in {space}: not a whole number .float64"),
        (good.astype(np.float64), "not a whole number"),
        (good.astype(np.bool_), "not a whole number .bool"),
        (good.astype(str), "not a whole number"),
        (good[:1], f"actions of 2 episodes in {space} must have the shape"),
        (good[..., None], "must have the shape"),
        ([[0], [0, 0]], "must be an array|must have the shape"),
        (None, "must have the shape"),
    ]
    if isinstance(env.single_action_space, SlateSpace):
        twice = good.copy()
        twice[1, 1] = twice[1, 0]
        cases.append((twice, f"episode 1: action .* is not in {space}: a position is there twice"))
    return cases


@every
def test_actions_outside_the_space_are_refused_and_nobody_has_moved(name: str, options: dict[str, Any]) -> None:
    env, spared = make(name, 2, **options), make(name, 2, **options)
    for one in (env, spared):
        one.reset(seed=0)
        one.action_space.seed(0)
    for actions, said in outside(env):
        with pytest.raises(ActionError, match=said):
            env.step(actions)
    spared.action_space.sample()
    actions = env.action_space.sample()
    assert same(flat(env.step(actions)), flat(spared.step(actions)))


@every
def test_a_single_environment_refuses_them_too(name: str, options: dict[str, Any]) -> None:
    env = gym.make(f"rl.simulators.registry:{name}", **options)
    env.reset(seed=0)
    for action in (10**6, -1, 2.7, True):
        slate = np.full(env.action_space.shape or (), action)
        with pytest.raises(ActionError, match=f"episode 0: action .* is not in {re.escape(str(env.action_space))}"):
            env.step(slate)


def test_slates_are_drawn_without_repeats_where_they_may_have_none() -> None:
    space = SlateSpace(4, 3)
    space.seed(0)
    drawn = [tuple(space.sample().tolist()) for _ in range(500)]
    assert len(set(drawn)) == 24  # all orders of all sets
    assert all(space.contains(np.array(slate)) for slate in drawn)
    assert not space.contains(np.array([1, 2, 1]))
    assert batch_actions(space, 5).contains(batch_actions(space, 5).sample())
    with pytest.raises(ValueError, match="slots must be between 1 and the 2 candidates, got 3"):
        SlateSpace(2, 3)


@pytest.mark.heavy
def test_gymnasium_finds_them_by_module_without_registering() -> None:
    code = (
        "import gymnasium as gym\n"
        "print(gym.make('rl.simulators.registry:raycommend/Shop-v0').reset(seed=0)[0]['items'].shape)\n"
        "for mode in ('vector_entry_point', 'sync'):\n"
        "    env = gym.make_vec('rl.simulators.registry:raycommend/Shop-v0', num_envs=2, vectorization_mode=mode)\n"
        "    print(env.reset(seed=[1, 2])[0]['items'].shape)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split("\n")[:3] == ["(10,)", "(2, 10)", "(2, 10)"]


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
    assert {name for name, options in OPTIONS if not make(name, 1, **options).one_step} == set(EPISODIC)
