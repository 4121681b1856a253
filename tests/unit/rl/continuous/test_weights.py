"""How much rows count, by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from rl.continuous.specification import Data
from rl.continuous.tables import read_values, weigh, weigh_by_age, weigh_by_value

NOON = datetime(2026, 1, 5, 12, tzinfo=UTC)


def test_a_row_counts_half_after_a_half_life() -> None:
    np.testing.assert_allclose(weigh_by_age(np.array([0.0, 60.0, 120.0, -5.0]), 60.0), [1.0, 0.5, 0.25, 1.0])


def test_what_is_worth_nothing_counts_once_and_what_is_worth_the_mean_twice() -> None:
    np.testing.assert_allclose(weigh_by_value(np.array([0.0, 2.0, 4.0])), [1.0, 2.0, 3.0])
    np.testing.assert_allclose(weigh_by_value(np.array([-1.0, np.nan])), [1.0, 1.0])
    np.testing.assert_allclose(weigh_by_value(np.array([6.0]), mean=3.0), [3.0])


def test_a_row_is_worth_its_reward_or_what_its_context_says() -> None:
    contexts = ['{"basket": 20}', '{"basket": "much"}', None]
    assert read_values(contexts, np.array([1.0, -2.0, 0.0]), "reward").tolist() == [1.0, 2.0, 0.0]
    assert read_values(contexts, np.zeros(3), "basket").tolist() == [20.0, 0.0, 0.0]


def test_a_table_is_weighed_as_the_settings_say() -> None:
    table = pa.table(
        {
            "time": pa.array([NOON, NOON + timedelta(hours=1)], pa.timestamp("us", tz="UTC")),
            "context": [None, None],
            "reward": [0.0, 3.0],
        }
    )
    until = NOON + timedelta(hours=1)
    assert weigh(table, Data(), until).tolist() == [1.0, 1.0]
    assert weigh(table, Data(weigh="age", half_life_s=3_600.0), until).tolist() == [0.5, 1.0]
    assert weigh(table, Data(weigh="value"), until).tolist() == [1.0, 3.0]
