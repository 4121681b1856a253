"""Attribution of whole tables: what `data.attribution.join` gives for one decision, for many at once, bit by bit.

Letters in comments: N decisions, S slots of all of them, M reports.
"""

from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any, Final, TypeAlias, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from data.attribution.join import GRACE, Case, decay
from data.fields import MICROSECOND, to_us
from data.reward import RewardSpec
from data.schema import ACTIVATE

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]
Bools: TypeAlias = NDArray[np.bool_]


CASES: Final = get_args(Case)


@dataclass(frozen=True)
class Outcomes:
    """What decisions have earned, in their order."""

    offsets: Ints
    """[N + 1] where the slots of each begin among all: from the first to the last that the user saw."""
    rewards: Floats
    """[S] of each slot."""
    reward: Floats
    """[N] the sum over the slots."""
    due: Bools
    """[N] whether to learn from it now."""
    observed: Bools
    """[N] whether some feedback counts."""
    cases: Ints
    """[M] what each report was: a position in `CASES`."""

    def count(self) -> dict[str, int]:
        """Return how many reports were what, and of how many decisions that are due none counts: `missing`."""
        counts = np.bincount(self.cases, minlength=len(CASES)).tolist()
        missing = int((self.due & ~self.observed).sum())
        return dict(zip(CASES, counts, strict=True)) | {"missing": missing}


def attribute_columns(decisions: pa.Table, feedback: pa.Table, spec: RewardSpec, now: datetime) -> Outcomes:
    """Give each slot of each decision its reward; see `data.attribution.join.attribute`.

    Args:
        decisions: `seq`, `decision_id`, `time`, `loop`, `slate`, `deferred`, in the order of `seq`; in `slate` the
            names of the slots where a decision's slots have names of their own.
        feedback: `seq`, `decision_seq`, `decision_id`, `loop`, `item_id`, `kind`, `value`, `time`, `received_at` of
            reports about them, in the order of `seq`, each once.
        spec: what feedback is worth.
        now: the time at which windows are open or closed.

    Raises:
        ValueError: there is feedback of another decision.
    """
    slates = _flat(decisions["slate"])
    offsets, n = slates[0], decisions.num_rows
    lengths, times = np.diff(offsets), microseconds(decisions["time"])
    closed = (to_us(now) - times) / 1e6 > spec.wait_s
    row = _rows(decisions, feedback)  # [M]
    value: Floats = feedback["value"].to_numpy()
    age_s = (microseconds(feedback["received_at"]) - times[row]) / 1e6
    in_time, finite = np.abs(age_s) <= spec.wait_s, np.isfinite(value)
    valid = in_time & finite & np.asarray(pc.equal(feedback["loop"], pc.take(decisions["loop"], pa.array(row))))
    kinds = feedback["kind"].combine_chunks().dictionary_encode()
    names, kind = kinds.dictionary.to_pylist(), np.asarray(kinds.indices)
    activates = valid & _is_one(kind, names, ACTIVATE)
    active = ~np.asarray(decisions["deferred"].combine_chunks().to_numpy(zero_copy_only=False), bool)
    active[row[activates]] = True
    weights = np.array([spec.weights.get(name, np.nan) if name != ACTIVATE else np.nan for name in names])
    weight = weights[kind] if names else np.zeros(0)
    slot, known = _slots(slates, feedback["item_id"], row), valid & ~np.isnan(weight)
    counts = known & (slot >= 0)
    observed = np.zeros(n, bool)
    observed[row[counts]] = True
    seen = lengths
    if spec.seen_by is not None:
        tells = counts & _is_one(kind, names, spec.seen_by)
        whole = tells & ~np.asarray(feedback["item_id"].combine_chunks().is_valid())
        seen = _count_seen(lengths, row, np.where(whole, lengths[row] - 1, slot - offsets[row]), counts, tells)
    worth = (weight * value)[counts]
    if spec.half_life_s is not None:
        worth *= [decay(age, spec.half_life_s) for age in age_s[counts].tolist()]
    if spec.credit == "slate":
        rewards = np.repeat(_aggregate(row[counts], worth, n, spec) / np.maximum(seen, 1), seen)
    else:
        rewards = _aggregate(slot[counts], worth, len(slates[1]), spec)
        if spec.seen_by is not None:
            rewards = rewards[np.arange(len(rewards)) - np.repeat(offsets[:-1], lengths) < np.repeat(seen, lengths)]
    offsets = np.concatenate([[0], np.cumsum(seen)]).astype(np.int64)
    skewed = _are_skewed(times[row], feedback)
    judged = {
        "not_a_number": ~finite,
        "late": ~in_time,
        "activation": activates,
        "unknown_kind": ~known,
        "not_in_slate": ~counts,
        "reordered": age_s < 0,
        "clock_skew": skewed,
    }
    cases = np.select(list(judged.values()), [CASES.index(case) for case in judged], CASES.index("counted"))
    due = active & (seen > 0) & (observed | closed)
    reward = sum_in_order(np.repeat(np.arange(n), seen), rewards, n)
    return Outcomes(offsets, rewards, reward, due, observed, cases.astype(np.int64))


def _rows(decisions: pa.Table, feedback: pa.Table) -> Ints:
    """Return the row [M] of the decision that each report is about.

    Raises:
        ValueError: a report is about another: rewards are joined to the decision that earned them, or not at all.
    """
    # By position, which is fast; that it is the decision of this name, whoever has joined them, is checked.
    seqs, about = decisions["seq"].to_numpy(), feedback["decision_seq"].to_numpy()
    row = np.searchsorted(seqs, about)
    there = row < len(seqs)
    there[there] = seqs[row[there]] == about[there]
    if not there.all():
        raise ValueError(
            f"expected feedback of the decisions that are given, got {int((~there).sum())} reports of others "
            f"(first: of the decision at position {about[~there][0]})"
        )
    named = np.asarray(pc.equal(feedback["decision_id"], pc.take(decisions["decision_id"], pa.array(row))))
    if not named.all():
        first = int(np.argmin(named))
        expected, found = decisions["decision_id"][int(row[first])], feedback["decision_id"][first]
        raise ValueError(f"expected feedback of decision {expected}, got of {found}")
    return np.asarray(row, dtype=np.int64)


def _is_one(kind: Ints, names: list[str], name: str) -> Bools:
    """Say which reports [M] are of a kind."""
    return kind == names.index(name) if name in names else np.zeros(len(kind), bool)


def _count_seen(lengths: Ints, row: Ints, place: Ints, counts: Bools, tells: Bools) -> Ints:
    """Return how many slots [N] of each decision the user saw; see `RewardSpec.seen_by`.

    Args:
        lengths: [N] of the slates.
        row: [M] whose report it is.
        place: [M] the slot of its slate that it is about, or the last one.
        counts: [M] whether it counts.
        tells: [M] whether it tells how far the user saw.
    """
    lowest, told = np.full(len(lengths), -1), np.zeros(len(lengths), bool)
    np.maximum.at(lowest, row[counts], place[counts])
    told[row[tells]] = True
    return np.where(told, lowest + 1, lengths)


def _are_skewed(made: Ints, feedback: pa.Table) -> Bools:
    """Say which reports [M] cannot have happened when they did by the reporter's clock; `made` is their decisions'."""
    grace = GRACE // MICROSECOND
    stated = np.asarray(feedback["time"].combine_chunks().is_valid())
    happened = microseconds(pc.fill_null(feedback["time"].cast(pa.int64()), 0))
    return stated & ((made - happened > grace) | (happened - microseconds(feedback["received_at"]) > grace))


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
