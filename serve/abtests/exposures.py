"""What a test has shown whom, and what that earned, as columns: what `rl.evaluation` computes results from.

Log and archive are read as one. A row is an exposure: of interleaved slates two, one for each variant's slots. What is
shown to nobody (`shadow`, `apprentice`) is no exposure; `read_shadows` pairs it with what was shown.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic_core import from_json

from data.attribution.columns import Outcomes, attribute_columns, microseconds
from data.attribution.join import GRACE, attribute
from data.log.bulk import (
    decisions_between,
    decisions_of_test,
    divide,
    feedback_about,
    first_position,
    late_feedback,
)
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import SHADOW, shadowed_id
from serve.abtests.specification import UNSEEN
from serve.abtests.state import ABTestState

_ROWS = 20_000  # decisions whose feedback is read at a time
_WHOLE_ROWS = 2_000  # decisions that are read whole at a time
_COLUMNS = (
    *("decision_id", "user_id", "context", "slate", "deferred", "policy", "variant", "teams"),
    *("time", "loop", "abtest"),
)
_PAST = ("decision_id", "time", "loop", "user_id", "slate", "deferred", "objective", "mode")
_TIME = pa.timestamp("us", tz="UTC")
EXPOSURES = pa.schema(
    [
        ("seq", pa.int64()),
        ("time", _TIME),
        ("decision_id", pa.string()),
        ("unit", pa.string()),
        ("user_id", pa.string()),
        ("variant", pa.string()),
        ("policy", pa.string()),
        ("reward", pa.float64()),
        ("slots", pa.int32()),
        ("observed", pa.bool_()),
        ("closed", pa.bool_()),
    ]
)
"""The columns that all exposures have."""
PAST = pa.schema([("user_id", pa.string()), ("decisions", pa.int64()), ("reward", pa.float64())])
SHADOWS = pa.schema(
    [
        ("time", _TIME),
        ("decision_id", pa.string()),
        ("variant", pa.string()),
        ("policy_shown", pa.string()),
        ("shown", pa.string()),
        ("would", pa.string()),
        ("match", pa.bool_()),
        ("unit", pa.string()),
        ("reward", pa.float64()),
        ("closed", pa.bool_()),
        ("propensity", pa.float64()),
        ("probability", pa.float64()),
    ]
)
"""What a variant would have shown first beside what was shown, what that earned, and with which probability the one and
the other show it: null where the variant's distribution was not logged."""


