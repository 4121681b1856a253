"""RFM segments and the discrete state (segment, month, half of month, weekday) built on them.

Recency is counted from the *last* purchase, and in every score high is good: a customer who bought yesterday has
recency score 4. Scores come from quartile edges that are fitted once, so a customer's segment never depends on who
else is in the batch.
"""

from calendar import day_name, month_name
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray

SEGMENTS = ("unknown", "Q1", "Q2", "Q3", "Q4")
"""By code. Q4 holds the best customers; `unknown` those without a purchase in the fitted data."""

STATES_PER_SEGMENT = 12 * 2 * 7
N_STATES = len(SEGMENTS) * STATES_PER_SEGMENT

_SUM_EDGES = (6, 8, 10)  # sums of three scores, 3..12: Q1 3-5, Q2 6-7, Q3 8-9, Q4 10-12
_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class RFM:
    """Quartile edges of the three measures, fitted once.

    Attributes:
        recency_days: [3] edges of days between a customer's last purchase and the end of the fitted data.
        frequency: [3] edges of the number of distinct purchases (sessions).
        monetary: [3] edges of the sum spent, in the shop's currency.
    """

    recency_days: NDArray[np.float64]
    frequency: NDArray[np.float64]
    monetary: NDArray[np.float64]

    def segments(self, measures: pd.DataFrame) -> NDArray[np.int64]:
        """Return the segment code (index into `SEGMENTS`) of each row of `measures` (see `measure`)."""
        recency = 4 - np.searchsorted(self.recency_days, measures["recency_days"], side="left")
        frequency = 1 + np.searchsorted(self.frequency, measures["frequency"], side="left")
        monetary = 1 + np.searchsorted(self.monetary, measures["monetary"], side="left")
        return 1 + np.searchsorted(_SUM_EDGES, recency + frequency + monetary, side="right").astype(np.int64)


def measure(purchases: pd.DataFrame, end: datetime) -> pd.DataFrame:
    """Measure each customer.

    Args:
        purchases: one row a purchase line with user_id, time, session and amount (money).
        end: the moment that recency is counted back from.

    Returns:
        A frame indexed by user_id with recency_days, frequency and monetary.
    """
    by_user = purchases.groupby("user_id", sort=True)
    return pd.DataFrame(
        {
            "recency_days": (pd.Timestamp(end) - by_user["time"].max()).dt.total_seconds() / 86_400,
            "frequency": by_user["session"].nunique(),
            "monetary": by_user["amount"].sum(),
        }
    )


def fit_rfm(measures: pd.DataFrame) -> RFM:
    """Fit the quartile edges on measured customers; a value equal to an edge falls below it."""
    edges = {name: np.quantile(measures[name].to_numpy(np.float64), _QUARTILES) for name in measures.columns}
    return RFM(**edges)


def state_codes(segments: NDArray[np.int64], times: Sequence[datetime]) -> NDArray[np.int64]:
    """Return the state code, in [0, N_STATES), of each (segment code, time)."""
    moments = [((t.month - 1) * 2 + (t.day > 15)) * 7 + t.weekday() for t in times]
    return segments * STATES_PER_SEGMENT + np.asarray(moments, dtype=np.int64)


def state_name(state: int) -> str:
    """Return what a state is called: "Q4, March 1 to 15, Tuesday"."""
    segment, moment = divmod(state, STATES_PER_SEGMENT)
    half, day = divmod(moment, 7)
    days = "16 on" if half % 2 else "1 to 15"
    return f"{SEGMENTS[segment]}, {month_name[half // 2 + 1]} {days}, {day_name[day]}"
