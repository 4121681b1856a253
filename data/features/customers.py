"""Customers and items as numbers, fitted once on ingested events and the same offline and online.

`fit` turns purchase events into an `Encoder`: the catalogue, item and customer vectors from the factors of the
customer-by-item matrix, what each customer bought before, and RFM segments. An encoder is a frozen snapshot with a
version; a customer or an item that it does not know is encoded as zeros, never refused.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property, lru_cache

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_array
from scipy.sparse.linalg import norm as sparse_norm
from scipy.sparse.linalg import svds

from data.errors import DataError
from data.features.purchases import purchase_lines
from data.features.rfm import (
    N_STATES,
    SEGMENTS,
    fit_rfm,
    measure,
    state_codes,
)

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SEASONS = 4  # sine and cosine of the year's first two harmonics
_SEASON_NAMES = ("sine of the year", "cosine of the year", "sine of the half-year", "cosine of the half-year")
_BASICS = ("constant", "popularity", "price")
_ITEM_BASICS = len(_BASICS)
_PAIR = 2  # bought before: whether, and how often
_SEGMENT_COLUMNS = np.eye(len(SEGMENTS)).repeat(
    _ITEM_BASICS, axis=1
)  # for each segment the item basics that are its own


class EncoderConfig(BaseModel):
    """How events become features."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    rank: int = Field(default=8, ge=1, description="length of item and customer vectors")
    max_items: int = Field(default=300, ge=2, description="the catalogue: this many of the best-selling items")


@dataclass(frozen=True)
class Encoder:
    """A snapshot of what is known of customers and items; position 0 is the unknown one in every array.

    With N items, U customers, rank R and P pairs of a customer and an item that they bought:
    """

    items: tuple[str, ...]
    """N item ids; the item at index i has position i + 1."""
    users: tuple[str, ...]
    """U customer ids, likewise."""
    popularity: FloatArray
    """[N + 1] number of purchase lines in the fitted events."""
    item_basics: FloatArray
    """[N + 1, 3] constant 1, standardised log popularity, standardised log price, 0 where there is none; an unknown
    item's are 1, 0, 0."""
    item_vectors: FloatArray
    """[N + 1, R] factors, columns of mean square 1."""
    user_vectors: FloatArray
    """[U + 1, R] direction of what the customer bought, of length √R."""
    user_segments: IntArray
    """[U + 1] RFM segment codes."""
    pair_keys: IntArray
    """[P] user position * (N + 1) + item position of each pair, ascending."""
    pair_counts: FloatArray
    """[P] how often the customer bought the item."""

    @cached_property
    def version(self) -> str:
        """Digest of the content: equal versions encode alike."""
        digest = hashlib.sha256(json.dumps([self.items, self.users]).encode())
        for array in self.arrays().values():
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()[:12]

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Return the arrays by field name: with the ids they are the whole encoder."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("items", "users")}

    @property
    def n_features(self) -> int:
        """F: length of the joint features."""
        rank: int = self.item_vectors.shape[1]
        return _ITEM_BASICS * len(SEGMENTS) + (2 + _SEASONS) * rank + _PAIR

    @property
    def feature_names(self) -> tuple[str, ...]:
        """[F] what the joint features are called."""
        factors = [f"item factor {factor}" for factor in range(1, self.item_vectors.shape[1] + 1)]
        basics = [f"segment {segment} × {basic}" for segment in SEGMENTS for basic in _BASICS]
        products = [f"{of} × {factor}" for of in ("customer", *_SEASON_NAMES) for factor in factors]
        return (*basics, *factors, *products, "bought before", "times bought")

    @property
    def n_states(self) -> int:
        """Number of discrete context states."""
        return N_STATES

    @cached_property
    def _item_positions(self) -> dict[str, int]:
        return {item: i for i, item in enumerate(self.items, start=1)}

    @cached_property
    def _user_positions(self) -> dict[str | None, int]:
        return {user: i for i, user in enumerate(self.users, start=1)}

    def item_positions(self, items: Iterable[str]) -> IntArray:
        """Return the catalogue positions of item ids, 0 where unknown."""
        return np.array([self._item_positions.get(item, 0) for item in items], dtype=np.int64)

    def user_positions(self, users: Iterable[str | None]) -> IntArray:
        """Return the positions of customer ids, 0 where unknown or None."""
        return np.array([self._user_positions.get(user, 0) for user in users], dtype=np.int64)

    def states(self, users: IntArray, times: Sequence[datetime]) -> IntArray:
        """Return the discrete state of each (customer position, time), [B]; see `data.features.rfm`."""
        return state_codes(self.user_segments[users], times)

    def times_bought(self, users: IntArray, items: IntArray) -> FloatArray:
        """Return how often customers [B] bought items [B, A] in the fitted events, [B, A]."""
        keys = users[:, None] * len(self.popularity) + items
        at = np.minimum(np.searchsorted(self.pair_keys, keys), len(self.pair_keys) - 1)
        return np.where(self.pair_keys[at] == keys, self.pair_counts[at], 0.0)

    def joint(self, users: IntArray, times: Sequence[datetime], items: IntArray) -> FloatArray:
        """Return the joint features of contexts and items.

        Args:
            users: [B] customer positions.
            times: B times; what counts is the season.
            items: [B, A] item positions.

        Returns:
            [B, A, F]: segment x item basics, item vector, customer vector * item vector, season x item vector,
            and the customer's own past with the item.
        """
        joint = self._item_factors.take(items, axis=0)
        joint *= self._context_factors(users, times)[:, None, :]
        times_bought = self.times_bought(users, items)
        joint[:, :, -_PAIR] = times_bought > 0
        np.log1p(times_bought, out=joint[:, :, -1])
        return joint

    @cached_property
    def _item_factors(self) -> FloatArray:
        """[N + 1, F]: of each joint feature the factor that is the item's."""
        copies = (len(SEGMENTS), 2 + _SEASONS)
        parts = [np.tile(factors, n) for factors, n in zip((self.item_basics, self.item_vectors), copies, strict=True)]
        return np.concatenate([*parts, np.zeros((len(self.popularity), _PAIR))], axis=1)

    def _context_factors(self, users: IntArray, times: Sequence[datetime]) -> FloatArray:
        """Return the factors that are the contexts', [B, F]."""
        vectors = self.user_vectors[users]
        parts = (
            _SEGMENT_COLUMNS[self.user_segments[users]],
            np.ones_like(vectors),
            vectors,
            _season(times).repeat(vectors.shape[1], axis=1),
            np.ones((len(users), _PAIR)),
        )
        return np.concatenate(parts, axis=1)


