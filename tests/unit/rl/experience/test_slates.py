"""Logged slates as rows of SlateQ, by hand."""

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest

from data.attribution.transitions import TRANSITION_SCHEMA
from data.errors import DataError
from rl.encoders.catalogue import CatalogueEncoder
from rl.experience.from_log import WEIGHT, convert_log, convert_slates

CATALOGUE = CatalogueEncoder(("a", "b", "c"))


def table(*rows: dict[str, Any], weights: list[float] | None = None) -> pa.Table:
    usual = {"time": datetime(2026, 1, 5, tzinfo=UTC), "candidates": ["c", "a", "b"], "discount": 0.0}
    made = pa.Table.from_pylist(
        [
            dict.fromkeys(TRANSITION_SCHEMA.names) | usual | {"decision_id": f"d{at}"} | row
            for at, row in enumerate(rows)
        ],
        TRANSITION_SCHEMA,
    )
    return made if weights is None else made.append_column(WEIGHT, pa.array(weights))


def slate(items: str, rewards: list[float], **others: Any) -> dict[str, Any]:
    return {"slate": [*items], "rewards": rewards, "reward": sum(rewards), "propensities": [0.5, 0.5]} | others


def test_a_slate_is_a_row_with_the_slot_that_was_chosen() -> None:
    after = {"next_decision_id": "d1", "next_candidates": ["a", "b"], "discount": 0.9}
    found = convert_slates(
        table(slate("ab", [0.0, 2.0], **after), slate("ca", [1.0, 1.0]), slate("cb", [0.0, 0.0]), weights=[1, 0.5, 2]),
        CATALOGUE,
        candidates=4,
        slots=2,
    )
    assert found["items"].tolist() == [[3, 1, 2, 0]] * 3
    assert found["mask"].tolist() == [[1, 1, 1, 0]] * 3
    assert found["actions"].tolist() == [[1, 2], [0, 1], [0, 2]]
    assert found["chosen"].tolist() == [1, 0, -1]
    assert found["rewards"].tolist() == [2.0, 2.0, 0.0]
    assert found["weights"].tolist() == [1.0, 0.5, 2.0]
    assert found["discounts"].tolist() == pytest.approx([0.9, 0.0, 0.0])
    assert found["next_items"].tolist() == [[1, 2, 0, 0], [0] * 4, [0] * 4]


def test_slates_of_another_length_or_not_seen_to_their_end_are_left_out() -> None:
    one = slate("a", [1.0], propensities=[1.0])
    rows = table(slate("ab", [1.0]), one, slate("ba", [0.0, 1.0]), weights=[1.0, 2.0, 3.0])
    found = convert_slates(rows, CATALOGUE, candidates=3, slots=2)
    assert found["actions"].tolist() == [[2, 1]]
    assert found["weights"].tolist() == [3.0]
    with pytest.raises(DataError, match="none of 1 logged slates has 2 slots that were seen"):
        convert_slates(table(one), CATALOGUE, candidates=3, slots=2)


def test_each_slot_counts_as_its_decision() -> None:
    found = convert_log(
        table(slate("ab", [0.0, 2.0]), slate("c", [1.0], propensities=[1.0]), weights=[0.5, 2]), CATALOGUE
    )
    assert found["weights"].tolist() == [0.5, 0.5, 2.0]
