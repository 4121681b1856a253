"""Where a training gets its experience: a node's events, a generated market, or the log. Needs pyarrow."""

from datetime import datetime
from functools import reduce
from operator import and_

import numpy as np
import pyarrow as pa
import pyarrow.dataset as pads

from data.archive import read_events
from data.attribution import Outcome, join
from data.clean import clean, finish_events
from data.errors import DataError
from data.node import load_node
from data.schema import RewardSpec
from data.store import Store
from rl.simulators.generated import generate_transactions
from rl.simulators.market import Market

_PURCHASE_COLUMNS = ["event_id", "user_id", "item_id", "time", "outcome", "session", "unit_price"]


def archived_events(
    archive_uri: str, node: str, before: datetime | None = None, since: datetime | None = None
) -> pa.Table:
    """Return a node's ingested purchase events, by event id so that equal content gives equal features.

    Raises:
        DataError: nothing of the node was ingested into the archive (in that time), or it has no purchases.
    """
    dataset = read_events(archive_uri, load_node(node))
    missing = sorted(set(_PURCHASE_COLUMNS) - set(dataset.schema.names))
    if missing:
        raise DataError(f"node {node} has no column {', '.join(missing)}: its events are not purchases")
    bounds = [pads.field("time") < before] if before else []
    bounds += [pads.field("time") >= since] if since else []
    events = dataset.to_table(columns=_PURCHASE_COLUMNS, filter=reduce(and_, bounds) if bounds else None)
    if not events.num_rows:
        raise DataError(f"{archive_uri} has no events of node {node} in that time; ingest some with data.ingest first")
    return events.sort_by("event_id")


def generated_events(market: Market, invoices: int, rng: np.random.Generator) -> pa.Table:
    """Return a year of a generated market's purchases, checked by the same rules as ingested ones."""
    raw = pa.Table.from_pandas(generate_transactions(market, invoices, rng), preserve_index=False)
    node = load_node("online_retail")
    events = finish_events(clean(raw, node, source="generated").events, node, scaler=None)
    return events.select(_PURCHASE_COLUMNS).group_by(_PURCHASE_COLUMNS).aggregate([]).sort_by("event_id")


def logged_outcomes(store: Store, spec: RewardSpec, now: datetime) -> list[Outcome]:
    """Return what is due for learning in the log, in log order."""
    decisions = [decision for _, decision in store.decisions()]
    feedback = store.feedback_of([decision.decision_id for decision in decisions])
    return [outcome for outcome in join(decisions, feedback, spec, now) if outcome.due]
