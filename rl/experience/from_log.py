"""The log's transitions (`data.attribution.transitions.TRANSITION_SCHEMA`) as columns that a network learns from.

The features are the encoder's, the same that the service computes. What the log's table has no column for is left out:
there is no history of what the user was shown before.
"""

import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from data.attribution.transitions import TRANSITION_SCHEMA
from data.errors import DataError
from data.features.customers import Encoder
from data.schema import CONTEXT_TIME, parse_visit_time
from rl.experience.checks import NEXT, Columns
from rl.policy.arrays import FloatArray, IntArray

_log = logging.getLogger("raycommend.train")


def convert_log(table: pa.Table, encoder: Encoder, candidates: int | None = None) -> Columns:
    """Return the columns of `rl.experience.transitions`, a row for each slot of each slate, [N, ...].

    A slot's item was drawn given the slots before it, so those are off in its mask, and its propensity and reward are
    its own. Features take [A, F] floats of 4 bytes a row: convert a long log in parts, one file each.
    A row that says what cannot be is left out, and a warning says how many.

    Args:
        table: of `data.attribution.transitions.transitions`.
        encoder: of the service's policies.
        candidates: A, at least as many as any row has; by default the most that one has. What is padded is off.

    Raises:
        DataError: a column is missing, a row has more candidates than A, or a slate of several has a next decision:
            what its future is worth cannot be told apart by slot.
    """
    if missing := [name for name in TRANSITION_SCHEMA.names if name not in table.column_names]:
        raise DataError(f"the log's transitions have no column {', '.join(missing)}")
    rows = _whole(table.to_pylist())
    future = any(row["discount"] for row in rows)
    if joint := [row["decision_id"] for row in rows if row["discount"] and len(row["slate"]) > 1]:
        raise DataError(
            f"{len(joint)} slates of several items have a next decision (first: {joint[0]}): "
            "make transitions with discount 0, or of slates of one"
        )
    most = max((len(row[name] or ()) for row in rows for name in ("candidates", "next_candidates")), default=0)
    size = most if candidates is None else candidates
    if most > size:
        raise DataError(f"a decision has {most} candidates, the table has room for {size}")
    columns = _observe(rows, "", size, encoder)
    slots = [(row, slot) for row in range(len(rows)) for slot in range(len(rows[row]["slate"]))]
    of_row = np.array([row for row, _ in slots], dtype=np.int64)
    columns = {name: column[of_row] for name, column in columns.items()}
    for at, (row, slot) in enumerate(slots):
        before = [rows[row]["candidates"].index(item) for item in rows[row]["slate"][:slot]]
        columns["mask"][at, before] = 0
    actions = [rows[row]["candidates"].index(rows[row]["slate"][slot]) for row, slot in slots]
    columns["actions"] = np.array(actions, dtype=np.int64)[:, None]
    columns["propensities"] = np.array([rows[row]["propensities"][slot] for row, slot in slots])[:, None]
    columns["rewards"] = np.array([rows[row]["rewards"][slot] for row, slot in slots], dtype=np.float32)
    if future:
        after = _observe(rows, NEXT, size, encoder)
        columns["discounts"] = np.array([rows[row]["discount"] for row, _ in slots], dtype=np.float32)
        columns |= {NEXT + name: column[of_row] for name, column in after.items()}
    return columns


def _whole(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that can be converted; which cannot is logged."""
    whole, failed = list[dict[str, Any]](), list[str]()
    for row in rows:
        try:
            for prefix in ("", NEXT):
                stated = json.loads(row[prefix + "context"] or "{}").get(CONTEXT_TIME)
                if stated is not None:
                    parse_visit_time(stated)
            for item in row["slate"]:
                row["candidates"].index(item)
            if not len(row["slate"]) == len(row["rewards"]) == len(row["propensities"]):
                raise ValueError("slate, rewards and propensities must have one entry a slot")
        except (ValueError, TypeError, AttributeError) as error:
            failed.append(f"{row['decision_id']}: {error}")
        else:
            whole.append(row)
    if failed:
        _log.warning("%d of %d rows are set aside, the first: %s", len(failed), len(rows), failed[0])
    return whole


def _observe(rows: Sequence[dict[str, object]], prefix: str, size: int, encoder: Encoder) -> Columns:
    """Encode what was seen in each row, or with the prefix what was seen next: items, mask, features."""
    items, mask = np.zeros((len(rows), size), dtype=np.int64), np.zeros((len(rows), size), dtype=np.int8)
    times = list[datetime]()
    for at, row in enumerate(rows):
        found = list(row[prefix + "candidates"] or ())  # type: ignore[call-overload]
        items[at, : len(found)], mask[at, : len(found)] = encoder.item_positions(found), 1
        context = row[prefix + "context"] or row["context"]  # at an episode's end any will do
        stated = json.loads(str(context)).get(CONTEXT_TIME)
        times.append(parse_visit_time(stated) if stated else row["time"])  # type: ignore[arg-type]
    users: IntArray = encoder.user_positions(row["user_id"] for row in rows)  # type: ignore[misc]
    features: FloatArray = encoder.joint(users, times, items)
    return {"items": items, "mask": mask, "features": features.astype(np.float32)}