def fit(events: pa.Table, config: EncoderConfig) -> Encoder:
    """Fit an encoder on purchase events.

    Args:
        events: as `data.features.purchases.purchase_lines` takes them.
        config: the sizes.

    Raises:
        DataError: a column is missing, or there are too few customers or items for the rank.
    """
    purchases = purchase_lines(events)
    lines = purchases["item_id"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    items = sorted(lines.index[: config.max_items])
    measures = measure(purchases, purchases["time"].max())
    if min(len(items), len(measures)) <= config.rank:
        raise DataError(
            f"rank {config.rank} needs more than {config.rank} items and customers, "
            f"got {len(items)} items and {len(measures)} customers"
        )
    counts = _count_pairs(purchases, measures.index, items)
    item_vectors, user_vectors = _factors(counts, config.rank)
    popularity = lines.loc[items].to_numpy().astype(np.float64)
    price = purchases.groupby("item_id")["price"].median().loc[items].to_numpy(np.float64)
    pairs = counts.tocoo()
    keys = (pairs.row.astype(np.int64) + 1) * (len(items) + 1) + pairs.col + 1
    order = np.argsort(keys)
    return Encoder(
        items=tuple(items),
        users=tuple(measures.index),
        popularity=np.concatenate([[0.0], popularity]),
        item_basics=_item_basics(popularity, price),
        item_vectors=item_vectors,
        user_vectors=user_vectors,
        user_segments=np.concatenate([[0], fit_rfm(measures).segments(measures)]),
        pair_keys=keys[order],
        pair_counts=pairs.data[order],
    )


def _count_pairs(purchases: pd.DataFrame, users: pd.Index, items: list[str]) -> csr_array:
    """Count purchase lines by customer and item, [U, N]; items outside the catalogue are left out."""
    columns = pd.Index(items).get_indexer(pd.Index(purchases["item_id"]))
    rows = users.get_indexer(pd.Index(purchases["user_id"]))
    known = columns >= 0
    ones = np.ones(int(known.sum()))
    return csr_array((ones, (rows[known], columns[known])), shape=(len(users), len(items)))


def _factors(counts: csr_array, rank: int) -> tuple[FloatArray, FloatArray]:
    """Return item vectors [N + 1, R] and user vectors [U + 1, R] from the truncated SVD of the log counts.

    Each customer's row has length 1 first, so that big buyers do not decide alone what the factors are.
    """
    rows = counts.log1p()
    lengths = sparse_norm(rows, axis=1)  # [U]
    rows = rows.multiply(1.0 / np.maximum(lengths, 1e-12)[:, None]).tocsr()
    _, _, vt = svds(rows, k=rank, v0=np.ones(min(rows.shape)))
    vt = vt[::-1] * np.sign(vt[::-1].sum(axis=1, keepdims=True) + 1e-12)  # strongest first; the sign is a convention
    item_vectors = vt.T * np.sqrt(vt.shape[1])  # [N, R], columns of mean square 1
    projected = rows @ item_vectors  # [U, R]
    norms = np.linalg.norm(projected, axis=1, keepdims=True)
    user_vectors = np.sqrt(rank) * projected / np.maximum(norms, 1e-12)
    unknown = np.zeros((1, rank))
    return np.concatenate([unknown, item_vectors]), np.concatenate([unknown, user_vectors])


def _item_basics(popularity: FloatArray, price: FloatArray) -> FloatArray:
    """Return [N + 1, 3]: constant, standardised log popularity, standardised log price."""
    basics = np.zeros((len(popularity) + 1, _ITEM_BASICS))
    basics[:, 0] = 1.0
    for column, values in enumerate((popularity, price), start=1):
        known = np.isfinite(values)
        logs = np.log(values[known])
        if logs.size:
            basics[1:, column][known] = (logs - logs.mean()) / max(logs.std(), 1e-12)
    return basics


def _season(times: Sequence[datetime]) -> FloatArray:
    """Return sine and cosine of the first two harmonics of the year, [B, 4]."""
    return np.array([_encode_day(time.timetuple().tm_yday) for time in times])


@lru_cache(maxsize=366)
def _encode_day(day: int) -> tuple[float, ...]:
    angle = 2 * np.pi * np.array([day / 365.25, 2 * day / 365.25])
    return tuple(np.stack([np.sin(angle), np.cos(angle)], axis=1).ravel().tolist())
