"""The shop against exact dynamic programming and against the exact belief about its user."""

from functools import cache
from itertools import combinations_with_replacement

import numpy as np
import pytest

from rl.policy.arrays import FloatArray, IntArray
from rl.policy.queries import AGE, CLICK, IGNORED, ITEM, OUTCOME, SHOWN
from rl.simulators.batched import Observation
from rl.simulators.registry import make
from rl.simulators.shop.shop import Shop, remember
from tests.support.episodes import assert_mean, returns


@cache
def clicks(shown: int, tenths: int) -> float:
    """Expected clicks on the favourite if it is shown so many times from an affinity in tenths."""
    if not shown:
        return 0.0
    p = 0.4 + 0.05 * tenths
    return p * (1 + clicks(shown - 1, min(tenths + 1, 10))) + (1 - p) * clicks(shown - 1, tenths)


@cache
def random_return(steps: int, tenths: int) -> float:
    """Expected clicks if every product is as likely to be shown."""
    if not steps:
        return 0.0
    loved = 0.1 * (0.4 + 0.05 * tenths)
    grown = random_return(steps - 1, min(tenths + 1, 10))
    return loved * (1 + grown) + 0.9 * 0.1 * (1 + grown) + (0.91 - loved) * random_return(steps - 1, tenths)


def uniform(values: list[float]) -> float:
    return sum(values) / len(values)


def test_a_click_on_any_product_counts_for_the_affinity() -> None:
    """The card says a click adds .1 to b, and not only one on the favourite."""
    assert uniform([random_return(20, b) for b in range(11)]) == pytest.approx(3.219, abs=5e-4)
    world = Shop(20_000)
    rng = np.random.default_rng(0)
    assert_mean(returns(world, lambda o: rng.integers(10, size=len(o["items"])), seed=1), 3.219, 5e-4)


def test_an_oracle_earns_its_ceiling() -> None:
    assert uniform([clicks(20, b) for b in range(11)]) == pytest.approx(16.342, abs=5e-4)
    world = Shop(20_000)
    assert_mean(returns(world, lambda _: world.click_probabilities().argmax(axis=1), seed=1), 16.342, 5e-4)


def test_without_outcomes_the_best_is_always_the_same_product() -> None:
    """Of all ways to divide 20 steps between the five products: showing none of the others is never worse."""
    of_shown = [
        uniform([clicks(n, b) for b in range(11)]) + 0.1 * (20 - n) for n in range(21)
    ]  # if it is the favourite
    divisions = [np.diff([0, *cuts]) for cuts in combinations_with_replacement(range(21), 4)]
    values = {tuple(d): uniform([of_shown[n] for n in (*d, 20 - sum(d))]) for d in divisions}
    best = max(values, key=values.__getitem__)
    assert sorted((*best, 20 - sum(best))) == [0, 0, 0, 0, 20]
    assert values[best] == pytest.approx(4.868, abs=5e-4)
    world = make("raycommend/ShopShown-v0", 20_000)
    assert_mean(returns(world, lambda o: np.full(len(o["items"]), 3), seed=1), 4.868, 5e-4)


def belief_of(history: IntArray) -> FloatArray:
    """Probabilities of favourite and affinity given the history, [B, 5, 11], by Bayes' rule."""
    tenths, products = np.arange(11), np.arange(1, 6)
    belief = np.full((len(history), 5, 11), 1 / 55)
    for entry in np.moveaxis(history, 1, 0):  # [B, 3]
        match = (entry[:, ITEM, None] == products)[:, :, None]
        p = np.where(match, 0.4 + 0.05 * tenths, 0.1)
        clicked, seen = (entry[:, OUTCOME] == CLICK)[:, None, None], (entry[:, ITEM] > 0)[:, None, None]
        after = belief * np.where(clicked, p, 1 - p)
        grown = np.concatenate([np.zeros_like(after[:, :, :1]), after[:, :, :-1]], axis=2)
        grown[:, :, 10] += after[:, :, 10]
        belief = np.where(seen, np.where(clicked, grown, after), belief)
    normalised: FloatArray = belief / belief.sum(axis=(1, 2), keepdims=True)
    return normalised


def greedy(observation: Observation) -> IntArray:
    """The product that is most likely to be clicked; products 6 to 10 never are more so than the first five."""
    belief = belief_of(observation["history"])
    p = (belief * (0.4 + 0.05 * np.arange(11))).sum(axis=2) + 0.1 * (1 - belief.sum(axis=2))
    chosen: IntArray = p.argmax(axis=1)
    return chosen


@pytest.mark.heavy
def test_the_greedy_belief_earns_its_ceiling() -> None:
    assert_mean(returns(Shop(4_000), greedy, seed=2), 12.197, 0.006)


def test_the_history_is_what_happened() -> None:
    world = Shop(50)
    rng = np.random.default_rng(0)
    world.reset(seed=0)
    shown, clicked = [], []
    for step in range(1, 20):
        actions = rng.integers(10, size=50)
        observation, rewards, ended, _, _ = world.step(actions)
        shown.append(actions + 1)
        clicked.append(np.where(rewards == 1, CLICK, IGNORED))
        history = observation["history"]
        assert not ended.any()
        assert not history[:, : 20 - step].any()
        assert np.array_equal(history[:, 20 - step :, ITEM], np.stack(shown, axis=1))
        assert np.array_equal(history[:, 20 - step :, OUTCOME], np.stack(clicked, axis=1))
        assert np.array_equal(history[:, 20 - step :, AGE], np.tile(np.arange(step, 0, -1), (50, 1)))
    observation, _, ended, _, info = world.step(actions)
    assert ended.all()
    assert not observation["history"].any()
    assert info["final_obs"]["history"][:, 0, AGE].tolist() == [20] * 50


def test_shop_shown_tells_no_outcomes() -> None:
    world = make("raycommend/ShopShown-v0", 100)
    world.reset(seed=0)
    for _ in range(10):
        observation, *_ = world.step(np.zeros(100, dtype=np.int64))
    assert (observation["history"][:, -10:, ITEM] == 1).all()
    assert (observation["history"][:, :, OUTCOME] == SHOWN).all()


def test_a_full_history_forgets_the_oldest() -> None:
    history = np.zeros((1, 2, 3), dtype=np.int64)
    for item in (4, 5, 6):
        remember(history, np.array([item]), np.array([CLICK]))
    assert history.tolist() == [[[5, CLICK, 2], [6, CLICK, 1]]]
