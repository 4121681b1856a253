"""Interest evolution: each of its rules by itself, and the returns of policies that were published or measured."""

from itertools import combinations

import numpy as np
import pytest

from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.batched import Observation
from rl.simulators.interest_evolution import (
    BUDGET,
    GAIN,
    TOPIC_QUALITY,
    InterestEvolution,
)
from tests.support.episodes import Rule, assert_mean, returns
from tests.support.markets import four_errors

B = 40_000
SLATES = np.array(list(combinations(range(10), 3)))


def first_step(actions: IntArray) -> tuple[Observation, Observation, FloatArray, IntArray]:
    """What was shown, what came after, rewards and clicked slots of B users' first step."""
    world = InterestEvolution(len(actions))
    before, _ = world.reset(seed=0)
    after, rewards, _, _, info = world.step(actions)
    return before, after, rewards, info["chosen"]


def click_weights(features: FloatArray, items: IntArray) -> FloatArray:
    """Return what the probability of a click on each candidate is proportional to, [B, A]; for no click it is 2.

    Args:
        features: [B, 1, 22] as observed.
        items: [B, A] topics from 1.
    """
    weights: FloatArray = 1.0 + np.take_along_axis(features[:, 0], items - 1, axis=1)
    return weights


def test_users_and_candidates() -> None:
    observation, _ = InterestEvolution(B).reset(seed=0)
    interests, used = np.split(observation["features"][:, 0], [20], axis=1)
    assert (np.abs(interests.mean(axis=0)) <= 4 / np.sqrt(3 * B)).all()  # uniform in [-1, 1]: variance 1/3
    assert (np.abs((interests**2).mean(axis=0) - 1 / 3) <= 4 * np.sqrt(4 / 45 / B)).all()
    assert not used.any()
    topics = np.bincount(observation["items"].ravel(), minlength=21) / (10 * B)
    assert topics[0] == 0
    assert (np.abs(topics[1:] - 0.05) <= four_errors(np.array(0.05), 10 * B)).all()


def test_topic_qualities() -> None:
    assert (len(TOPIC_QUALITY), TOPIC_QUALITY[0], TOPIC_QUALITY[13], TOPIC_QUALITY[14]) == (20, -3.0, 0.0, 0.0)
    np.testing.assert_allclose(np.diff(TOPIC_QUALITY), [3 / 13] * 13 + [0] + [3 / 5] * 5)


@pytest.mark.parametrize(
    ("slate", "repeated"), [([7, 0, 3], []), ([7, 7, 3], [1]), ([7, 3, 7], [2]), ([7] * 3, [1, 2])]
)
def test_clicks_are_as_likely_as_their_weights_say(slate: list[int], repeated: list[int]) -> None:
    """By u + 1 against 2 for nothing; a document that is already in the slate is an empty slot."""
    before, _, rewards, chosen = first_step(np.tile(slate, (B, 1)))
    weights = click_weights(before["features"], before["items"])[:, slate]
    weights[:, repeated] = 0.0
    p = weights / (2 + weights.sum(axis=1, keepdims=True))
    for slot in range(3):
        error = 4 * np.sqrt((p[:, slot] * (1 - p[:, slot])).mean() / B)
        assert abs((chosen == slot).mean() - p[:, slot].mean()) <= error
    assert set(chosen) == {-1, 0, 1, 2} - set(repeated)
    np.testing.assert_array_equal(rewards, np.where(chosen >= 0, 4.0, 0.0))


def test_click_weights_by_hand() -> None:
    features = np.concatenate([np.linspace(-1, 0.9, 20), [0, 0]])[None, None, :]
    np.testing.assert_allclose(click_weights(features, np.array([[1, 20, 11]])), [[0.0, 1.9, 1.0]], atol=1e-12)


def test_only_the_clicked_interest_moves() -> None:
    """By .3 (1 - |u|)(1 - u), up with probability (u + 1) / 2."""
    slates = np.tile([7, 0, 3], (B, 1))
    before, after, _, chosen = first_step(slates)
    rows = np.flatnonzero(chosen >= 0)
    topics = before["items"][rows, slates[rows, chosen[rows]]] - 1
    moved = after["features"][:, 0, :20] - before["features"][:, 0, :20]
    u, step = before["features"][rows, 0, topics], moved[rows, topics].copy()
    np.testing.assert_allclose(np.abs(step), 0.3 * (1 - np.abs(u)) * (1 - u), atol=1e-12)
    up = (u + 1) / 2
    assert abs((step > 0).mean() - up.mean()) <= 4 * np.sqrt((up * (1 - up)).mean() / len(u))
    moved[rows, topics] = 0.0
    assert not moved.any()


