"""Transitions of the whole log in bulk, archived days and open ones: as a Ray dataset, in memory that does not grow.

Each task reads a range of positions: its decisions, what was reported about them, and where rewards have a future the
decisions around it. What comes out is what `data.attribution.transitions` makes of the same decisions one by one.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray.data
from numpy.typing import NDArray
from ray.data import ExecutionResources

from data.attribution.columns import Outcomes, attribute_columns, microseconds
from data.attribution.join import GRACE, slot_names
from data.attribution.transitions import TRANSITION_SCHEMA
from data.cluster import quiet_ray_data
from data.log.archived.columns import to_records
from data.log.archived.reading import keep
from data.log.bulk import decisions_between, divide, feedback_about, late_feedback
from data.log.store import Store
from data.log.tables import DECISIONS
from data.reward import RewardSpec
from data.schema import LOOP_V1

_TASK_ROWS = 50_000
_AROUND_ROWS = 10_000
_IN_STORE = 256 << 20
"""Bytes of Ray's object store that rows may wait in for who learns from them."""
_READ = (
    *("decision_id", "time", "loop", "user_id", "context", "candidates", "slate", "propensities"),
    *("policy", "policy_version", "mode", "deferred", "slots"),
)
_AFTER = ["seq", "time", "user_id", "decision_id", "context", "candidates"]

REPORT = pa.struct(
    [
        ("item_id", pa.string()),
        ("kind", pa.string()),
        ("value", pa.float64()),
        ("received_at", pa.timestamp("us", tz="UTC")),
    ]
)
"""What was reported about a decision."""


@dataclass(frozen=True)
class TransitionQuery:
    """Which transitions, of what."""

    store: str
    """URL of the log."""
    spec: RewardSpec
    until: datetime
    """Decisions made later are left out; their windows must have closed."""
    loop: str = LOOP_V1
    discount: float = 0.0
    """Of the rewards. 0: there is no next decision."""
    reports: bool = False
    """Whether to have `reports` as well: what was reported about each decision, a list of `REPORT` in log order."""

    def __post_init__(self) -> None:
        """Check the discount.

        Raises:
            ValueError: it is outside [0, 1].
        """
        if not 0.0 <= self.discount <= 1.0:
            raise ValueError(f"discount must be in [0, 1], got {self.discount}")

    @property
    def schema(self) -> pa.Schema:
        """The columns of the transitions."""
        return TRANSITION_SCHEMA.append(pa.field("reports", pa.list_(REPORT))) if self.reports else TRANSITION_SCHEMA


