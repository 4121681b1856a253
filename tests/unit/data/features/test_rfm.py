"""RFM measures, segments and states against numbers worked out by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from data.features.rfm import (
    N_STATES,
    RFM,
    SEGMENTS,
    fit_rfm,
    measure,
    state_codes,
)

END = datetime(2011, 12, 31, tzinfo=UTC)

# (customer, days before the end, session, amount)
LINES = [
    ("loyal", 364, "1", 100.0),  # long a customer: their recency is that of their last purchase all the same
    ("loyal", 40, "2", 150.0),
    ("loyal", 0, "3", 40.0),
    ("loyal", 0, "3", 10.0),  # a second line of the same purchase
    ("middling", 12, "4", 60.0),
    ("middling", 10, "5", 40.0),
    ("lost", 30, "6", 20.0),
]


def measured() -> pd.DataFrame:
    lines = pd.DataFrame(LINES, columns=["user_id", "days", "session", "amount"])
    lines["time"] = [pd.Timestamp(END) - timedelta(days=days) for days in lines["days"]]
    return measure(lines, END)


def test_measures_of_three_customers() -> None:
    expected = {"loyal": (0.0, 3, 300.0), "lost": (30.0, 1, 20.0), "middling": (10.0, 2, 100.0)}
    assert {str(user): tuple(row) for user, row in measured().iterrows()} == expected


def test_edges_of_three_customers() -> None:
    """With three values the quartile edges are the middle one and the midpoints beside it."""
    edges = fit_rfm(measured())
    assert edges.recency_days.tolist() == [5.0, 10.0, 20.0]
    assert edges.frequency.tolist() == [1.5, 2.0, 2.5]
    assert edges.monetary.tolist() == [60.0, 100.0, 200.0]


def test_segments_of_three_customers() -> None:
    """Scores (recency, frequency, monetary): loyal 4 + 4 + 4, lost 1 + 1 + 1, middling 3 + 2 + 2."""
    frame = measured()
    codes = fit_rfm(frame).segments(frame)
    assert {str(user): SEGMENTS[code] for user, code in zip(frame.index, codes, strict=True)} == {
        "loyal": "Q4",
        "lost": "Q1",
        "middling": "Q2",
    }


@pytest.mark.parametrize(
    ("recency_days", "frequency", "monetary", "segment"),
    [
        (4.0, 1, 1.0, "Q1"),  # 1 + 1 + 1: the worst
        (4.0, 3, 1.0, "Q1"),  # 1 + 3 + 1: the highest sum of Q1
        (4.0, 4, 1.0, "Q2"),  # 1 + 4 + 1
        (4.0, 4, 2.0, "Q2"),  # 1 + 4 + 2
        (4.0, 4, 3.0, "Q3"),  # 1 + 4 + 3
        (2.0, 4, 2.0, "Q3"),  # 3 + 4 + 2
        (1.0, 4, 2.0, "Q4"),  # 4 + 4 + 2: a recency on the edge is good
        (0.0, 9, 9.0, "Q4"),  # 4 + 4 + 4: the best
    ],
)
def test_segment_of_score_sums(recency_days: float, frequency: int, monetary: float, segment: str) -> None:
    edges = np.array([1.0, 2.0, 3.0])
    customer = pd.DataFrame({"recency_days": [recency_days], "frequency": [frequency], "monetary": [monetary]})
    assert SEGMENTS[RFM(edges, edges, edges).segments(customer)[0]] == segment


def test_a_segment_does_not_depend_on_who_is_in_the_batch() -> None:
    frame = measured()
    rfm = fit_rfm(frame)
    alone = [int(rfm.segments(frame.iloc[[row]])[0]) for row in range(len(frame))]
    assert alone == rfm.segments(frame).tolist()


@pytest.mark.parametrize(
    ("segment", "time", "code"),
    [
        (1, datetime(2011, 8, 1, tzinfo=UTC), 1 * 168 + (7 * 2 + 0) * 7 + 0),
        (4, datetime(2011, 8, 15, 23, 59, tzinfo=UTC), 4 * 168 + (7 * 2 + 0) * 7 + 0),
        (0, datetime(2011, 8, 16, tzinfo=UTC), 0 * 168 + (7 * 2 + 1) * 7 + 1),
        (0, datetime(2012, 1, 1, tzinfo=UTC), 0 * 168 + (0 * 2 + 0) * 7 + 6),
        (4, datetime(2011, 12, 31, tzinfo=UTC), 4 * 168 + (11 * 2 + 1) * 7 + 5),
    ],
)
def test_a_state_is_segment_month_half_and_weekday(segment: int, time: datetime, code: int) -> None:
    assert state_codes(np.array([segment]), [time]).tolist() == [code]


def test_states_are_in_range_and_tell_contexts_apart() -> None:
    start = datetime(2011, 1, 1, tzinfo=UTC)
    times = [start + timedelta(days=day) for day in range(28 * 365)]  # every (month, half, weekday) occurs
    contexts: dict[tuple[int, int, bool, int], set[int]] = {}
    for segment in range(len(SEGMENTS)):
        codes = state_codes(np.full(len(times), segment), times)
        for time, code in zip(times, codes, strict=True):
            contexts.setdefault((segment, time.month, time.day > 15, time.weekday()), set()).add(int(code))
    assert all(len(codes) == 1 for codes in contexts.values())
    assert sorted(code for codes in contexts.values() for code in codes) == list(range(N_STATES))
