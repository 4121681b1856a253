"""Where a training gets its experience: a node's events, a generated market, or the log."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from data.archive.parquet import read_events
from data.attribution.join import GRACE, Outcome, join
from data.errors import DataError
from data.features.purchases import purchase_columns
from data.ingest.clean import clean, finish_events
from data.log.errors import StoreMissing
from data.log.following import last_feedback, whole_feedback
from data.log.store import Store
from data.log.unreadable import Fault, describe_error
from data.nodes.node import load_node
from data.reward import RewardSpec
from data.schema import LOOP_V1
from data.settings import Settings
from rl.simulators.market.generated import generate_transactions
from rl.simulators.market.market import Market


def purchase_events(
    settings: Settings, node: str, before: datetime | None = None, since: datetime | None = None
) -> pa.Table:
    """Return a node's events as `data.features.customers.fit` takes them, those ingested from files and over HTTP
    read as one.

    They are ordered by event id, so that equal content gives equal features. Events beyond the years 1 to 9999 are left
    out: archives from before such rows were rejected may have some.

    Args:
        settings: where archive and log are.
        node: name of a shipped declaration, or path of a TOML file.
        before: only events before this time.
        since: only events from this time on.

    Raises:
        DataError: there is no event of the node (in that time), or they do not say who took what when.
    """
    declared = load_node(node)
    columns = purchase_columns(declared)
    dataset = read_events(settings.archive_uri, declared)
    archived = dataset.to_table(columns={name: pc.field(stored) for name, stored in columns.items()})
    schema = pa.schema([(name, dataset.schema.field(stored).type) for name, stored in columns.items()])
    known = set(archived["event_id"].to_pylist()) if (logged := _logged_events(settings, declared.name)) else set()
    new = [
        {name: event.get(stored) for name, stored in columns.items()}
        for event in logged
        if event["event_id"] not in known
    ]
    events = pa.concat_tables([archived.cast(schema), pa.Table.from_pylist(new, schema)])
    since, before = since or datetime.min.replace(tzinfo=UTC), before or datetime.max.replace(tzinfo=UTC)
    events = events.filter((pc.field("time") >= since) & (pc.field("time") < before))
    if not events.num_rows:
        where = f"{settings.archive_uri} and the log have"
        raise DataError(f"{where} no events of node {declared.name} in that time; ingest some with data.ingest first")
    return events.sort_by("event_id")


def _logged_events(settings: Settings, node: str) -> list[dict[str, Any]]:
    try:
        store = Store.open(settings.store_url, make=False)
    except StoreMissing:  # all were ingested from files
        return []
    try:
        return [{**event.record, **event.model_dump(exclude={"record"})} for _, event in store.events(node)]
    finally:
        store.close()


def generated_events(market: Market, invoices: int, rng: np.random.Generator) -> pa.Table:
    """Return a year of a generated market's purchases, checked by the same rules as ingested ones."""
    raw = pa.Table.from_pandas(generate_transactions(market, invoices, rng), preserve_index=False)
    node = load_node("online_retail")
    events = finish_events(clean(raw, node, source="generated").events, node, scaler=None)
    columns = purchase_columns(node)
    purchases = events.select(list(columns.values())).rename_columns(list(columns))
    return purchases.group_by(list(columns)).aggregate([]).sort_by("event_id")


def logged_outcomes(
    store: Store,
    spec: RewardSpec,
    until: datetime,
    faults: list[Fault] | None = None,
    rows: int = 50_000,
    after: int = 0,
    loop: str = LOOP_V1,
) -> Iterator[list[Outcome]]:
    """Yield what a loop's decisions made until then have earned, in log order and some at a time, archived ones too.

    Args:
        store: the log.
        spec: what feedback is worth.
        until: decisions made later are left out; the windows of the others must have closed.
        faults: gets the rows that cannot be read back or judged: they are left out.
        rows: decisions that are in memory at a time.
        after: log position; only decisions after it.
        loop: whose decisions.

    Raises:
        DataError: there is no such decision.
    """
    faults, some = [] if faults is None else faults, False
    reports_until, closed = last_feedback(store, loop), until + timedelta(seconds=spec.wait_s) + GRACE
    while logged := store.decisions(after, rows, loop=loop, faults=faults):
        after = logged[-1][0]
        decisions = [(seq, decision) for seq, decision in logged if decision.time <= until and decision.mode != "log"]
        if not decisions:
            continue
        some, outcomes = True, list[Outcome]()
        positions = {decision.decision_id: seq for seq, decision in decisions}
        heard, unread = whole_feedback(store, loop, positions, reports_until)
        faults += unread
        feedback = {decision_id: [report for _, report in reports] for decision_id, reports in heard.items()}
        for seq, decision in decisions:
            try:
                outcomes += [replace(one, position=seq) for one in join([decision], feedback, spec, closed)]
            except Exception as error:  # whatever it is, it is this row's
                faults.append(Fault("decisions", seq, describe_error(error)))
        yield outcomes
    if not some:
        raise DataError(
            f"the log has no decision from before {until:%Y-%m-%d %H:%M:%S} UTC, which is when the last wait window of "
            f"{spec.wait_s:g} s has closed: serve some first, wait, or give a shorter --reward.wait_s"
        )
