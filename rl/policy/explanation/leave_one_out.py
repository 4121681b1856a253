"""Explanations of any policy, by asking it again without each of the features.

A feature's contribution is the score less what it would be without the feature: a column of the dense features at 0,
an entry of the history or a feature by id left out, for all candidates alike. The item and the discrete state stay, so
they are in the base: what is expected without any feature. Where features matter together, the sum is not the score.

Source: Li, Monroe and Jurafsky, "Understanding neural networks through representation erasure" (2016), eq. 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np

from rl.policy.arrays import FloatArray, IntArray
from rl.policy.explanation.parts import TOP, Contribution, Explanation, ItemExplanation, Names, largest
from rl.policy.queries import AGE, ITEM, Query
from rl.policy.sparse import Sparse

Without: TypeAlias = tuple[str, FloatArray, Query]
"""A feature's name, its value for each candidate [A], and the query without it."""


def leave_one_out(
    expected: Callable[[Query], FloatArray],
    query: Query,
    positions: Sequence[int],
    names: Names,
    top: int = TOP,
) -> Explanation:
    """Explain the expected rewards of some candidates of one query.

    Args:
        expected: see `rl.policy.interface.Policy.expected`.
        query: B = 1.
        positions: candidates to be explained.
        names: of what the query has.
        top: contributions that are listed of each.
    """
    at = list(positions)
    scores = expected(query)[0, at]
    base = expected(_bare(query))[0, at]
    found = [list[Contribution]() for _ in at]
    for name, values, without in _without_each(query, names):
        parts = scores - expected(without)[0, at]
        for place, position in enumerate(at):
            found[place].append(Contribution((name,), float(values[position]), float(parts[place])))
    items = []
    for place, contributions in enumerate(found):
        listed, others = largest(contributions, top)
        items.append(ItemExplanation(float(scores[place]), float(base[place]), listed, others))
    return Explanation("leave_one_out", tuple(items))


def _bare(query: Query) -> Query:
    """Return a query of which no feature says anything."""
    sparse = query.sparse
    if sparse is not None:
        items = np.zeros_like(sparse.items)
        items[..., :1] = sparse.items[..., :1]
        values = np.where(items == 0, 0.0, sparse.item_values)
        sparse = Sparse(np.zeros_like(sparse.context), np.zeros_like(sparse.context_values), items, values)
    return replace(query, features=np.zeros_like(query.features), history=None, sparse=sparse)


def _without_each(query: Query, names: Names) -> Iterator[Without]:
    n_candidates = query.mask.shape[1]
    for column in np.flatnonzero(query.features[0].any(axis=0)).tolist():
        features = query.features.copy()
        features[..., column] = 0.0
        values = np.broadcast_to(query.features[0, :, column], n_candidates)
        yield names.column(column), values, replace(query, features=features)
    if query.history is not None:
        yield from _without_entries(query, query.history, names)
    if query.sparse is not None:
        yield from _without_ids(query, query.sparse, names)


def _without_entries(query: Query, history: IntArray, names: Names) -> Iterator[Without]:
    own = query.items[0]
    for place in np.flatnonzero(history[0, :, AGE] > 0).tolist():
        rest = np.delete(history, place, axis=1)  # the padding is on the left
        without = np.concatenate([np.zeros_like(history[:, :1]), rest], axis=1)
        values = (own == history[0, place, ITEM]).astype(np.float64)  # whether it is of the candidate itself
        yield names.entry(place), values, replace(query, history=without)


def _without_ids(query: Query, sparse: Sparse, names: Names) -> Iterator[Without]:
    n_candidates = query.mask.shape[1]
    for place in np.flatnonzero(sparse.context[0]).tolist():
        context, values = sparse.context.copy(), sparse.context_values.copy()
        value = np.full(n_candidates, values[0, place])
        context[0, place], values[0, place] = 0, 0.0
        without = replace(sparse, context=context, context_values=values)
        yield names.of_id(int(sparse.context[0, place])), value, replace(query, sparse=without)
    for feature in np.unique(sparse.items[0, :, 1:]).tolist():
        if feature == 0:
            continue
        there = sparse.items == feature
        there[..., 0] = False
        value = np.where(there, sparse.item_values, 0.0).sum(axis=2)[0]
        without = replace(
            sparse, items=np.where(there, 0, sparse.items), item_values=np.where(there, 0.0, sparse.item_values)
        )
        yield names.of_id(feature), value, replace(query, sparse=without)