def read_exposures(
    store: Store,
    state: ABTestState,
    spec: RewardSpec,
    *,
    now: datetime | None = None,
    until: datetime | None = None,
    after: int = 0,
    limit: int | None = None,
    kinds: Sequence[str] = (),
    segments: Sequence[str] = (),
) -> pa.Table:
    """Return the exposures of a test, in log order: `EXPOSURES`, and a column for each kind and segment. Blocks.

    Args:
        store: the log.
        state: of the test.
        spec: what feedback is worth: that of the test's objective.
        now: the time at which wait windows are open or closed; default: the log's own.
        until: exposures made from then on are left out; default: none are.
        after: a log position; only exposures after it.
        limit: the most decisions that are returned.
        kinds: of feedback: a column `kind:NAME` has the sum of the values of those that were reported in the window.
        segments: fields of the context: a column `context:NAME` has the value as text, or null.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    now = now or store.now()
    extra = [pa.field(f"kind:{kind}", pa.float64()) for kind in kinds]
    extra += [pa.field(f"context:{name}", pa.string()) for name in segments]
    schema = pa.schema([*EXPOSURES, *extra])
    if state.test.kind in UNSEEN:
        return schema.empty_table()
    until = until or now + timedelta(days=1)
    decisions = decisions_of_test(store, state.test.name, state.test.loop, state.begins, until, _COLUMNS, after, limit)
    late, tables = late_feedback(store), list[pa.Table]()
    names = {policy: variant for variant, policy in state.test.policies.items()}
    for at in range(0, decisions.num_rows, _ROWS):
        some = decisions[at : at + _ROWS]
        feedback = feedback_about(store, some, late)
        outcomes = attribute_columns(some, feedback, spec, now)
        tables.append(_rows(some, feedback, outcomes, spec, now, names, kinds, segments).cast(schema))
    return pa.concat_tables([schema.empty_table(), *tables])


def read_past(store: Store, state: ABTestState, spec: RewardSpec, *, days: float = 28.0) -> pa.Table:
    """Return what each user had earned a decision before a test began, `PAST`: all users, whatever answered. Blocks.

    Of log and archive only the days before the test are read.

    Args:
        store: the log.
        state: of the test.
        spec: what feedback is worth.
        days: before its first exposure.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    # What was decided within a wait of the beginning may have been influenced by it.
    until = state.begins - timedelta(seconds=min(spec.wait_s, 1e9))
    since = state.begins - timedelta(days=days)
    begin, end = (pa.scalar(time, _TIME) for time in (since, until))
    sums, counts = dict[str, float](), dict[str, int]()
    after, last_of_all = first_position(store, since) - 1, first_position(store, until)
    late = late_feedback(store, after, last_of_all)
    for first, last in divide(store, _ROWS, after, last_of_all):  # a clock that has jumped back is not followed
        some = decisions_between(store, first, last, _PAST, state.test.loop)
        at = pc.field("time")
        some = some.filter((at >= begin) & (at < end) & (pc.field("objective") == state.test.objective))
        some = some.filter(pc.field("user_id").is_valid() & (pc.field("mode") != "log"))
        if not some.num_rows:
            continue
        outcomes = attribute_columns(some, feedback_about(store, some, late), spec, state.begins)
        for user, reward in zip(some["user_id"].to_pylist(), outcomes.reward.tolist(), strict=True):
            sums[user], counts[user] = sums.get(user, 0.0) + reward, counts.get(user, 0) + 1
    means = [sums[user] / counts[user] for user in sums]
    return pa.table({"user_id": list(sums), "decisions": list(counts.values()), "reward": means}, schema=PAST)


