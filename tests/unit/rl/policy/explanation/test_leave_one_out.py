"""Leaving one out: known parts of functions of two features, of a history and of features by id."""

import numpy as np
import pytest

from rl.policy.arrays import FloatArray
from rl.policy.explanation.leave_one_out import leave_one_out
from rl.policy.explanation.parts import Names
from rl.policy.queries import AGE, Query
from rl.policy.sparse import Sparse


def ask(features: list[float], history: list[list[int]] | None = None, sparse: Sparse | None = None) -> Query:
    entries = None if history is None else np.array([history])
    items = np.array([[1, 2]])
    return Query(np.array([[features]]), np.zeros(1, np.int64), items, np.ones((1, 2), np.bool_), entries, sparse)


def test_a_product_is_counted_twice_and_the_error_says_so() -> None:
    def expected(query: Query) -> FloatArray:
        x, y = np.moveaxis(query.features[:, 0], 1, 0)
        expected: FloatArray = 1.0 + (x + x * y)[:, None] * np.array([1.0, 10.0])
        return expected

    found = leave_one_out(expected, ask([2.0, 3.0]), [1, 0], Names(("x", "y")))
    first = found.items[0]
    assert (found.method, first.score, first.base) == ("leave_one_out", 81.0, 1.0)
    assert [(one.name, one.value, one.contribution) for one in first.contributions] == [("x", 2, 80), ("y", 3, 60)]
    assert first.error == 60.0  # 1 + 80 + 60 - 81: what belongs to both is in both
    assert found.items[1].error == 6.0


def test_of_many_the_largest_are_listed_and_the_others_summed_up() -> None:
    weights = np.array([1.0, -3.0, 2.0])
    found = leave_one_out(
        lambda query: np.broadcast_to(query.features[:, 0] @ weights[:, None], (1, 2)),
        ask([1.0, 1.0, 1.0]),
        [0],
        Names(),
        2,
    )
    [item] = found.items
    assert [(one.name, one.contribution) for one in item.contributions] == [("feature 1", -3.0), ("feature 2", 2.0)]
    assert (item.others, item.error) == (1.0, 0.0)


def test_entries_of_a_history_are_left_out_one_by_one() -> None:
    def expected(query: Query) -> FloatArray:
        there = np.zeros((1, 1)) if query.history is None else query.history[:, :, AGE]
        there = np.where(there > 0, 1.0 / np.maximum(there, 1), 0.0).sum(axis=1)
        return np.repeat(there[:, None], 2, axis=1)

    history = [[0, 0, 0], [1, 3, 4], [2, 1, 1]]
    [item] = leave_one_out(expected, ask([], history), [0], Names(history=("padding", "old", "new"))).items
    assert [(one.name, one.value, one.contribution) for one in item.contributions] == [
        ("new", 0, 1.0),
        ("old", 1, 0.25),
    ]
    assert item.error == 0.0


def test_features_by_id_are_left_out_of_the_context_and_of_all_items() -> None:
    sparse = Sparse(np.array([[11, 12]]), np.array([[1.0, 2.0]]), np.array([[[1, 5], [2, 5]]]), np.ones((1, 2, 2)))

    def expected(query: Query) -> FloatArray:
        assert query.sparse is not None
        of_items: FloatArray = (query.sparse.items * query.sparse.item_values).sum(axis=2)
        of_items += (query.sparse.context * query.sparse.context_values).sum()
        return of_items

    [item] = leave_one_out(expected, ask([], sparse=sparse), [1], Names(ids={11: "a", 12: "b", 5: "c"})).items
    assert [(one.name, one.contribution) for one in item.contributions] == [("b", 24.0), ("a", 11.0), ("c", 5.0)]
    assert (item.base, item.score) == (2.0, 42.0)
    assert item.error == pytest.approx(0.0)
