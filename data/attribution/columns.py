"""Attribution of whole tables: what `data.attribution.join` gives for one decision, for many at once, bit by bit.

Letters in comments: N decisions, S slots of all of them, M reports.
"""

from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.fields import to_us
from data.schema import ACTIVATE, RewardSpec

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcomes:
    """What decisions have earned, in their order."""

    offsets: Ints
    """[N + 1] where the slots of each begin among all."""
    rewards: Floats
    """[S] of each slot."""
    reward: Floats
    """[N] the sum over the slots."""
    due: Bools
    """[N] whether to learn from it now."""


def attribute_columns(decisions: pa.Table, feedback: pa.Table, spec: RewardSpec, now: datetime) -> Outcomes:
    """Give each slot of each decision its reward; see `data.attribution.join.attribute`.

    Args:
        decisions: `seq`, `time`, `loop`, `slate`, `deferred`, in the order of `seq`; slots have no names of their own.
        feedback: `seq`, `decision_seq`, `loop`, `item_id`, `kind`, `value`, `received_at` of reports about some of
            them, in the order of `seq`, each once.
        spec: what feedback is worth.
        now: the time at which windows are open or closed.
    """
    slates = _flat(decisions["slate"])
    offsets, n = slates[0], decisions.num_rows
    times = microseconds(decisions["time"])
    closed = (to_us(now) - times) / 1e6 > spec.wait_s
    row = np.searchsorted(decisions["seq"].to_numpy(), feedback["decision_seq"].to_numpy())  # [M]
    value: Floats = feedback["value"].to_numpy()
    in_time = np.abs(microseconds(feedback["received_at"]) - times[row]) / 1e6 <= spec.wait_s
    loops = pc.take(decisions["loop"], pa.array(row))
    valid = in_time & np.isfinite(value) & np.asarray(pc.equal(feedback["loop"], loops))
    kinds = feedback["kind"].combine_chunks().dictionary_encode()
    names, kind = kinds.dictionary.to_pylist(), np.asarray(kinds.indices)
    activates = np.array([name == ACTIVATE for name in names], bool)[kind] if names else np.zeros(0, bool)
    active = ~np.asarray(decisions["deferred"].combine_chunks().to_numpy(zero_copy_only=False), bool)
    active[row[valid & activates]] = True
    weights = np.array([spec.weights.get(name, np.nan) if name != ACTIVATE else np.nan for name in names])
    weight = weights[kind] if names else np.zeros(0)
    slot = _slots(slates, feedback["item_id"], row)
    counts = valid & ~np.isnan(weight) & (slot >= 0)
    rewards = _aggregate(slot[counts], (weight * value)[counts], len(slates[1]), spec)
    observed = np.zeros(n, bool)
    observed[row[counts]] = True
    of = np.repeat(np.arange(n), np.diff(offsets))
    due = active & (np.diff(offsets) > 0) & (observed | closed)
    return Outcomes(offsets, rewards, sum_in_order(of, rewards, n), due)


def sum_in_order(of: Ints, values: Floats, n: int) -> Floats:
    """Return the sums [n] of values that belong to rows, added in their order, as Python adds them."""
    sums = np.zeros(n)
    np.add.at(sums, of, values)
    return sums


def microseconds(times: pa.ChunkedArray) -> Ints:
    """Return times as microseconds since 1970 UTC."""
    us: Ints = times.cast(pa.int64()).to_numpy()
    return us


def _flat(slates: pa.ChunkedArray) -> tuple[Ints, pa.Array]:
    """Return where each list begins among the items of all, and these."""
    array = slates.combine_chunks() if isinstance(slates, pa.ChunkedArray) else slates
    offsets = np.concatenate([[0], np.cumsum(pc.list_value_length(array).to_numpy())]).astype(np.int64)
    return offsets, array.flatten()


def _slots(slates: tuple[Ints, pa.Array], items: pa.ChunkedArray, row: Ints) -> Ints:
    """Return the slot [M] among all that each report is about; -1: its item was not shown."""
    offsets, shown = slates
    reported = items.combine_chunks()
    codes = pa.concat_arrays([shown, reported]).dictionary_encode().indices
    codes = np.asarray(codes.fill_null(-1), dtype=np.int64)
    width = int(codes.max(initial=0)) + 1
    of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    keys, first = np.unique(of * width + codes[: len(shown)], return_index=True)  # of an item twice, the first slot
    wanted = row * width + codes[len(shown) :]
    place = np.searchsorted(keys, wanted)
    place[place == len(keys)] = 0
    found = keys[place] == wanted if len(keys) else np.zeros(len(wanted), bool)
    slot = np.where(found, first[place], -1) if len(keys) else np.full(len(wanted), -1)
    unnamed = codes[len(shown) :] < 0
    has_slots = np.diff(offsets)[row] > 0
    return np.where(unnamed, np.where(has_slots, offsets[row], -1), slot).astype(np.int64)


def _aggregate(slot: Ints, values: Floats, n: int, spec: RewardSpec) -> Floats:
    """Return the reward [S] of each slot, given the values of reports about slots, in log order."""
    count = np.bincount(slot, minlength=n)
    match spec.aggregation:
        case "sum" | "mean":
            rewards = sum_in_order(slot, values, n)
            if spec.aggregation == "mean":
                rewards = rewards / np.maximum(count, 1)
        case "max" | "min":
            worst = -np.inf if spec.aggregation == "max" else np.inf
            rewards = np.full(n, worst)
            (np.maximum if spec.aggregation == "max" else np.minimum).at(rewards, slot, values)
        case "first":
            rewards = np.zeros(n)
            rewards[slot[::-1]] = values[::-1]
        case "median":
            rewards = np.zeros(n)
            order = np.argsort(slot, kind="stable")
            for group in np.split(order, np.flatnonzero(np.diff(slot[order])) + 1):
                if len(group):
                    rewards[slot[group[0]]] = median(values[group].tolist())
    bounded: Any = np.where(count > 0, np.clip(rewards, -spec.limit, spec.limit), spec.default)
    return np.asarray(bounded, dtype=np.float64)
