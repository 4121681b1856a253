"""Shop-plus against exact dynamic programming, and its belief against an enumeration of what is hidden."""

from itertools import product
from typing import Literal

import numpy as np
import pytest

from rl.policy.arrays import FloatArray, IntArray
from rl.policy.queries import CLICK, IGNORED, ITEM, OUTCOME, PURCHASE, VIEW, Query
from rl.simulators.batched import Observation
from rl.simulators.shop.plus import LEVELS, ShopPlus, outcome_probabilities
from tests.support.belief import GreedyBelief, prior
from tests.support.episodes import assert_mean, returns
from tests.support.markets import four_errors

B = 20_000


def by_hand(match: bool, tenths: int, r: float) -> dict[int, float]:
    """The probability of each outcome, as the card says."""
    click = 0.4 + 0.05 * tenths if match else 0.1
    buy, view = (r, 0.5) if match else (r / 2, 0.2)
    none = 1 - click
    return {IGNORED: none * (1 - view), VIEW: none * view, CLICK: click * (1 - buy), PURCHASE: click * buy}


def test_outcomes_by_hand() -> None:
    assert by_hand(True, 5, 0.3) == pytest.approx({IGNORED: 0.175, VIEW: 0.175, CLICK: 0.455, PURCHASE: 0.195})
    assert by_hand(False, 5, 0.3) == pytest.approx({IGNORED: 0.72, VIEW: 0.18, CLICK: 0.085, PURCHASE: 0.015})
    for match, tenths, (at, r) in product((True, False), range(11), enumerate((0.1, 0.3, 0.5))):
        p = outcome_probabilities(np.array([match]), np.array([tenths]), np.array([at]))
        np.testing.assert_allclose(p, [list(by_hand(match, tenths, r).values())])


def exact(rule: Literal["random", "fixed", "oracle"]) -> float:
    """Expected return by the distribution of (whether the fixed product is the favourite, affinity) at each step."""
    total = 0.0
    for r in (0.1, 0.3, 0.5):
        mass = {(match, b): (0.2 if match else 0.8) / 11 for match, b in product((True, False), range(11))}
        for _ in range(20):
            after = dict.fromkeys(mass, 0.0)
            for (match, b), weight in mass.items():
                shown = {"random": [(True, 0.1), (False, 0.9)], "fixed": [(match, 1.0)], "oracle": [(True, 1.0)]}[rule]
                for loved, share in shown:
                    for outcome, p in by_hand(loved, b, r).items():
                        total += weight * share * p * {IGNORED: 0.0, VIEW: 0.2, CLICK: 1.0, PURCHASE: 2.0}[outcome] / 3
                        to = min(b + 1, 10) if outcome >= CLICK else b
                        leaves = 0.03 if match else 0.03 / 4
                        after[not match, to] += weight * share * p * leaves
                        after[match, to] += weight * share * p * (1 - leaves)
            mass = after
    return total


@pytest.mark.heavy
def test_ceilings_are_exact() -> None:
    """The figures of the card; the oracle shows what is the favourite, which never hurts later steps."""
    rng, world = np.random.default_rng(0), ShopPlus(B)
    assert exact("random") == pytest.approx(4.621, abs=5e-4)
    assert_mean(returns(world, lambda _: rng.integers(10, size=B), seed=1), 4.621, 5e-4)
    assert exact("fixed") == pytest.approx(6.660, abs=5e-4)
    assert_mean(returns(world, lambda _: np.full(B, 2), seed=1), 6.660, 5e-4)
    assert exact("oracle") == pytest.approx(21.610, abs=5e-4)
    assert_mean(returns(world, lambda _: world.expected_rewards().argmax(axis=1), seed=1), 21.610, 5e-4)


def test_rewards_are_those_of_the_outcomes_in_the_history() -> None:
    world, rng = ShopPlus(2_000), np.random.default_rng(0)
    world.reset(seed=0)
    outcomes, expected = [], []
    for _ in range(19):
        actions = rng.integers(10, size=2_000)
        best = world.expected_rewards()
        observation, rewards, _, _, info = world.step(actions)
        np.testing.assert_array_equal(observation["history"][:, -1, ITEM], actions + 1)
        np.testing.assert_array_equal(observation["history"][:, -1, OUTCOME], info["outcome"])
        np.testing.assert_array_equal(rewards, LEVELS[info["outcome"] - 1])
        np.testing.assert_array_equal(info["expected"], best[np.arange(2_000), actions])
        np.testing.assert_array_equal(info["best"], best.max(axis=1))
        outcomes.append(info["outcome"])
        expected.append(rewards - info["expected"])
    assert set(np.ravel(outcomes)) == {IGNORED, VIEW, CLICK, PURCHASE}
    assert_mean(np.ravel(expected), 0.0)


def test_users_features_tell_what_the_card_says() -> None:
    world = ShopPlus(B, user_features=True)
    features = world.reset(seed=0)[0]["features"][:, 0]
    age, gender, location = features[:, :4], features[:, 4:6], features[:, 6:]
    for part in (age, gender, location):
        assert (part.sum(axis=1) == 1).all()
        share = np.array(1 / part.shape[1])  # summed over what they tell of, all are uniform
        assert (np.abs(part.mean(axis=0) - share) <= four_errors(share, B)).all()
    rewards = world.expected_rewards()
    at_home = rewards[:, :5].argmax(axis=1) == location.argmax(axis=1)
    assert abs(at_home.mean() - 0.6) <= four_errors(np.array(0.6), B)
    unloved = rewards[:, 9]  # .1 (1 + r / 2) + .9 * .2 * .2
    bands = [[0.4, 0.3, 0.2, 0.1], [0.25] * 4, [0.1, 0.2, 0.3, 0.4]]
    for r, expected in zip((0.1, 0.3, 0.5), bands, strict=True):
        rows = np.isclose(unloved, 0.136 + 0.05 * r)
        assert (np.abs(age[rows].mean(axis=0) - expected) <= four_errors(np.array(expected), int(rows.sum()))).all()


