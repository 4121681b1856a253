"""The log's transitions (`data.attribution.transitions.TRANSITION_SCHEMA`) as columns that a network learns from.

What is seen is the encoder's, the same as in service. A slate is filled slot by slot, so each slot is a row of its own;
the table says to which decision of which episode a row belongs, by `episode` and `step`.
"""

import hashlib
import json
import logging
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa

from data.attribution.transitions import TRANSITION_SCHEMA
from data.errors import DataError
from data.schema import CONTEXT_TIME, parse_visit_time
from rl.encoders.base import VisitEncoder
from rl.encoders.visit import Visit
from rl.experience.checks import CHOSEN, NEXT, WEIGHTS, Columns
from rl.policy.arrays import IntArray

WEIGHT = "weight"
"""A column that logged transitions may have: how much a decision counts in what is learned from it."""
_log = logging.getLogger("raycommend.train")


def convert_log(
    table: pa.Table,
    encoder: VisitEncoder,
    candidates: int | None = None,
    histories: tuple[IntArray, IntArray] | None = None,
    future: bool | None = None,
) -> Columns:
    """Return the columns of `rl.experience.transitions`, a row for each slot that was seen of each slate, [N, ...].

    A slot's item was drawn given the slots before it, so those are off in its mask, and its propensity and reward are
    its own. Where some decision has a next one, the slots of a slate are steps of its episode: after one comes the next
    slot, without a discount, after the last one the next decision. Else each is for itself.

    Features take [A, F] floats of 4 bytes a row: convert a long log in parts, one file each.
    A row that says what cannot be is left out, and a warning says how many.

    Args:
        table: of `data.attribution.transitions.transitions`.
        encoder: what the policy will be served with; not one of features by id.
        candidates: A, at least as many as any row has; by default the most that one has. What is padded is off.
        histories: what the user had been shown and had done [rows, T, 3] before each decision, and before the next one.
        future: have the columns of what comes next; by default where some row has a next decision.

    Raises:
        DataError: a column is missing, or a row has more candidates than A.
    """
    if missing := [name for name in TRANSITION_SCHEMA.names if name not in table.column_names]:
        raise DataError(f"the log's transitions have no column {', '.join(missing)}")
    rows, kept = _whole(table.select(TRANSITION_SCHEMA.names).to_pylist())
    most = max((len(row[name] or ()) for row in rows for name in ("candidates", "next_candidates")), default=0)
    size = most if candidates is None else candidates
    if most > size:
        raise DataError(f"a decision has {most} candidates, the table has room for {size}")
    before, after = (None, None) if histories is None else (array[kept] for array in histories)
    seen = np.array([len(row["rewards"]) for row in rows], dtype=np.int64)
    of_row = np.repeat(np.arange(len(rows)), seen)
    slot = np.arange(len(of_row)) - np.repeat(np.cumsum(seen) - seen, seen)
    actions = [row["candidates"].index(item) for row, n in zip(rows, seen, strict=True) for item in row["slate"][:n]]
    observed = _observe(rows, "", size, encoder, before)
    columns = {name: column[of_row] for name, column in observed.items()}
    _take_out(columns["mask"], actions, slot)
    columns["actions"] = np.array(actions, dtype=np.int64).reshape(-1, 1)
    propensities = [p for row, n in zip(rows, seen, strict=True) for p in row["propensities"][:n]]
    columns["propensities"] = np.array(propensities, dtype=np.float64).reshape(-1, 1)
    columns["rewards"] = np.array([reward for row in rows for reward in row["rewards"]], dtype=np.float32)
    if any(row["discount"] for row in rows) if future is None else future:
        last = slot == seen[of_row] - 1
        following = _observe(rows, NEXT, size, encoder, after)
        columns["discounts"] = np.where(last, np.array([row["discount"] for row in rows])[of_row], 1.0).astype(
            np.float32
        )
        for name, column in following.items():
            same = np.roll(columns[name], -1, axis=0)  # what is seen before the next slot
            columns[NEXT + name] = np.where(last.reshape(-1, *[1] * (column.ndim - 1)), column[of_row], same)
    episodes, steps = _number_episodes(rows)
    if WEIGHT in table.column_names:
        columns[WEIGHTS] = table[WEIGHT].to_numpy().astype(np.float32)[kept][of_row]
    return columns | {"episode": episodes[of_row], "step": steps[of_row]}


