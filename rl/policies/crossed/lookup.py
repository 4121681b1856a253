"""Crossed features of queries, found in the dictionary: multiplied out where there are few, else what items share once.

Axis names: B queries, A candidates, D features.
"""

from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_array

from rl.policies.crossed.crossing import MOST_CROSSED, TOO_MANY, Factors, to_codes
from rl.policies.crossed.feature_index import Dictionary
from rl.policies.crossed.keys import dense
from rl.policy.arrays import FloatArray
from rl.policy.errors import PolicyError

_AT_ONCE = 1 << 22  # crossed features
_MULTIPLIED = 1 << 14  # crossed features of a query's items, up to which it is faster not to look for what they share


def look_up(block: Factors, dictionary: Dictionary) -> Iterator[tuple[slice, FloatArray, FloatArray]]:
    """Yield some of the B after others: which, their φ in one block of features, [.., A, D], and its squares, [.., A].

    The squares are those of the features that the dictionary has.

    Raises:
        PolicyError: there are too many different features of one query.
    """
    count, a, q = block.items.shape
    each = max(1, block.context.shape[1] * a * q)  # crossed features of a query
    few = each <= _MULTIPLIED
    step = _AT_ONCE // each if few else 1
    for rows in (slice(start, start + step) for start in range(0, count, step)):
        some = block.rows(rows)
        yield rows, *(_multiply(some, dictionary) if few else _share(some, dictionary))


def _multiply(block: Factors, dictionary: Dictionary) -> tuple[FloatArray, FloatArray]:
    codes, values = block.multiply()
    places, signs = dictionary.find(codes)
    values = values * signs
    return dense(places, values, len(dictionary)), (values**2).sum(axis=2)


def _share(block: Factors, dictionary: Dictionary) -> tuple[FloatArray, FloatArray]:
    """Return the same of one query: items share features, each of which is looked up once, in less memory and time."""
    context, context_sums, items = block.context[0], block.context_sums[0], block.items[0]
    shared, at = np.unique(block.item_sums[0], return_inverse=True)  # [U], [A, its features]
    if len(context_sums) * len(shared) > MOST_CROSSED:
        said = f"{len(context_sums)} features of the context and {len(shared)} of {len(items)} items"
        raise PolicyError(f"{said}, or products of them, {TOO_MANY}")
    rows = np.arange(len(items) + 1) * items.shape[1]
    weights = csr_array((items.ravel(), at.ravel(), rows), shape=(len(items), len(shared)))
    known, squares = np.empty((len(shared), len(dictionary))), np.empty(len(shared))
    step = max(1, _AT_ONCE // max(1, len(context_sums)))
    for part in (slice(start, start + step) for start in range(0, len(shared), step)):
        places, signs = dictionary.find(to_codes(context_sums + shared[part, None]))
        values = context * signs  # [U, the context's features]
        known[part], squares[part] = dense(places, values, len(dictionary)), (values**2).sum(axis=1)
    return (weights @ known)[None], (items**2 * squares[at]).sum(axis=1)[None]
