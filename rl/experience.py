"""Where a training gets its experience: a node's events, a generated market, or the log. Needs pyarrow."""

from datetime import datetime, timedelta
from functools import reduce
from operator import and_
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.archive import read_events
from data.attribution import GRACE, Outcome, join
from data.clean import clean, finish_events
from data.errors import DataError
from data.node import load_node
from data.schema import RewardSpec
from data.settings import Settings
from data.store import Store
from rl.simulators.generated import generate_transactions
from rl.simulators.market import Market

_PURCHASE_COLUMNS = ["event_id", "user_id", "item_id", "time", "outcome", "session", "unit_price"]


def purchase_events(
    settings: Settings, node: str, before: datetime | None = None, since: datetime | None = None
) -> pa.Table:
    """Return a node's purchase events, those ingested from files and those that came over HTTP read as one.

    They are ordered by event id, so that equal content gives equal features.

    Raises:
        DataError: there is no event of the node (in that time), or its events are no purchases.
    """
    dataset = read_events(settings.archive_uri, load_node(node))
    missing = sorted(set(_PURCHASE_COLUMNS) - set(dataset.schema.names))
    if missing:
        raise DataError(f"node {node} has no column {', '.join(missing)}: its events are not purchases")
    archived = dataset.to_table(columns=_PURCHASE_COLUMNS)
    schema = pa.schema([dataset.schema.field(name) for name in _PURCHASE_COLUMNS])
    known = set(archived["event_id"].to_pylist()) if (logged := _logged_events(settings, node)) else set()
    new = [event for event in logged if event["event_id"] not in known]
    events = pa.concat_tables([archived.cast(schema), pa.Table.from_pylist(new, schema)])
    bounds = [pc.field("time") < before] if before else []
    bounds += [pc.field("time") >= since] if since else []
    if bounds:
        events = events.filter(reduce(and_, bounds))
    if not events.num_rows:
        where = f"{settings.archive_uri} and the log have"
        raise DataError(f"{where} no events of node {node} in that time; ingest some with data.ingest first")
    return events.sort_by("event_id")


def _logged_events(settings: Settings, node: str) -> list[dict[str, Any]]:
    store = Store.open(settings.store_url)
    try:
        logged = [{**event.record, **event.model_dump(exclude={"record"})} for _, event in store.events(node)]
    finally:
        store.close()
    return [{name: event.get(name) for name in _PURCHASE_COLUMNS} for event in logged]


def generated_events(market: Market, invoices: int, rng: np.random.Generator) -> pa.Table:
    """Return a year of a generated market's purchases, checked by the same rules as ingested ones."""
    raw = pa.Table.from_pandas(generate_transactions(market, invoices, rng), preserve_index=False)
    node = load_node("online_retail")
    events = finish_events(clean(raw, node, source="generated").events, node, scaler=None)
    return events.select(_PURCHASE_COLUMNS).group_by(_PURCHASE_COLUMNS).aggregate([]).sort_by("event_id")


def logged_outcomes(store: Store, spec: RewardSpec, until: datetime) -> list[Outcome]:
    """Return what v1's decisions made until then have earned, in log order; their windows must have closed.

    Raises:
        DataError: there is no such decision.
    """
    logged = store.decisions(loop="v1")
    decisions = [decision for _, decision in logged if decision.time <= until and decision.mode != "log"]
    if not decisions:
        raise DataError(
            f"the log has no decision from before {until:%Y-%m-%d %H:%M:%S} UTC, which is when the last wait window of "
            f"{spec.wait_s:g} s has closed: serve some first, wait, or give a shorter --reward.wait_s"
        )
    feedback = store.feedback_of([decision.decision_id for decision in decisions])
    closed = until + timedelta(seconds=spec.wait_s) + GRACE
    return list(join(decisions, feedback, spec, closed))