def convert_slates(
    table: pa.Table,
    encoder: VisitEncoder,
    candidates: int,
    slots: int,
    histories: tuple[IntArray, IntArray] | None = None,
) -> Columns:
    """Return the columns of slates of one length, a row for each decision, [N, ...], with what was `chosen`.

    That is the first slot that has earned something. Slates of another length are left out.

    Args:
        table: as of `convert_log`.
        encoder: the same.
        candidates: A, at least as many as any row has.
        slots: K.
        histories: as of `convert_log`.

    Raises:
        DataError: no slate has so many slots.
    """
    rows, kept = _whole(table.select(TRANSITION_SCHEMA.names).to_pylist())
    fits = [len(row["rewards"]) == len(row["slate"]) == slots for row in rows]
    rows, kept = [row for row, fit in zip(rows, fits, strict=True) if fit], kept[np.array(fits, dtype=np.bool_)]
    if not rows:
        raise DataError(f"none of {table.num_rows} logged slates has {slots} slots that were seen")
    before, after = (None, None) if histories is None else (array[kept] for array in histories)
    earned = np.array([row["rewards"] for row in rows]) > 0.0
    columns = _observe(rows, "", candidates, encoder, before)
    columns["actions"] = np.array([[row["candidates"].index(item) for item in row["slate"]] for row in rows])
    columns["propensities"] = np.array([row["propensities"] for row in rows])
    columns["rewards"] = np.array([row["reward"] for row in rows], dtype=np.float32)
    columns[CHOSEN] = np.where(earned.any(axis=1), earned.argmax(axis=1), -1)
    columns["discounts"] = np.array([row["discount"] for row in rows], dtype=np.float32)
    if WEIGHT in table.column_names:
        columns[WEIGHTS] = table[WEIGHT].to_numpy().astype(np.float32)[kept]
    following = _observe(rows, NEXT, candidates, encoder, after)
    return columns | {NEXT + name: column for name, column in following.items()}


def _take_out(mask: np.ndarray, actions: Sequence[int], slot: IntArray) -> None:
    """Take what the slots before have shown out of the masks [N, A] of rows that follow each other."""
    for back in range(1, int(slot.max(initial=0)) + 1):
        rows = np.flatnonzero(slot >= back)
        mask[rows, np.array(actions, dtype=np.int64)[rows - back]] = 0


def _number_episodes(rows: Sequence[dict[str, Any]]) -> tuple[IntArray, IntArray]:
    """Return a number of the episode's own, and the number of the step in it, of each row [N].

    A decision whose one before is not among the rows begins an episode.
    """
    place = {row["decision_id"]: at for at, row in enumerate(rows)}
    after = [place.get(row["next_decision_id"]) for row in rows]
    episodes, steps = np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=np.int64)
    for first in sorted({*range(len(rows))}.difference(at for at in after if at is not None)):
        name = hashlib.blake2b(rows[first]["decision_id"].encode(), digest_size=8).digest()
        at, step, number = first, 0, int.from_bytes(name, signed=True)
        while at is not None:
            episodes[at], steps[at] = number, step
            at, step = after[at], step + 1
    return episodes, steps


def _whole(rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], IntArray]:
    """Return the rows that can be converted, and where they were; which cannot is logged."""
    whole, kept, failed = list[dict[str, Any]](), list[int](), list[str]()
    for at, row in enumerate(rows):
        try:
            for prefix in ("", NEXT):
                row[prefix + "context"] = json.loads(row[prefix + "context"] or "{}")
                stated = row[prefix + "context"].get(CONTEXT_TIME)
                if stated is not None:
                    parse_visit_time(stated)
            for item in row["slate"]:
                row["candidates"].index(item)
            if not len(row["rewards"]) <= len(row["slate"]) == len(row["propensities"]):
                raise ValueError("slate and propensities must have one entry a slot, rewards one of each that was seen")
        except (ValueError, TypeError, AttributeError) as error:
            failed.append(f"{row['decision_id']}: {error}")
        else:
            whole.append(row)
            kept.append(at)
    if failed:
        _log.warning("%d of %d rows are set aside, the first: %s", len(failed), len(rows), failed[0])
    return whole, np.array(kept, dtype=np.int64)


def _observe(
    rows: Sequence[dict[str, Any]], prefix: str, size: int, encoder: VisitEncoder, histories: IntArray | None
) -> Columns:
    """Encode what was seen in each row, or with the prefix what was seen next: items, mask, features, history."""
    shown = [tuple(row[prefix + "candidates"] or ()) for row in rows]
    items, mask = np.zeros((len(rows), size), dtype=np.int64), np.zeros((len(rows), size), dtype=np.int8)
    for row, found in enumerate(shown):
        items[row, : len(found)], mask[row, : len(found)] = encoder.item_positions(found), 1
    columns: Columns = {"items": items, "mask": mask}
    if encoder.n_features:
        columns["features"] = np.zeros((len(rows), size, encoder.n_features), dtype=np.float32)
        lengths = np.array([len(found) for found in shown], dtype=np.int64)
        for length in {*lengths.tolist()} - {0}:  # a query has as many candidates in every visit
            at = np.flatnonzero(lengths == length)
            visits = [_visit(rows[row], prefix, shown[row]) for row in at.tolist()]
            columns["features"][at, :length] = encoder.query(visits).features
    if histories is not None:
        columns["history"] = histories.astype(np.int32)
    return columns


def _visit(row: dict[str, Any], prefix: str, candidates: Sequence[str]) -> Visit:
    time: datetime = row["time"]
    return Visit(row["user_id"], time, candidates, row[prefix + "context"])