def test_time_used_is_what_the_platform_knows() -> None:
    world = InterestEvolution(100)
    world.reset(seed=0)
    minutes = np.zeros(100)
    for step in range(1, 31):
        observation, rewards, ended, _, _ = world.step(np.tile([0, 1, 2], (100, 1)))
        assert not ended.any()
        minutes += rewards
        np.testing.assert_allclose(observation["features"][:, 0, 20], minutes / BUDGET)
        np.testing.assert_allclose(observation["features"][:, 0, 21], step / BUDGET)


@pytest.mark.parametrize("q", [-3.0, 0.0, 1.0])
def test_the_budget_closes(q: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """If all quality is q, an episode ends when (1 - .9 q / 3.4) of the minutes watched and .5 for no click make 200.

    What is left limits the last document, so that with q = 0 they make 200 exactly; what a bad one costs beyond its
    own minutes, or half a minute of waiting, may be more than what is left.
    """
    monkeypatch.setattr("rl.simulators.interest_evolution.TOPIC_QUALITY", np.full(20, q))
    monkeypatch.setattr("rl.simulators.interest_evolution.QUALITY_NOISE", 0.0)
    world = InterestEvolution(300)
    waits, going = np.zeros(300), np.ones(300, dtype=np.bool_)
    world.reset(seed=0)
    minutes = np.zeros(300)
    while going.any():
        _, rewards, ended, _, info = world.step(np.tile([2, 1, 0], (300, 1)))
        minutes += going * rewards
        waits += going * (info["chosen"] < 0)
        going &= ~ended
    used = minutes * (1 - 0.9 * q / 3.4) + 0.5 * waits
    beyond = {-3.0: 4 * 2.7 / 3.4, 0.0: 0.0, 1.0: 0.5}[q]
    assert used.min() >= 200 - 1e-9
    assert used.max() <= 200 + beyond + 1e-9


def test_rows_end_by_themselves() -> None:
    world = InterestEvolution(50)
    world.action_space.seed(0)
    world.reset(seed=0)
    steps = np.zeros(50)
    at_once = 0
    for _ in range(150):
        observation, _, ended, _, info = world.step(world.action_space.sample())
        steps += 1
        shown = info["final_obs"] if ended.any() else observation
        np.testing.assert_allclose(shown["features"][:, 0, 21], steps / BUDGET)
        steps[ended] = 0
        np.testing.assert_allclose(observation["features"][:, 0, 21], steps / BUDGET)
        at_once = max(at_once, int(ended.sum()))
    assert 0 < at_once < 50


def top(scores: FloatArray) -> IntArray:
    slates: IntArray = np.argsort(-scores, axis=1)[:, :3]
    return slates


def weights(observation: Observation) -> FloatArray:
    return click_weights(observation["features"], observation["items"])


def quality(observation: Observation) -> FloatArray:
    found: FloatArray = TOPIC_QUALITY[observation["items"] - 1]
    return found


def priced(observation: Observation) -> IntArray:
    """The slate of highest expected worth when a minute of time is worth 1.35 minutes watched."""
    w = weights(observation)
    worth = w * (4 + 1.35 * 4 * (GAIN * quality(observation) - 1))
    of_slate = (worth[:, SLATES].sum(axis=2) - 1.35 * 0.5 * 2) / (w[:, SLATES].sum(axis=2) + 2)
    slates: IntArray = SLATES[of_slate.argmax(axis=1)]
    return slates


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("rule", "expected", "error"),
    [
        pytest.param(lambda o: top(weights(o)), 168.0, 0.2, id="by interest alone"),
        pytest.param(lambda o: top(weights(o) * (1 + quality(o))), 248.2, 0.2, id="by interest and quality"),
        pytest.param(lambda o: top(quality(o)), 264.3, 0.3, id="by quality alone"),
        pytest.param(priced, 280.2, 0.3, id="by worth"),
    ],
)
def test_policies_earn_what_the_card_says(rule: Rule, expected: float, error: float) -> None:
    assert_mean(returns(InterestEvolution(1_500), rule, seed=5), expected, error)


def test_random_slates_earn_what_the_card_says() -> None:
    rng = np.random.default_rng(0)
    assert_mean(returns(InterestEvolution(3_000), lambda o: top(rng.random(o["items"].shape)), seed=5), 160.6, 0.1)
