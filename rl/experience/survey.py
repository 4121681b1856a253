"""What there is to learn from in the log: decisions, their items, and what became of the reports about them."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.attribution.columns import CASES
from data.cluster import quiet_ray_data
from data.log.bulk import count_orphans
from data.log.store import Store
from rl.experience.logged import TransitionQuery, attribute_between, map_ranges

_COUNTED = (*CASES, "missing")
_SURVEYED = pa.schema(
    [("cases", pa.list_(pa.int64())), ("items", pa.list_(pa.string()))]
    + [(name, pa.int64()) for name in ("decisions", "due", "candidates")]
)


@dataclass(frozen=True)
class Survey:
    """What there is to learn from in a log."""

    decisions: int
    """Those that are asked for, due or not."""
    due: int
    candidates: int
    """The most that a decision has."""
    items: tuple[str, ...]
    """All that were candidates, in order."""
    cases: Mapping[str, int]
    """How many reports were what (see `data.attribution.join.Case`), `orphan` and `missing` among them."""


def survey(query: TransitionQuery) -> Survey:
    """Look through the decisions that a query asks for, and all that was reported about them.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    cases, items, counts = Counter[str](), set[str](), Counter[str]()
    with quiet_ray_data():
        for row in map_ranges(query, _survey_between).iter_rows():
            cases.update(dict(zip(_COUNTED, row["cases"], strict=True)))
            items.update(row["items"])
            counts.update(decisions=row["decisions"], due=row["due"])
            counts["candidates"] = max(counts["candidates"], row["candidates"])
    store = Store.open(query.store)
    try:
        cases["orphan"] = count_orphans(store, query.loop)
    finally:
        store.close()
    return Survey(
        items=tuple(sorted(items)), cases=dict(cases), **{n: counts[n] for n in ("decisions", "due", "candidates")}
    )


def _survey_between(ranges: pa.Table, query: TransitionQuery, late: NDArray[np.int64]) -> Iterator[pa.Table]:
    yield _SURVEYED.empty_table()
    for decisions, _, outcomes in attribute_between(ranges, query, late):
        counts, candidates = outcomes.count(), decisions["candidates"].combine_chunks()
        row = {
            "cases": [counts[case] for case in _COUNTED],
            "items": pc.unique(candidates.flatten()).to_pylist(),
            "decisions": decisions.num_rows,
            "due": int(outcomes.due.sum()),
            "candidates": pc.max(pc.list_value_length(candidates)).as_py() or 0,
        }
        yield pa.Table.from_pylist([row], _SURVEYED)
