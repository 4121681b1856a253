"""Exposures as tables of the log's rows, from `serve.abtests.exposures`: columns are named there."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from rl.evaluation.abtests.specification import ReadSpec
from rl.evaluation.abtests.units import GOAL, Exposures

Past = Mapping[str, tuple[float, float]]
"""By user: what was earned before the first exposure, and in how many decisions."""


def to_past(table: pa.Table) -> dict[str, tuple[float, float]]:
    """Return what users did before, of a table with the columns user_id, decisions, reward (a decision's mean)."""
    users, times, means = (table[name].to_pylist() for name in ("user_id", "decisions", "reward"))
    return {user: (mean * count, float(count)) for user, count, mean in zip(users, times, means, strict=True)}


def to_exposures(table: pa.Table, spec: ReadSpec, past: Past) -> Exposures:
    """Return the rows of a table whose wait windows are closed, in its order."""
    closed = table.filter(pc.field("closed"))
    units = closed["unit"].to_pylist()
    before = np.array([past.get(unit, (0.0, 0.0)) for unit in units], dtype=np.float64).reshape(-1, 2)
    metrics = {kind: _floats(closed, f"kind:{kind}") for kind in spec.kinds}
    return Exposures(
        time_us=closed["time"].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_numpy(),
        unit=units,
        variant=closed["variant"].to_pylist(),
        metrics={GOAL: _floats(closed, "reward"), **metrics},
        past=before[:, 0],
        past_decisions=before[:, 1],
        segments={name: pc.fill_null(closed[f"context:{name}"], "-").to_pylist() for name in spec.segments},
    )


def closed_prefix(table: pa.Table) -> pa.Table:
    """Return the rows before the first whose wait window is open: who follows the log goes on after them."""
    closed = table["closed"].to_numpy()
    return table.slice(0, len(closed) if closed.all() else int(closed.argmin()))


def _floats(table: pa.Table, name: str) -> Any:
    return pc.fill_null(table[name].cast(pa.float64()), 0.0).to_numpy()
