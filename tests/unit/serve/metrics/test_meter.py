"""Counting in plain Python comes to the numbers that Ray is given, with labels that are bounded."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from serve.metrics import definitions as of
from serve.metrics.__main__ import table
from serve.metrics.definitions import METRICS, Metric
from serve.metrics.meter import SAMPLE, Meter
from tests.support.meters import Numbers


@pytest.fixture
def numbers() -> Numbers:
    return Numbers()


@pytest.fixture
def meter(numbers: Numbers) -> Meter:
    return Meter("r1", numbers)


def test_counts_are_handed_on_once(meter: Meter, numbers: Numbers) -> None:
    meter.count(of.EVENTS, ("shop", "stored"))
    meter.count(of.EVENTS, ("shop", "stored"), 2)
    meter.flush()
    meter.flush()
    assert numbers.calls == [(of.EVENTS, 3.0, {"node": "shop", "status": "stored", "replica": "r1"})]


def test_a_counter_that_begins_is_there_and_its_first_count_is_exact(meter: Meter, numbers: Numbers) -> None:
    meter.begin(of.ARCHIVE_ERRORS)
    meter.flush()
    assert 0 < numbers.of(of.ARCHIVE_ERRORS) < 1e-300
    meter.count(of.ARCHIVE_ERRORS)
    meter.flush()
    assert numbers.of(of.ARCHIVE_ERRORS) == 1.0


def test_each_value_of_a_histogram_is_handed_on(meter: Meter, numbers: Numbers) -> None:
    for value in (0.25, 0.5):
        meter.observe(of.DECIDE, ("v1",), value)
    asyncio.run(meter.flush_between())
    assert numbers.values(of.DECIDE, loop="v1") == [0.25, 0.5]


def test_a_gauge_is_handed_on_each_time_until_it_is_set_without(meter: Meter, numbers: Numbers) -> None:
    meter.set(of.SAMPLE_RATIO, {("one",): 0.5, ("none",): float("nan")})
    meter.flush()
    meter.flush()
    meter.set(of.SAMPLE_RATIO, {})
    meter.flush()
    assert [value for _, value, _ in numbers.calls] == [0.5, 0.5]


def test_labels_beyond_a_number_are_others(meter: Meter, numbers: Numbers) -> None:
    for number in range(2_000):
        meter.count(of.EVENTS, (f"node{number}", "stored"))
    meter.flush()
    assert numbers.of(of.EVENTS, node="other", status="other") == 1_500
    assert len({tuple(tags.values()) for _, _, tags in numbers.calls}) == 501


def test_a_flush_lets_others_run_in_between(meter: Meter) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def both() -> None:
        task = asyncio.create_task(others())
        for number in range(1_000):
            meter.count(of.EVENTS, ("shop", str(number % 400)))
        await meter.flush_between()
        task.cancel()

    asyncio.run(both())
    assert turns >= 4


def test_of_many_values_a_fair_sample_is_handed_on(meter: Meter, numbers: Numbers) -> None:
    for flush in range(200):
        for number in range(1_000):
            meter.observe(of.DECIDE, ("v1",), number + 1)
        meter.flush()
        assert len(numbers.values(of.DECIDE)) == (flush + 1) * SAMPLE
    found = np.quantile(numbers.values(of.DECIDE), [0.1, 0.5, 0.9])
    assert found.tolist() == pytest.approx([100, 500, 900], abs=25)  # five standard errors of 10,000 values


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_definitions_are_complete(metric: Metric) -> None:
    assert metric.says.endswith(".")
    assert (metric.kind == "histogram") == bool(metric.buckets)
    assert list(metric.buckets) == sorted(set(metric.buckets))
    assert not {"user_id", "item_id", "user", "item", "decision_id"} & {*metric.labels}
    units = ("_seconds", "_bytes", "_total", "_ratio")
    assert metric.kind != "histogram" or metric.name.endswith(units)


def test_names_are_given_once() -> None:
    assert len({metric.name for metric in METRICS}) == len(METRICS)


def test_the_page_has_the_table_of_all_metrics() -> None:
    assert table() in Path("serve/METRICS.md").read_text(), "run python -m serve.metrics"