def test_users_features_are_shown_on_request_only() -> None:
    assert "features" not in ShopPlus().reset(seed=0)[0]
    with_user, without = ShopPlus(9, user_features=True), ShopPlus(9)
    assert np.array_equal(with_user.reset(seed=0)[0]["history"], without.reset(seed=0)[0]["history"])
    steps = [env.step(np.arange(9)) for env in (with_user, without)]
    assert np.array_equal(steps[0][1], steps[1][1])  # the same world


# The belief

HISTORY = [(1, VIEW), (3, PURCHASE), (3, IGNORED), (8, CLICK), (3, CLICK)]


def enumerated(history: list[tuple[int, int]], location: int | None, age: int | None) -> FloatArray:
    """The belief [5, 11, 3] by following every possible user through the history."""
    bands = [[0.4, 0.3, 0.2, 0.1], [0.25] * 4, [0.1, 0.2, 0.3, 0.4]]
    mass = np.zeros((5, 11, 3))
    for f, b, at in product(range(5), range(11), range(3)):
        weight = 1.0 if location is None else 0.6 if f == location else 0.1
        weight *= 1.0 if age is None else bands[at][age]
        r, paths = (0.1, 0.3, 0.5)[at], {(f, b): weight}
        for item, outcome in history:
            after: dict[tuple[int, int], float] = {}
            for (favourite, tenths), p in paths.items():
                likely = p * by_hand(item == favourite + 1, tenths, r)[outcome]
                to = min(tenths + 1, 10) if outcome >= CLICK else tenths
                for other in range(5):
                    moved = 0.97 if other == favourite else 0.03 / 4
                    after[other, to] = after.get((other, to), 0.0) + likely * moved
            paths = after
        for (favourite, tenths), p in paths.items():
            mass[favourite, tenths, at] += p
    summed: FloatArray = mass / mass.sum()
    return summed


def query_of(history: list[tuple[int, int]], features: FloatArray) -> Query:
    entries = np.zeros((1, 20, 3), dtype=np.int64)
    for age, (item, outcome) in enumerate(reversed(history), start=1):
        entries[0, -age] = item, outcome, age
    items = np.arange(1, 11)[None]
    return Query(features, np.zeros(1, dtype=np.int64), items, np.ones((1, 10), dtype=np.bool_), entries)


@pytest.mark.parametrize("length", range(6))
@pytest.mark.parametrize(("location", "age"), [(None, None), (4, 0), (2, 3)])
def test_the_belief_is_that_of_an_enumeration(length: int, location: int | None, age: int | None) -> None:
    features = np.zeros((1, 1, 0))
    if location is not None and age is not None:
        features = np.concatenate([np.eye(4)[age], [0, 1], np.eye(5)[location]])[None, None, :]
    policy, query = GreedyBelief(), query_of(HISTORY[:length], features)
    belief = enumerated(HISTORY[:length], location, age)
    np.testing.assert_allclose(policy.belief(query)[0], belief, atol=1e-12)
    expected = [
        sum(
            belief[f, b, at] * sum(p * LEVELS[o - 1] for o, p in by_hand(f + 1 == item, b, r).items())
            for f, b, (at, r) in product(range(5), range(11), enumerate((0.1, 0.3, 0.5)))
        )
        for item in range(1, 11)
    ]
    np.testing.assert_allclose(policy.expected(query)[0], expected)


def test_the_policy_scores_the_candidates_it_is_given() -> None:
    query = query_of(HISTORY, np.zeros((1, 1, 0)))
    few = Query(query.features, query.state, np.array([[7, 3]]), np.ones((1, 2), dtype=np.bool_), query.history)
    everything = GreedyBelief().expected(query)[0]
    assert GreedyBelief().expected(few)[0].tolist() == [everything[6], everything[2]]
    assert GreedyBelief().decide(few, 1, np.random.default_rng(0)).positions.tolist() == [[1]]


class Following:
    """The greedy belief, kept up to date step by step: what `GreedyBelief` computes anew from every history."""

    def __init__(self) -> None:
        self._policy = GreedyBelief()

    def __call__(self, observation: Observation) -> IntArray:
        last = observation["history"][:, -1]
        begins = last[:, ITEM] == 0
        if begins.all():
            self._belief = prior(Query.of(observation))
        else:
            self._belief = self._policy.after(self._belief, last[:, ITEM], last[:, OUTCOME])
        self.expected = self._policy.rewards(self._belief)
        chosen: IntArray = self.expected.argmax(axis=1)
        return chosen


def test_step_by_step_is_the_same_as_anew() -> None:
    world, rule = ShopPlus(30, user_features=True), Following()
    observation, _ = world.reset(seed=0)
    for _ in range(20):
        actions = rule(observation)
        np.testing.assert_allclose(rule.expected, GreedyBelief().expected(Query.of(observation)))
        observation, *_ = world.step(actions)


@pytest.mark.parametrize(("user_features", "ceiling", "error"), [(False, 15.080, 0.014), (True, 16.410, 0.015)])
def test_the_greedy_belief_earns_its_ceiling(user_features: bool, ceiling: float, error: float) -> None:
    assert_mean(returns(ShopPlus(4_000, user_features=user_features), Following(), seed=3), ceiling, error)