def read_shadows(
    store: Store,
    state: ABTestState,
    spec: RewardSpec | None = None,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> pa.Table:
    """Return what variants would have shown first beside what was, `SHADOWS`, in log order. Blocks.

    Args:
        store: the log.
        state: of the test.
        spec: what feedback is worth: of the first slot.
        since: when the decisions were made that are read; default: from the test's beginning.
        until: the end of that time; default: all.

    Raises:
        StoreError, DataError: log or archive cannot be read.
    """
    begin, end = since or state.begins, until or store.now() + timedelta(days=1)
    columns, spec = ("decision_id", "variant", "slate", "candidates", "probabilities"), spec or RewardSpec()
    shadows = decisions_of_test(store, state.test.name, SHADOW, begin, end, columns)
    tables = [SHADOWS.empty_table()]
    for at in range(0, shadows.num_rows, _WHOLE_ROWS):
        rows = list(_pair(store, shadows[at : at + _WHOLE_ROWS].select(["time", *columns]).to_pylist(), spec))
        tables.append(pa.Table.from_pylist(rows, schema=SHADOWS))
    return pa.concat_tables(tables)


def _pair(store: Store, shadows: Sequence[Mapping[str, Any]], spec: RewardSpec) -> Iterator[dict[str, object]]:
    ids = [shadowed_id(row["variant"], row["decision_id"]) for row in shadows]
    shown, feedback, now = store.decisions_by_id({*ids}), store.feedback_of({*ids}), store.now()
    for row, decision_id in zip(shadows, ids, strict=True):
        decision = shown.get(decision_id)
        if decision is None or not decision.slate or not row["slate"]:
            continue
        first = decision.slate[0]
        outcome = attribute(decision, feedback.get(decision_id, ()), spec, now)
        known = dict(zip(row["candidates"], row["probabilities"], strict=False))
        yield {
            "time": row["time"],
            "decision_id": decision_id,
            "variant": row["variant"],
            "policy_shown": decision.policy,
            "shown": first,
            "would": row["slate"][0],
            "match": first == row["slate"][0],
            "unit": decision.user_id or decision_id,
            "reward": outcome.rewards[0] if outcome.rewards else 0.0,
            "closed": outcome.closed,
            "propensity": decision.propensities[0],
            "probability": known.get(first, 0.0) if known else None,
        }


def _rows(
    decisions: pa.Table,
    feedback: pa.Table,
    outcomes: Outcomes,
    spec: RewardSpec,
    now: datetime,
    variants: Mapping[str, str],
    kinds: Sequence[str],
    segments: Sequence[str],
) -> pa.Table:
    """Return the exposures that decisions are. N decisions, S slots of all of them."""
    n = decisions.num_rows
    open_us = int((min(spec.wait_s, 1e9) + GRACE.total_seconds()) * 1e6)
    now_us = int(pa.scalar(now, _TIME).value)
    columns: dict[str, Any] = {
        "seq": decisions["seq"],
        "time": decisions["time"],
        "decision_id": decisions["decision_id"],
        "unit": pc.coalesce(decisions["user_id"], decisions["decision_id"]),
        "user_id": decisions["user_id"],
        "variant": decisions["variant"],
        "policy": decisions["policy"],
        "reward": outcomes.reward,
        "slots": np.diff(outcomes.offsets),
        "observed": outcomes.observed,
        "closed": now_us - microseconds(decisions["time"]) > open_us,
    }
    for kind in kinds:
        columns[f"kind:{kind}"] = _sum_of_kind(decisions, feedback, kind, spec)
    contexts = [from_json(text) for text in decisions["context"].to_pylist()] if segments else []
    for name in segments:
        values = (context.get(name) for context in contexts)
        columns[f"context:{name}"] = pa.array([None if v is None else str(v) for v in values], pa.string())
    table = pa.table(columns)
    both = pc.equal(pc.list_value_length(decisions["teams"]), 0).combine_chunks()
    if pc.all(both).as_py() in (True, None):
        return table
    return _by_team(table, decisions["teams"].to_pylist(), outcomes, variants, n)


def _by_team(
    table: pa.Table, teams: Sequence[Sequence[str]], outcomes: Outcomes, variants: Mapping[str, str], n: int
) -> pa.Table:
    """Return a row for each variant of the decisions that two have filled together, and the others as they are."""
    rows, alone = list[tuple[int, str | None, float, int]](), table["variant"].to_pylist()
    for at in range(n):
        begin, end = outcomes.offsets[at], outcomes.offsets[at + 1]
        if not teams[at]:
            rows.append((at, alone[at], float(outcomes.reward[at]), int(end - begin)))
            continue
        of_slots = list(zip(teams[at], outcomes.rewards[begin:end].tolist(), strict=False))  # some may be unseen
        for policy, variant in variants.items():
            own = [one for team, one in of_slots if team == policy]
            rows.append((at, variant, sum(own), len(own)))
    places, named, reward, slots = zip(*rows, strict=True)
    taken = table.take(pa.array(places, pa.int64()))
    for name, values in (("reward", reward), ("slots", slots), ("variant", named)):
        taken = taken.set_column(taken.column_names.index(name), name, pa.array(values, EXPOSURES.field(name).type))
    return taken


def _sum_of_kind(decisions: pa.Table, feedback: pa.Table, kind: str, spec: RewardSpec) -> NDArray[np.float64]:
    """Return the sums [N] of the values of one kind of feedback that was received within the wait."""
    row = np.searchsorted(decisions["seq"].to_numpy(), feedback["decision_seq"].to_numpy())
    age_s = (microseconds(feedback["received_at"]) - microseconds(decisions["time"])[row]) / 1e6
    value = feedback["value"].to_numpy()
    counts = (np.abs(age_s) <= spec.wait_s) & np.isfinite(value)
    counts &= np.asarray(pc.equal(feedback["kind"], kind)) & np.asarray(
        pc.equal(feedback["loop"], pc.take(decisions["loop"], pa.array(row)))
    )
    sums = np.zeros(decisions.num_rows)
    np.add.at(sums, row[counts], value[counts])
    return sums
