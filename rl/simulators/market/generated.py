"""A generated market and its past transactions, for those who have no data at hand."""

from typing import Annotated, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from rl.policy.arrays import FloatArray, IntArray
from rl.simulators.market.market import (
    MONTHS,
    Market,
    shift_appeal,
    to_months,
)

_GROUPS = 4  # as many as RFM segments: how much a customer spends goes with what they like


class GeneratedMarketConfig(BaseModel):
    """Sizes and strengths of a generated market; strengths are standard deviations in logits."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: Literal["generated"] = "generated"
    users: Annotated[int, Field(ge=10)] = 500
    items: Annotated[int, Field(ge=10)] = 60
    kinds: Annotated[int, Field(ge=2, description="groups of similar items, such as lighting or kitchen")] = 6
    appeal: float = 0.4
    taste: float = 0.8
    whim: Annotated[float, Field(ge=0, description="taste for single items that goes with nothing else")] = 0.4
    season: float = 0.9
    segment: float = 1.0
    click_rate: Annotated[float, Field(gt=0, lt=1, description="mean over random items")] = 0.0743
    buy_given_click: Annotated[float, Field(gt=0, lt=1)] = 0.5
    invoices: Annotated[int, Field(ge=1, description="past purchases, spread over the year")] = 10_000


def generate_market(config: GeneratedMarketConfig, rng: np.random.Generator) -> Market:
    """Draw a market: tastes are by kind of item, so that a customer's past tells what else they will like."""
    kind = rng.permutation(np.arange(config.items) % config.kinds)  # [N]
    segment = rng.integers(_GROUPS, size=config.users)
    activity = (1.0 + segment) * rng.gamma(16.0, size=config.users)  # the better segments come more often
    activity /= activity.sum()
    group_taste = rng.standard_normal((_GROUPS, config.kinds))
    group_taste -= group_taste.mean(axis=0)  # what all groups like is appeal, not taste
    season_of_kind = np.sin(
        2 * np.pi * (np.arange(MONTHS)[:, None] / MONTHS + rng.random(config.kinds)[None, :])
    )  # [12, kinds]
    market = Market(
        items=tuple(str(20000 + i) for i in range(config.items)),
        users=tuple(str(12000 + u) for u in range(config.users)),
        activity=activity,
        appeal=config.appeal * rng.standard_normal(config.items),
        taste=config.taste * rng.standard_normal((config.users, config.kinds))[:, kind]
        + config.whim * rng.standard_normal((config.users, config.items)),
        season=config.season * np.sqrt(2) * season_of_kind[:, kind],
        segment=segment,
        segment_taste=config.segment * group_taste[:, kind],
        buy_given_click=np.full(config.items, config.buy_given_click),
        prices=rng.lognormal(1.0, 0.6, config.items).round(2),
        kinds=kind,
    )
    return shift_appeal(market, config.click_rate)


def generate_transactions(market: Market, invoices: int, rng: np.random.Generator) -> pd.DataFrame:
    """Draw a year of invoices with the columns and the flaws of the Online Retail data.

    Customers buy 1 to 8 lines of what they like that month. About one row in four breaks a rule, in the real data's
    proportions: no customer, a service line, a return, a price of zero; about one in a hundred is a duplicate.
    """
    users, times = market.sample_visits(invoices, rng)
    p = market.click_probabilities(users, to_months(times))
    lines = rng.integers(1, 9, size=invoices)
    chosen = [_without_repeats(weights, n, rng) for weights, n in zip(p, lines, strict=True)]
    owner = np.repeat(np.arange(invoices), lines)
    item = np.concatenate(chosen)
    frame = pd.DataFrame(
        {
            "InvoiceNo": (536365 + owner).astype(str),
            "StockCode": np.array(market.items)[item],
            "Description": np.char.add("ITEM ", np.array(market.items)[item]),
            "Quantity": (1 + rng.geometric(0.3, size=len(item)) * (1 + market.segment[users[owner]])).astype(np.int64),
            "InvoiceDate": pd.DatetimeIndex(times).tz_localize(None)[owner],
            "UnitPrice": market.prices[item],
            "CustomerID": pd.array(np.array(market.users)[users[owner]].astype(np.int64), dtype="Int64"),
            "Country": "United Kingdom",
        }
    )
    return _break_rows(frame, rng).sort_values("InvoiceDate", kind="stable", ignore_index=True)


def _without_repeats(weights: FloatArray, n: int, rng: np.random.Generator) -> IntArray:
    return rng.choice(len(weights), size=n, replace=False, p=weights / weights.sum())


def _break_rows(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Break rows as they are broken in the real data."""
    flaw = rng.choice(5, size=len(frame), p=[0.73, 0.249, 0.004, 0.016, 0.001])
    frame.loc[flaw == 1, "CustomerID"] = pd.NA
    frame.loc[flaw == 2, "StockCode"] = "POST"
    frame.loc[flaw == 3, "Quantity"] = -frame["Quantity"]
    frame.loc[flaw == 4, "UnitPrice"] = 0.0
    return pd.concat([frame, frame.sample(frac=0.01, random_state=rng)], ignore_index=True)