def logged_transitions(query: TransitionQuery) -> ray.data.Dataset:
    """Return the transitions of all decisions of a loop that are due to be learned: `TRANSITION_SCHEMA`, in log order.

    Decisions in the mode `log` are left out. Uses the Ray that is running.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    return map_ranges(query, transitions_between)


def map_ranges(query: TransitionQuery, work: Callable[..., Iterator[pa.Table]]) -> ray.data.Dataset:
    """Return what a function makes of each range of positions, in their order."""
    store = Store.open(query.store)
    try:
        ranges, late = divide(store, _TASK_ROWS), late_feedback(store)
    finally:
        store.close()
    with quiet_ray_data():
        rows = pa.table({"first": [first for first, _ in ranges], "last": [last for _, last in ranges]})
        tasks = ray.data.from_arrow([rows[at : at + 1] for at in range(len(ranges))] or [rows])
        dataset = tasks.map_batches(
            partial(work, query=query, late=late), batch_size=1, batch_format="pyarrow", zero_copy_batch=True
        )
        options = dataset.context.execution_options
        options.preserve_order = True
        options.resource_limits = ExecutionResources(object_store_memory=_IN_STORE)
        return dataset


@cache
def _opened(url: str) -> Store:
    """Return the log, which a worker opens once."""
    return Store.open(url)


def transitions_between(ranges: pa.Table, query: TransitionQuery, late: NDArray[np.int64]) -> Iterator[pa.Table]:
    """Yield the transitions of the decisions in ranges of positions, as a task does.

    Args:
        ranges: `first` and `last` of each.
        query: what is asked for.
        late: as `data.log.bulk.late_feedback` returns it.
    """
    yield query.schema.empty_table()
    for decisions, feedback, outcomes in attribute_between(ranges, query, late):
        yield _make_rows(decisions, feedback, outcomes, query)


def attribute_between(
    ranges: pa.Table, query: TransitionQuery, late: NDArray[np.int64]
) -> Iterator[tuple[pa.Table, pa.Table, Outcomes]]:
    """Yield the decisions in each range that has some, what was reported about them, and what they have earned."""
    store = _opened(query.store)
    now = query.until + timedelta(seconds=query.spec.wait_s) + GRACE
    for first, last in zip(ranges["first"].to_pylist(), ranges["last"].to_pylist(), strict=True):
        decisions = _due(decisions_between(store, first, last, _READ, query.loop), query)
        if decisions.num_rows:
            feedback = feedback_about(store, decisions, late)
            yield decisions, feedback, attribute_columns(_name_slots(decisions), feedback, query.spec, now)


def _due(decisions: pa.Table, query: TransitionQuery) -> pa.Table:
    until = pa.scalar(query.until, pa.timestamp("us", tz="UTC"))
    return keep(decisions, (pc.field("mode") != "log") & (pc.field("time") <= until), ("mode", "time"))


def _name_slots(decisions: pa.Table) -> pa.Table:
    """Return decisions with the names of their slots in place of the slates, where they have names of their own."""
    slots = decisions["slots"].combine_chunks()
    named = np.flatnonzero(np.asarray(pc.fill_null(pc.not_equal(slots, "[]"), False))).tolist()
    if not named:
        return decisions
    place, slates = decisions.column_names.index("slate"), decisions["slate"].to_pylist()
    for at in named:
        for _, decision in to_records(DECISIONS, decisions[at : at + 1]):
            names = slot_names(decision)
            slates[at] = [*names, *("\0",) * (len(slates[at]) - len(names))]  # a slot without a name is none's
    return decisions.set_column(place, decisions.field(place), pa.array(slates, decisions.field(place).type))


def _make_rows(decisions: pa.Table, feedback: pa.Table, outcomes: Outcomes, query: TransitionQuery) -> pa.Table:
    """Return the transitions of decisions that follow each other in the log."""
    lengths = pc.list_value_length(decisions["propensities"].combine_chunks()).to_numpy()
    whole = np.ones(decisions.num_rows)
    of_slots = np.repeat(np.arange(decisions.num_rows), lengths)
    np.multiply.at(whole, of_slots, decisions["propensities"].combine_chunks().flatten().to_numpy())
    columns: dict[str, Any] = {name: decisions[name] for name in TRANSITION_SCHEMA.names if name in _READ}
    columns["reward"], columns["propensity"] = pa.array(outcomes.reward), pa.array(whole)
    columns["rewards"] = pa.ListArray.from_arrays(pa.array(outcomes.offsets, pa.int32()), pa.array(outcomes.rewards))
    columns |= _following(_opened(query.store), decisions, query)
    if query.reports:
        columns["reports"] = _group_reports(decisions, feedback)
    table = pa.table([columns[name] for name in query.schema.names], query.schema.names).cast(query.schema)
    return table if outcomes.due.all() else table.filter(pa.array(outcomes.due))  # most often all are: no copy then


def _group_reports(decisions: pa.Table, feedback: pa.Table) -> pa.Array:
    """Return what was reported about each decision, in log order."""
    about = feedback["decision_seq"].to_numpy()
    order = np.argsort(about, kind="stable")
    ends = np.searchsorted(about[order], decisions["seq"].to_numpy(), side="right")
    fields = [feedback[field.name].combine_chunks().take(pa.array(order)).cast(field.type) for field in REPORT]
    offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(fields, fields=list(REPORT)))


def _following(store: Store, decisions: pa.Table, query: TransitionQuery) -> dict[str, Any]:
    """Return the columns of what follows each decision: the same user's next one in the session, if any."""
    n = decisions.num_rows
    if query.discount == 0.0:
        return {
            "next_decision_id": pa.nulls(n, pa.string()),
            "next_context": pa.nulls(n, pa.string()),
            "next_candidates": pa.nulls(n, pa.list_(pa.string())),
            "discount": pa.array(np.zeros(n)),
        }
    around = pa.concat_tables([decisions.select(_AFTER), *_around(store, decisions, query)])
    users = np.asarray(around["user_id"].combine_chunks().dictionary_encode().indices.fill_null(-1))
    times, seqs = microseconds(around["time"]), around["seq"].to_numpy()
    order = np.lexsort((seqs, times, users))
    here, after = order[:-1], order[1:]
    follows = (users[here] == users[after]) & (users[here] >= 0)
    follows &= (times[after] - times[here]) / 1e6 <= query.spec.session_gap_s
    next_row = np.full(len(order), -1)
    next_row[here[follows]] = after[follows]
    at = pa.array(next_row[:n], mask=next_row[:n] < 0)
    following = around.select(["decision_id", "context", "candidates"]).take(at)
    return {
        "next_decision_id": following["decision_id"],
        "next_context": following["context"],
        "next_candidates": following["candidates"],
        "discount": pa.array(np.where(next_row[:n] < 0, 0.0, query.discount)),
    }


def _around(store: Store, decisions: pa.Table, query: TransitionQuery) -> Iterator[pa.Table]:
    """Yield the decisions before and after some, as far as they may follow one of them: where clocks jump, before."""
    times, seqs = microseconds(decisions["time"]), decisions["seq"].to_numpy()
    latest = int(times.max()) + int(query.spec.session_gap_s * 1e6)
    read = partial(decisions_between, store, columns=(*_AFTER, "mode"), loop=query.loop)
    end = store.last_decision()
    for forward in (True, False):
        at = int(seqs[-1]) + 1 if forward else int(seqs[0]) - 1
        while 0 < at <= end:
            first, last = (at, at + _AROUND_ROWS - 1) if forward else (max(at - _AROUND_ROWS + 1, 1), at)
            some = read(first=first, last=last)
            of_some = microseconds(some["time"])
            yield _due(some, query).select(_AFTER)
            at = last + 1 if forward else first - 1
            if len(of_some) and (of_some.min() > latest if forward else of_some.max() < times.min()):
                break
