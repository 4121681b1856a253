"""A market fitted to a shop's past purchases, for training before there is any feedback.

Purchases say what customers chose, not what they would do when shown something; the fitted market turns the first
into the second by assumption. It is a place to learn sensible defaults in, not a truth about the shop.
"""

from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field
from scipy.sparse import csr_array
from scipy.sparse.linalg import svds

from data.features.customers import Encoder
from data.features.purchases import purchase_lines
from data.features.rfm import SEGMENTS
from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.market.market import MONTHS, Market, shift_appeal


class FittedMarketConfig(BaseModel):
    """How strongly the past shapes the market; strengths are standard deviations in logits."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["fitted"] = "fitted"
    appeal: float = 0.6
    taste: float = 0.8
    rank: Annotated[int, Field(ge=1, description="number of factors of taste")] = 16
    habit: float = Field(default=1.0, description="logits for every doubling of earlier purchases of the item")
    season: float = Field(default=1.0, description="share of the item's seasonal log ratio that is kept")
    segment: float = Field(default=1.0, description="share of the segment's log ratio that is kept")
    pseudo_counts: Annotated[float, Field(gt=0, description="purchases that no-difference counts for")] = 20.0
    click_rate: Annotated[float, Field(gt=0, lt=1, description="mean over random items")] = 0.0743
    buy_given_click: Annotated[float, Field(gt=0, lt=1)] = 0.5


def fit_market(events: pa.Table, encoder: Encoder, config: FittedMarketConfig) -> Market:
    """Fit a market to purchase events.

    Args:
        events: as `data.features.customers.fit` takes them.
        encoder: gives the catalogue and the customers, with their segments.
        config: the strengths.

    Raises:
        DataError: the events lack a column.
    """
    purchases = purchase_lines(events)
    items = encoder.item_positions(purchases["item_id"]) - 1
    users = encoder.user_positions(purchases["user_id"]) - 1
    known = (items >= 0) & (users >= 0)
    items, users, purchases = items[known], users[known], purchases[known]
    months = purchases["time"].dt.month.to_numpy(np.int64) - 1
    n_users, n_items = len(encoder.users), len(encoder.items)
    counts = csr_array((np.ones(len(items)), (users, items)), shape=(n_users, n_items))
    segments = encoder.user_segments[1:]
    visits = purchases.groupby(users)["session"].nunique().reindex(range(n_users), fill_value=0).to_numpy(np.float64)
    popularity = encoder.popularity[1:]
    prices = purchases.groupby(items)["price"].median().reindex(range(n_items)).fillna(1.0).to_numpy(np.float64)
    market = Market(
        items=encoder.items,
        users=encoder.users,
        activity=visits / visits.sum(),
        appeal=config.appeal * _standardise(np.log(popularity)),
        taste=_taste(counts, config) + config.habit * np.log2(1.0 + counts.toarray()),
        season=config.season * _log_ratios(months, items, (MONTHS, n_items), config.pseudo_counts),
        segment=segments,
        segment_taste=config.segment
        * _log_ratios(segments[users], items, (len(SEGMENTS), n_items), config.pseudo_counts),
        buy_given_click=np.full(n_items, config.buy_given_click),
        prices=prices,
    )
    return shift_appeal(market, config.click_rate)


def _taste(counts: csr_array, config: FittedMarketConfig) -> FloatArray:
    """Return [U, N]: the low-rank part of the log counts, scaled to the configured standard deviation."""
    u, s, vt = svds(counts.log1p(), k=min(config.rank, min(counts.shape) - 1), v0=np.ones(min(counts.shape)))
    return config.taste * _standardise((u * s) @ vt)


def _log_ratios(groups: IntArray, items: IntArray, shape: tuple[int, int], pseudo_counts: float) -> FloatArray:
    """Return [groups, N]: log of an item's share in a group over its share in all, shrunk to 0 by pseudo-counts."""
    table = np.zeros(shape)
    np.add.at(table, (groups, items), 1.0)
    expected = table.sum(axis=1, keepdims=True) * table.sum(axis=0) / table.sum()
    ratios: FloatArray = np.log((table + pseudo_counts) / (expected + pseudo_counts))
    return ratios


def _standardise(values: FloatArray) -> FloatArray:
    standardised: FloatArray = (values - values.mean()) / max(float(values.std()), 1e-12)
    return standardised
