"""Keys of what is counted of contexts and items, and of cells. Axis names as in `rl.policies.crossed.crossing`."""

import numpy as np

from rl.encoders.json_features import categorical
from rl.policies.crossed.crossing import Mixed, mix_ids, mixed_items, to_codes
from rl.policy.arrays import BoolArray, FloatArray, IntArray
from rl.policy.sparse import Sparse

SEEN = 1 << 18
"""Codes of contexts and of features, for counting."""


def dense(places: IntArray, values: FloatArray, size: int) -> FloatArray:
    """Add up values [..., K] by place, [..., D]."""
    if not size or not places.size:
        return np.zeros((*places.shape[:-1], size))
    rows = places.reshape(-1, places.shape[-1])
    flat = rows + size * np.arange(len(rows))[:, None]
    total: FloatArray = np.bincount(flat.ravel(), values.ravel(), minlength=size * len(rows)).astype(np.float64)
    return total.reshape(*places.shape[:-1], size)


def keys_of(sparse: Sparse) -> tuple[Mixed, IntArray]:
    """Return sums of the contexts' categories [B], and keys of cells [B, A]; -1 where a context has no category."""
    category: BoolArray = categorical(sparse.context)
    contexts = np.where(category, mix_ids(sparse.context), np.uint64(0)).sum(axis=1, dtype=np.uint64)
    keys = to_codes((contexts[:, None] << np.uint64(1)) + _identities(sparse.items), 1 << 52)
    return contexts, np.where(np.logical_or.reduce(category, axis=1)[:, None], keys, -1)


def _identities(items: IntArray) -> Mixed:
    """Return what tells items from each other, [B, A]: their ids, or where these are left out all their categories."""
    own = items[..., 0]
    if own.all():
        return mixed_items(own)
    categories: Mixed = np.where(categorical(items), mixed_items(items), np.uint64(0)).sum(axis=2, dtype=np.uint64)
    return categories


def list_codes(features: Mixed, ids: IntArray) -> IntArray:
    """Return codes below `SEEN` of the mixed features whose ids are none of padding."""
    return to_codes(features[ids != 0], SEEN)
