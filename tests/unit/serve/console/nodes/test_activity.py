"""Rates, reasons and minutes, by hand."""

from datetime import datetime, timedelta

import pytest

from data.schema import Reject
from serve.console.nodes.activity import Rate, count_minutes, count_reasons, mask
from tests.support.clocks import NOON


def before(*seconds: float) -> list[datetime]:
    return [NOON - timedelta(seconds=one) for one in seconds]


def test_a_rate_is_of_the_last_five_minutes() -> None:
    assert Rate.of([], NOON) == Rate(None, 0.0)
    assert Rate.of(before(10, 20, 299, 301, 900), NOON) == Rate(NOON - timedelta(seconds=10), 0.6)
    assert Rate.of(before(400), NOON).per_minute == 0


def test_where_more_came_than_was_read_it_is_of_the_time_that_was() -> None:
    assert Rate.of(before(10, 20, 30, 60), NOON, limit=4).per_minute == 4  # four in a minute, and more before
    assert Rate.of(before(10, 20, 30, 600), NOON, limit=4).per_minute == 0.6  # the fourth is no part of it
    assert Rate.of(before(0, 0), NOON, limit=2).per_minute == 120  # of a second at least


def test_minutes_are_counted_and_unknown_ones_are_not_nothing() -> None:
    chart = count_minutes({"tills": before(1, 60, 90, 120, 3_599)}, NOON)
    assert chart is not None
    values = chart["series"][0]["values"]
    assert len(values) == len(chart["x"]) == 60
    assert values[-1:] == [2]  # 60 and 1 s before noon, both of 11:59
    assert values[-2:-1] == [2]  # 90 and 120 s
    assert values[0] == 1
    assert count_minutes({"tills": before(7_200)}, NOON) is None
    full = count_minutes({"tills": before(*([30] * 1_999), 150)}, NOON)
    assert full is not None
    assert full["series"][0]["values"][-3:] == [None, 0, 1_999]  # what was before, nobody has read


def test_reasons_come_by_how_often_with_some_values() -> None:
    def reject(rule: str, value: str | None, number: int) -> Reject:
        return Reject(node_id="n", reject_id=str(number), source="s", row=number, rule=rule, column="c", value=value)

    rejects = [reject("r", value, n) for n, value in enumerate(["a", "b", "a", "c", "d"])] + [reject("q", None, 9)]
    first, second = count_reasons(rejects)
    assert (first.rule, first.count, first.values) == ("r", 5, ("a", "b", "c"))
    assert (second.rule, second.column, second.count, second.values) == ("q", "c", 1, (None,))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("anna.ma@example.org", "xxxx.xx@xxxxxxx.xxx"),
        ("-12,50", "-99,99"),
        ("Łódź 4", "xxxx 9"),
        ("a\x00\n€", "x···"),
        ("", ""),
        (None, None),
        ("y" * 61, "x" * 60 + "…"),
    ],
)
def test_a_masked_value_has_its_form_and_nothing_else(value: str | None, shown: str | None) -> None:
    assert mask(value) == shown
