"""Slates under rules: every possible slate and its probability by enumeration, and what is drawn against them."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations, product
from math import prod

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chisquare

from data.schema import Rules
from rl.policies.greedy import Greedy
from rl.policies.slates.config import SlateNetworkConfig
from rl.policies.slates.network import SlateNetwork
from rl.policies.slates.policy import SlatePolicy
from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.errors import PolicyError
from rl.policy.explorers import (
    EpsilonGreedy,
    Softmax,
    SquareCB,
    Uniform,
    Votes,
)
from rl.policy.interface import Policy
from rl.policy.queries import Impressions, Query
from rl.policy.rules import rules_constraint
from tests.support.clocks import NOON
from tests.support.shops import POLICIES, small_market, untrained

Exploration = Uniform | EpsilonGreedy | Softmax | SquareCB | Votes
Slate = tuple[str, ...]

ITEMS = "abcde"
SAMPLES = np.random.default_rng(0).standard_normal((7, len(ITEMS)))  # [S, A]
EXPLORERS: list[Exploration] = [
    EpsilonGreedy(epsilon=0.3),
    Softmax(temperature=0.7),
    SquareCB(gamma=3),
    Votes(floor=0.1),
]
DRAWS = 20_000

CATEGORIES: dict[str, tuple[str, ...]] = {"a": ("red",), "b": ("red", "big"), "c": ("big",), "d": ("red",)}
RULES = {
    "nothing": Rules(),
    "pin": Rules(pins={"c": 1}),
    "pins": Rules(pins={"c": 2, "a": 0}),
    "boost": Rules(boosts={"a": 1.0, "e": -0.5}),
    "cap": Rules(caps={"red": 1}, categories=CATEGORIES),
    "caps": Rules(caps={"red": 1, "big": 1}, categories=CATEGORIES),
    "all": Rules(pins={"b": 1}, boosts={"d": 0.5}, caps={"red": 2}, categories=CATEGORIES),
}


class Fixed(Policy):
    """Scores [S, A] that are the same for every query; of fewer candidates the first."""

    def __init__(self, explorer: Exploration, scores: FloatArray = SAMPLES) -> None:
        self.explorer = explorer
        self._scores = scores

    def expected(self, query: Query) -> FloatArray:
        expected: FloatArray = self.scores(query, np.random.default_rng(0)).mean(axis=1)
        return expected

    def scores(self, query: Query, rng: np.random.Generator) -> FloatArray:
        scores = self._scores[:, : query.mask.shape[1]]
        return np.broadcast_to(scores, (len(query), *scores.shape))

    def update(self, observations: Impressions) -> None: ...

    def state_dict(self) -> dict[str, NDArray[np.float64]]:
        return {}

    def load_state_dict(self, state: dict[str, NDArray[np.float64]]) -> None: ...


def queries(batch: int, n_items: int = len(ITEMS)) -> Query:
    items = np.tile(np.arange(1, n_items + 1), (batch, 1))
    return Query.of({"items": items, "mask": np.ones_like(items)})


def may_follow(before: Slate, items: Sequence[str], rules: Rules) -> set[str]:
    """Say by the words of the rules what may be shown next in a list."""
    left = set(items) - set(before)
    waiting = sorted(left & rules.pins.keys(), key=rules.pins.__getitem__)
    if waiting and rules.pins[waiting[0]] == len(before):
        return {waiting[0]}

    def fits(item: str) -> bool:
        return all(
            sum(category in rules.categories.get(other, ()) for other in {*before, *rules.pins, item}) <= cap
            for category, cap in rules.caps.items()
            if category in rules.categories.get(item, ())
        )

    return {item for item in left - rules.pins.keys() if fits(item)} or set(waiting[:1])


def enumerate_slates(
    explorer: Exploration, rules: Rules, k: int, before: Slate = (), p: float = 1.0
) -> Iterator[tuple[Slate, float]]:
    """Yield every slate that is possible with its probability; the explorer sees only what may be chosen."""
    allowed = sorted(may_follow(before, ITEMS, rules))
    if len(before) == k or not allowed:
        yield before, p
        return
    boosts = np.array([rules.boosts.get(item, 0.0) for item in allowed])
    scores = SAMPLES[:, [ITEMS.index(item) for item in allowed]] + boosts
    for item, of_item in zip(
        allowed, explorer.probabilities(scores[None], np.ones((1, len(allowed)), bool))[0], strict=True
    ):
        if of_item:
            yield from enumerate_slates(explorer, rules, k, (*before, item), p * of_item)


def named(positions: IntArray, items: Sequence[str] = ITEMS) -> Slate:
    return tuple(items[position] for position in positions if position >= 0)


@pytest.mark.heavy
@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("explorer", EXPLORERS, ids=lambda explorer: explorer.kind)
def test_slates_are_drawn_with_the_probabilities_that_are_logged(explorer: Exploration, name: str, k: int) -> None:
    possible = dict(enumerate_slates(explorer, RULES[name], k))
    assert sum(possible.values()) == pytest.approx(1.0)
    slates = Fixed(explorer).decide(queries(DRAWS), k, np.random.default_rng(k), rules_constraint(ITEMS, RULES[name]))
    rows, which, times = np.unique(slates.positions, axis=0, return_inverse=True, return_counts=True)
    drawn = [named(row) for row in rows]
    logged = slates.propensities.prod(axis=1)
    np.testing.assert_allclose(logged, np.array([possible[slate] for slate in drawn])[which.ravel()])
    counts = Counter(dict(zip(drawn, times.tolist(), strict=True)))
    often = [slate for slate, p in possible.items() if p * DRAWS >= 5]
    rest = DRAWS - sum(counts[slate] for slate in often)
    observed = [counts[slate] for slate in often] + [rest]
    expected = [possible[slate] * DRAWS for slate in often]
    expected.append(DRAWS - sum(expected))
    if expected[-1] < 5:  # too few for a cell of their own
        assert rest <= 20
        observed, expected = observed[:-1], [count * sum(observed[:-1]) / sum(expected[:-1]) for count in expected[:-1]]
    assert len(observed) == 1 or chisquare(observed, expected).pvalue > 1e-4
    # E[1/p] is the number of slates that are possible
    spread = np.sqrt(max(0.0, sum(1 / p for p in possible.values()) - len(possible) ** 2) / DRAWS)
    assert abs((1 / logged).mean() - len(possible)) <= 5 * spread + 1e-9


def test_an_epsilon_greedy_slate_by_hand() -> None:
    """Best first d, a, b, c; b is pinned to the second slot, and of d and a only one fits the cap."""
    rules = Rules(pins={"b": 1}, caps={"red": 1}, categories={"a": ("red",), "d": ("red",)})
    scores = np.array([[3.0, 2.0, 1.0, 4.0]])
    policy, constraint = Fixed(EpsilonGreedy(epsilon=0.3), scores), rules_constraint("abcd", rules)
    slates = policy.decide(queries(2_000, 4), 4, np.random.default_rng(0), constraint)
    p = {named(row, "abcd"): tuple(of) for row, of in zip(slates.positions, slates.propensities, strict=True)}
    # d .7 + .1, a and c .1 each; then b; then what is left: c, or where c came first d .85, a .15
    by_hand: dict[Slate, tuple[float, ...]] = {
        ("d", "b", "c"): (0.8, 1.0, 1.0, 1.0),
        ("a", "b", "c"): (0.1, 1.0, 1.0, 1.0),
        ("c", "b", "d"): (0.1, 1.0, 0.85, 1.0),
        ("c", "b", "a"): (0.1, 1.0, 0.15, 1.0),
    }
    assert set(p) == set(by_hand)
    for slate, propensities in p.items():
        assert propensities == pytest.approx(by_hand[slate][: len(propensities)])
    assert slates.first is not None
    assert slates.first[0] == pytest.approx([0.1, 0.0, 0.1, 0.8])


def test_boosts_are_added_to_every_sample_and_to_the_expectation() -> None:
    """Without the boost a wins all five votes, with it two of them."""
    samples = np.array([[1.0, 0.0, 0.1], [1.0, 0.0, 0.1], [1.0, 0.0, 0.6], [1.0, 0.0, 0.7], [1.0, 0.0, 0.8]])
    constraint = rules_constraint("abc", Rules(boosts={"c": 0.5, "unknown": 9.0}))
    slates = Fixed(Votes(floor=0.0), samples).decide(queries(500, 3), 1, np.random.default_rng(0), constraint)
    assert slates.first is not None
    assert slates.first[0] == pytest.approx([0.4, 0.0, 0.6])
    np.testing.assert_allclose(slates.scores, np.where(slates.positions == 2, 0.46 + 0.5, 1.0))


def test_pins_come_forward_where_nothing_else_is_left() -> None:
    rules = Rules(pins={"c": 4, "b": 9}, caps={"red": 1}, categories={"a": ("red",), "d": ("red",)})
    slates = Fixed(Uniform()).decide(queries(200, 4), 10, np.random.default_rng(0), rules_constraint("abcd", rules))
    assert {named(row, "abcd") for row in slates.positions} == {("a", "c", "b"), ("d", "c", "b")}
    assert (slates.propensities == [0.5, 1.0, 1.0]).all()
    short = Fixed(Uniform()).decide(queries(200, 4), 1, np.random.default_rng(0), rules_constraint("abcd", rules))
    assert {named(row, "abcd") for row in short.positions} == {("a",), ("d",)}


def test_pinned_items_are_shown_whatever_their_caps_and_count_beforehand() -> None:
    categories = {item: ("red",) for item in "abcd"}
    rules = Rules(pins={"c": 1, "d": 2}, caps={"red": 1}, categories=categories)
    slates = Fixed(Uniform()).decide(queries(100), 5, np.random.default_rng(0), rules_constraint(ITEMS, rules))
    assert {named(row) for row in slates.positions} == {("e", "c", "d")}


def test_where_nothing_is_allowed_the_slate_ends() -> None:
    """Of one query the slate is as short as it is; of several it is filled up with what cannot be mistaken."""
    nothing = rules_constraint("ab", Rules(caps={"red": 0}, categories={"a": ("red",), "b": ("red",)}))
    empty = Fixed(Uniform()).decide(queries(1, 2), 3, np.random.default_rng(0), nothing)
    assert empty.positions.shape == empty.propensities.shape == empty.scores.shape == (1, 0)
    # b is in two capped categories: first, it ends the slate
    both = rules_constraint("abc", Rules(caps={"red": 1, "big": 1}, categories=CATEGORIES))
    slates = Fixed(Uniform()).decide(queries(300, 3), 3, np.random.default_rng(0), both)
    assert {named(row, "abc") for row in slates.positions} == {("b",), ("a", "c"), ("c", "a")}
    ended = slates.positions[:, 1] == -1
    assert (slates.propensities[ended, 1] == 1.0).all()
    assert not slates.scores[ended, 1].any()
    with pytest.raises(PolicyError, match="got k=0 with 3"):
        Fixed(Uniform()).decide(queries(1, 3), 0, np.random.default_rng(0), both)


def test_a_choice_for_one_slot_leaves_the_later_ones_theirs() -> None:
    """The last slot takes only a: the others never do. Then two slots want a, and one of them is the first."""
    last = rules_constraint("abc", Rules(), exclusions=[(), ("c",), ("b", "c")])
    slates = Fixed(Uniform()).decide(queries(100, 3), 3, np.random.default_rng(0), last)
    assert {named(row, "abc") for row in slates.positions} == {("c", "b", "a")}
    both = rules_constraint("abc", Rules(), exclusions=[("b", "c"), (), ("b", "c"), ()])
    slates = Fixed(Uniform()).decide(queries(100, 3), 4, np.random.default_rng(0), both)
    assert {named(row, "abc") for row in slates.positions} == {("a", "b"), ("a", "c")}


exclusions_of_five = st.lists(st.sets(st.sampled_from(ITEMS), max_size=5), min_size=1, max_size=4)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(exclusions_of_five)
def test_slots_are_filled_as_far_as_they_can_be(exclusions: list[set[str]]) -> None:
    slates = Fixed(Uniform()).decide(
        queries(60), len(exclusions), np.random.default_rng(0), rules_constraint(ITEMS, Rules(), exclusions)
    )

    def fits(slate: Slate) -> bool:
        return all(item not in excluded for item, excluded in zip(slate, exclusions, strict=False))

    longest = next(n for n in range(len(exclusions), -1, -1) if any(map(fits, permutations(ITEMS, n))))
    possible = {slate for slate in permutations(ITEMS, longest) if fits(slate)}
    drawn = {named(row) for row in slates.positions}
    assert drawn <= possible
    assert len(drawn) == len(possible) or len(possible) > 5


@pytest.mark.heavy
@settings(max_examples=150, deadline=None)
@given(
    pins=st.dictionaries(st.sampled_from(ITEMS), st.integers(0, 6), max_size=4).filter(
        lambda pins: len({*pins.values()}) == len(pins)
    ),
    boosts=st.dictionaries(st.sampled_from(ITEMS), st.floats(-3, 3), max_size=3),
    caps=st.dictionaries(st.sampled_from(["red", "big"]), st.integers(0, 3)),
    k=st.integers(1, 7),
    explorer=st.sampled_from(EXPLORERS),
    seed=st.integers(0, 2**32),
)
def test_every_slate_keeps_its_rules(
    pins: dict[str, int], boosts: dict[str, float], caps: dict[str, int], k: int, explorer: Exploration, seed: int
) -> None:
    rules = Rules(pins=pins, boosts=boosts, caps=caps, categories=CATEGORIES)
    constraint = rules_constraint(ITEMS, rules)
    assert (constraint is None) == (not pins and not boosts and not caps)
    slates = Fixed(explorer).decide(queries(1), min(k, 5), np.random.default_rng(seed), constraint)
    slate = named(slates.positions[0])
    assert len(set(slate)) == len(slate) == slates.positions.shape[1]
    assert ((slates.propensities > 0) & (slates.propensities <= 1)).all()
    for place, item in enumerate(slate):
        assert item in may_follow(slate[:place], ITEMS, rules)
        if item in pins:
            assert place <= pins[item]
            assert slates.propensities[0, place] == 1.0
    assert len(slate) == min(k, 5) or not may_follow(slate, ITEMS, rules)
    probability = prod(slates.propensities[0].tolist())
    assert probability == pytest.approx(dict(enumerate_slates(explorer, rules, min(k, 5)))[slate])


class _Anything:
    bias = None

    def allowed(self, left: BoolArray, slot: int, chosen: IntArray) -> BoolArray:
        return left


def slate_policy() -> Policy:
    torch.manual_seed(0)
    network = SlateNetwork(SlateNetworkConfig(width=8, value_scale=20.0), len(ITEMS), 2).eval()
    return SlatePolicy(network, EpsilonGreedy(epsilon=0.3), 2)


def everyone() -> dict[str, tuple[Policy, Query]]:
    """Return every policy that ships, with a query of five candidates; the slate network is asked for 3, not its 2."""
    encoder = small_market()[1]
    policies = {name: untrained(encoder, name).policy for name in POLICIES}
    policies["greedy"] = Greedy(policies["linear_thompson"])
    of_five = {name: np.ones((1, 5)) for name in ("items", "mask")} | {"features": np.zeros((1, 1, 2))}
    asked = encoder.joint(encoder.user_positions(["12000"]), [NOON], np.array([[1, 2, 3, 4, 5]]))
    of_shop = Query.of({"items": np.array([[1, 2, 3, 4, 5]]), "mask": np.ones((1, 5)), "features": asked})
    of_five["items"] = np.array([[1, 2, 3, 4, 5]])
    return {name: (policy, of_shop) for name, policy in policies.items()} | {
        "slate": (slate_policy(), Query.of(of_five))
    }


@pytest.mark.parametrize("name", [*POLICIES, "greedy", "slate"])
def test_every_policy_obeys(name: str) -> None:
    policy, query = everyone()[name]
    rules = Rules(pins={"c": 1}, caps={"red": 1}, categories=CATEGORIES, boosts={"e": 1e6})
    constraint = rules_constraint(ITEMS, rules)
    for seed in range(30):
        slates = policy.decide(query, 3, np.random.default_rng(seed), constraint)
        slate = named(slates.positions[0])
        assert slate[1] == "c"
        assert sum("red" in CATEGORIES.get(item, ()) for item in slate) <= 1
        if "e" in slate:
            assert slates.scores[0, slate.index("e")] > 1e5
        if name in ("greedy", "popularity", "linear_thompson"):
            assert slate[0] == "e" or slates.propensities[0, 0] < 0.1


@pytest.mark.parametrize("name", [*POLICIES, "greedy", "slate"])
def test_a_constraint_that_allows_anything_changes_nothing(name: str) -> None:
    policy, query = everyone()[name]
    for seed, k in product(range(10), (1, 3, 5)):
        free = policy.decide(query, k, np.random.default_rng(seed))
        same = policy.decide(query, k, np.random.default_rng(seed), _Anything())
        for one, other in ((getattr(free, field), getattr(same, field)) for field in free.__slots__):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("rules", "exclusions", "message"),
    [
        (Rules(pins={"z": 0}), None, "'z' is pinned to slot 0 and is no candidate"),
        (Rules(pins={"a": -1}), None, "slots count from 0, item 'a' is pinned to -1"),
        (Rules(pins={"a": 1, "b": 1}), None, "'a' and 'b' are both pinned to slot 1"),
        (Rules(pins={"a": 0}), [("a",)], "'a' is pinned to slot 0, which excludes it"),
        (Rules(caps={"red": -2}), None, "at least 0 items, got {'red': -2}"),
    ],
)
def test_rules_that_cannot_be_kept_are_refused(rules: Rules, exclusions: list[Slate] | None, message: str) -> None:
    with pytest.raises(PolicyError, match=message):
        rules_constraint(ITEMS, rules, exclusions)


def test_no_rules_are_no_constraint() -> None:
    assert rules_constraint(ITEMS, Rules(categories=CATEGORIES), [(), ()]) is None
