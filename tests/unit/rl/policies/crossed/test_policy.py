"""The bandit on described items: the joint posterior by hand, additivity, corrections, saving, what is explored."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from rl.policies.crossed.cells import Cells, Sightings
from rl.policies.crossed.crossing import (
    Crossing,
    blocks,
    weighted_context,
    weighted_items,
)
from rl.policies.crossed.feature_index import Dictionary
from rl.policies.crossed.policy import CrossedBandit
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError
from rl.policy.explorers import EpsilonGreedy, SquareCB
from rl.policy.queries import Impressions, Query
from tests.support.described import COFFEES, asked, coffee, untrained

N = 300


def observed(n: int = N, seed: int = 0) -> list[tuple[tuple[int, int, int], int, float]]:
    """Return cells of the coffee machine with a coffee and a noisy reward each."""
    rng = np.random.default_rng(seed)
    return [
        ((int(rng.integers(4)), int(rng.integers(3)), int(rng.integers(3))), int(rng.integers(4)), float(rng.normal()))
        for _ in range(n)
    ]


def shown(query: Query, position: int, reward: float) -> Impressions:
    assert query.sparse is not None
    at = np.array([[position]])
    return Impressions(
        np.zeros((1, 0)),
        np.zeros(1, np.int64),
        query.items[:, position],
        np.array([reward]),
        np.ones(1),
        query.sparse.take(at),
    )


def history(n: int = N) -> Impressions:
    return Impressions.concatenate([shown(coffee(*cell), item, reward) for cell, item, reward in observed(n)])


def learned(observations: Impressions, **settings: object) -> CrossedBandit:
    policy = untrained(**settings)
    policy.update(observations)
    return policy


def joint(questions: list[Query], with_cells: bool = True, centred: bool = False) -> FloatArray:
    """Return what ridge regression on crossed features and one more for each cell expects, [questions, 4]."""
    crossing, known, rows = Crossing(("::",), "", True), dict[int, int](), []

    def phi(query: Query, item: int) -> dict[int, float]:
        assert query.sparse is not None
        codes, values = crossing(query.sparse, weighted_context(query.sparse), weighted_items(query.sparse))
        row: dict[int, float] = {}
        for code, value in zip(codes[0, item].tolist(), values[0, item].tolist(), strict=True):
            row[code] = row.get(code, 0.0) + 0.5 * value
        cell = -1 - (4 * hash(tuple(sorted(query.sparse.context[0].tolist()))) + item)
        return row | ({cell: 0.5} if with_cells else {})

    data = observed()
    for cell, item, _ in data:
        rows.append(phi(coffee(*cell), item))
    wanted = [[phi(query, item) for item in range(4)] for query in questions]
    for row in [*rows, *(row for four in wanted for row in four)]:
        for code in row:
            known.setdefault(code, len(known))

    def dense(row: dict[int, float]) -> FloatArray:
        full = np.zeros(len(known))
        full[[known[code] for code in row]] = list(row.values())
        return full

    X, y = np.array([dense(row) for row in rows]), np.array([reward for _, _, reward in data])
    mean = y.mean() if centred else 0.0
    weights = np.linalg.solve(0.09 * np.eye(len(known)) + X.T @ X, X.T @ (y - mean))
    return np.array([[mean + dense(row) @ weights for row in four] for four in wanted])


QUESTIONS = [coffee(0, 0, 0), coffee(3, 2, 1), coffee(1, 0, 2)]


@pytest.mark.parametrize("noise_sd", [0.3, None])
@pytest.mark.parametrize("cell_sd", [0.5, 0.0])
def test_the_expected_rewards_are_those_of_one_regression_on_features_and_cells(
    cell_sd: float, noise_sd: float | None
) -> None:
    policy = learned(history(), cell_sd=cell_sd, noise_sd=noise_sd)
    found = np.concatenate([policy.expected(query) for query in QUESTIONS])
    np.testing.assert_allclose(found, joint(QUESTIONS, cell_sd > 0, centred=noise_sd is None), atol=1e-9)


def test_one_call_or_many_are_the_same_up_to_rounding() -> None:
    whole, parts, observations = learned(history()), untrained(), history()
    for start in range(0, N, 7):
        parts.update(observations.rows(slice(start, start + 7)))
    for name, array in whole.state_dict().items():
        np.testing.assert_allclose(parts.state_dict()[name], array, atol=1e-9, err_msg=name)


@pytest.mark.heavy
def test_a_full_dictionary_and_too_many_cells_are_the_same_in_one_call_or_many() -> None:
    small = {"max_features": 20, "max_cells": 10}
    whole, parts, observations = learned(history(), **small), untrained(**small), history()
    for start in range(N):
        parts.update(observations.rows(slice(start, start + 1)))
    assert len(whole.state_dict()["codes"]) == 20
    for name, array in whole.state_dict().items():
        np.testing.assert_allclose(parts.state_dict()[name], array, atol=1e-9, err_msg=name)


def test_a_corrected_reward_is_as_if_it_had_been_so_at_once() -> None:
    query = coffee(0, 1, 2)
    corrected = learned(history())
    corrected.update(shown(query, 2, 1.0))
    corrected.update(replace(shown(query, 2, 4.0), counts=np.zeros(1), squares=np.array([5.0**2 - 1.0**2])))
    right = learned(Impressions.concatenate([history(), shown(query, 2, 5.0)]))
    for question in [query, *QUESTIONS]:
        np.testing.assert_allclose(corrected.expected(question), right.expected(question), atol=1e-9)


def test_saved_and_loaded_it_answers_bit_for_bit_and_learns_on() -> None:
    policy, again = learned(history()), untrained()
    again.load_state_dict(policy.state_dict())
    for more in (False, True):
        if more:
            for each in (policy, again):
                each.update(history(40))
        for query in QUESTIONS:
            one, other = (p.distribution(query, np.random.default_rng(1)) for p in (policy, again))
            assert one.tolist() == other.tolist()
    for name, array in policy.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array, err_msg=name)


def test_a_policy_that_knows_nothing_can_be_saved_too() -> None:
    again = untrained()
    again.load_state_dict(untrained().state_dict())
    assert again.expected(QUESTIONS[0]).tolist() == [[0.0] * 4]


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("codes", np.zeros(99), "'codes'"),
        ("S", np.eye(3), "'S'"),
        ("S", None, "no array 'S'"),
        ("cell_entries", None, "no array 'cell_entries'"),
        ("cell_at", "beyond", "do not fit each other"),
        ("contexts", np.full((1, 2), 1e9), "'contexts'"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(name: str, value: object, message: str) -> None:
    state = learned(history()).state_dict()
    if value is None:
        del state[name]
    else:
        state[name] = state[name] + 10_000 if isinstance(value, str) else value  # type: ignore[assignment]
    with pytest.raises(PolicyError, match=message):
        untrained().load_state_dict(state)


def test_a_precision_that_is_none_is_refused() -> None:
    state = learned(history()).state_dict()
    state["S"] = -state["S"]
    with pytest.raises(PolicyError, match="not positive definite"):
        untrained().load_state_dict(state)


@pytest.mark.parametrize("explorer", [{"kind": "votes"}, EpsilonGreedy(epsilon=0.0), SquareCB(gamma=10.0)])
def test_probabilities_are_exact_and_every_item_has_its_uniform_share(explorer: object) -> None:
    policy = learned(history(), explorer=explorer, epsilon=0.2)
    p = policy.distribution(QUESTIONS[0], np.random.default_rng(0))
    assert p.sum() == pytest.approx(1.0, abs=1e-12)
    assert p.min() >= 0.2 / 4 - 1e-12
    slates = policy.decide(QUESTIONS[0], 4, np.random.default_rng(0))
    assert sorted(slates.positions[0].tolist()) == [0, 1, 2, 3]
    assert slates.propensities[0, -1] == pytest.approx(1.0)


def test_several_queries_at_once_are_answered_as_one_by_one() -> None:
    policy = learned(history())
    sparse = [query.sparse for query in QUESTIONS]
    whole = Query(
        np.zeros((3, 1, 0)),
        np.zeros(3, np.int64),
        np.zeros((3, 4), np.int64),
        np.ones((3, 4), np.bool_),
        sparse=type(sparse[0]).concatenate(sparse),  # type: ignore[arg-type, union-attr]
    )
    alone = np.concatenate([policy.expected(query) for query in QUESTIONS])
    np.testing.assert_allclose(policy.expected(whole), alone, atol=1e-12)


def spread(policy: CrossedBandit, query: Query) -> FloatArray:
    """Return the standard deviation of the samples that vote, [4]."""
    return np.asarray(policy.scores(query, np.random.default_rng(0))[0].std(axis=0))


@pytest.mark.heavy
def test_a_context_that_never_comes_again_is_not_explored_for_ever() -> None:
    def visit(number: int) -> Query:
        return asked(COFFEES, {"request": f"r{number}", "temperature": 10.0 + number % 7})

    policy = untrained(epsilon=0.0)
    for number in range(400):
        policy.update(shown(visit(number), number % 4, float(number % 4 == 2)))
    assert spread(policy, visit(1_000)).max() < 0.15
    p = policy.distribution(visit(1_001), np.random.default_rng(0))[0]
    assert p[2] > 0.95


def test_a_new_item_is_explored_where_items_come_again() -> None:
    policy = learned(history(), noise_sd=0.3)
    new = asked((*COFFEES[:3], "Espresso"), {"user": "Alice"})
    sd = spread(policy, new)
    assert sd[3] > 0.5
    assert sd[:3].max() < sd[3] - 0.1


def test_a_context_that_comes_again_is_explored_in_proportion() -> None:
    policy = learned(history(), max_features=512, noise_sd=0.3)
    for _ in range(3):
        policy.update(shown(coffee(0, 0, 0), 0, 0.0))
    assert spread(policy, coffee(0, 0, 0)).min() < 0.2  # shown often
    fresh = untrained()
    fresh.update(history(12))
    cell, item, _ = observed(12)[-1]
    sd = spread(fresh, coffee(*cell))
    assert np.delete(sd, item).min() > 0.2


def test_without_features_by_id_it_says_what_would_be_right() -> None:
    dense = Query(np.zeros((1, 1, 0)), np.zeros(1, np.int64), np.ones((1, 2), np.int64), np.ones((1, 2), np.bool_))
    with pytest.raises(PolicyError, match="FeaturesEncoder"):
        untrained().expected(dense)


def test_interactions_are_split_between_context_and_item() -> None:
    assert set(blocks(("::",))) == {(":", ":")}
    assert set(blocks(("ab",))) == {("a", "b"), ("b", "a")}
    assert set(blocks((":::",))) == {("::", ":"), (":", "::")}
    assert set(blocks(("uwi",))) == {("u", "iw"), ("w", "iu"), ("uw", "i"), ("i", "uw"), ("iu", "w"), ("iw", "u")}


@pytest.mark.heavy
def test_a_cubic_interaction_sees_what_pairs_do_not() -> None:
    """The reward is 1 where two properties of the context agree; the item only says what to be rewarded for."""
    rng = np.random.default_rng(0)

    def learn(interactions: tuple[str, ...]) -> FloatArray:
        policy = untrained(interactions=interactions, cell_sd=0.0)
        for _ in range(200):
            a, b = rng.integers(2, size=2)
            policy.update(shown(asked(("yes", "no"), {"a": f"{a}", "b": f"{b}"}), 0, float(a == b)))
        same, other = asked(("yes", "no"), {"a": "1", "b": "1"}), asked(("yes", "no"), {"a": "1", "b": "0"})
        return np.array([policy.expected(query)[0, 0] for query in (same, other)])

    pairs, triples = learn(("::",)), learn((":::",))
    assert abs(pairs[0] - pairs[1]) < 0.3
    assert triples[0] - triples[1] > 0.9


def test_letters_choose_namespaces_and_may_only_interact() -> None:
    query = asked(("a",), {"user": {"x": "1"}, "weather": {"y": "2"}}, ({"taste": {"z": "3"}},))
    assert query.sparse is not None
    values = weighted_context(query.sparse), weighted_items(query.sparse)

    def used(*settings: object) -> int:
        _, found = Crossing(*settings)(query.sparse, *values)  # type: ignore[arg-type]
        return int(np.count_nonzero(found[0, 0]))

    assert used((), "", True) == 1 + 2 + 2
    assert used((), "", False) == 4
    assert used((), "ut", True) == 1 + 1 + 1
    assert used(("ut",), "", True) == 5 + 1
    assert used(("::",), "", True) == 5 + 4
    assert used(("uwt",), "", True) == 5 + 1


def _played(policy: CrossedBandit, ask: Callable[[str, str, str], Query]) -> list[FloatArray]:
    """Learn the same rewards of the same contexts; return what is expected and drawn of each afterwards."""
    rng = np.random.default_rng(0)
    contexts = [tuple(f"{value}" for value in rng.integers(3, size=3)) for _ in range(60)]
    for a, b, c in contexts:
        policy.update(shown(ask(a, b, c), int(rng.integers(2)), float(rng.normal())))
    asked_of = [ask(*context) for context in contexts[:9]]
    draws = np.random.default_rng(1)
    return [of for query in asked_of for of in (policy.expected(query), policy.scores(query, draws))]


@pytest.mark.parametrize("setting", [{"ignore": "A"}, {"keep": "Bbi"}, {"keep": "bB", "ignore": "b"}])
def test_what_is_ignored_is_as_if_it_had_never_been_said(setting: dict[str, str]) -> None:
    """Of context and items, linear, crossed, in the table of whole contexts, and in what counts as new."""
    items = tuple({"b": {"of": name}} for name in ("x", "y"))
    more = tuple({"b": {"of": name}, "A": {"n": 3, "name": name}} for name in ("x", "y"))

    def said(a: str, b: str, c: str) -> Query:
        return asked(("1", "2"), {"Away": {"is": a, "c": c, "n": 7}, "B": {"is": b}}, more)

    def unsaid(a: str, b: str, c: str) -> Query:
        return asked(("1", "2"), {"B": {"is": b}}, items)

    without_ids = "i" not in setting.get("keep", "i")
    plain = untrained(ignore="i") if without_ids else untrained()
    for one, other in zip(_played(untrained(**setting), said), _played(plain, unsaid), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-12)


def test_without_its_id_an_item_is_what_is_said_of_it() -> None:
    def ask(ids: tuple[str, ...]) -> Query:
        return asked(ids, {"user": "u"}, ({"taste": {"is": "sweet"}}, {"taste": {"is": "salty"}}))

    policy, named = untrained(ignore="i", noise_sd=0.3), untrained(noise_sd=0.3)
    for learner in (policy, named):
        for _ in range(20):
            learner.update(shown(ask(("a", "b")), 0, 1.0))
    assert np.array_equal(policy.expected(ask(("a", "b"))), policy.expected(ask(("never", "seen"))))
    assert not np.array_equal(named.expected(ask(("a", "b"))), named.expected(ask(("never", "seen"))))
    assert policy.expected(ask(("a", "b")))[0] == pytest.approx([1.0, 0.0], abs=0.5)


def test_a_dictionary_grows_in_order_and_then_shares_places() -> None:
    found = Dictionary(3, 64)
    found.add(np.array([9, 4, 9]))
    assert found.known == [9, 4]
    assert [array.tolist() for array in found.find(np.array([4, 5]))] == [[1, 0], [1, 0]]
    found.add(np.array([7, 8]))
    assert found.known == [9, 4, 7]
    places, signs = found.find(np.array([9, 8, 10]))
    assert places.tolist() == [0, 8 % 3, 10 % 3]
    assert signs.tolist() == [1, 1, -1]


def test_cells_seen_once_give_way_and_those_seen_again_stay() -> None:
    cells = Cells(2)
    for key in (1, 1, 2, 3, 4):
        cells.observe(key, 1.0)
    assert [key for key in (1, 2, 3, 4) if cells.get(key)] == [1, 3, 4]
    assert cells.observe(1, 1.0).n == 3


def test_a_cell_of_two_observations_in_one_has_been_seen_again() -> None:
    cells = Cells(2)
    cells.observe(1, 10.0)
    for key in (2, 3, 4):
        cells.observe(key, 1.25)
    assert [key for key in (1, 2, 3, 4) if cells.get(key)] == [1, 3, 4]
    assert cells.observe(3, 1.25).n == 2.5


def test_recurrence_is_the_share_of_what_came_again() -> None:
    seen = Sightings(16)
    assert seen.recurrence() == 1.0
    seen.add(np.array([1, 2, 3, 3]))
    assert seen.recurrence() == (1 + 1) / (3 + 1)
    assert seen.of(np.array([3, 4])).tolist() == [2, 0]
