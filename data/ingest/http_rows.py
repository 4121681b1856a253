"""Records that arrive one by one, over HTTP: the same checks, ids and scaling as for files. No Ray."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from data.fields import Scalar
from data.ingest.clean import clean, finish_events, finish_rejects
from data.ingest.lines import record_table
from data.nodes.node import NodeSpec
from data.nodes.scaler import Scaler
from data.schema import Event, Reject

OWN = frozenset(Event.model_fields)


def clean_records(
    records: Sequence[Mapping[str, object]], node: NodeSpec, scaler: Scaler | None = None, source: str = "http"
) -> list[Event | Reject | None]:
    """Clean records as an ingestion of them would, each on its own.

    Args:
        records: [N] decoded JSON objects with the node's headers as keys; other keys are ignored.
        node: the declaration.
        scaler: the node's stored scaler (`Archive.scaler`); None leaves the scaled values None.
        source: where they come from, for the rejects; their `row` is the position in `records`.

    Returns:
        [N]: what each record became, in order; None where it was dropped for a missing value.
    """
    cleaned = clean(record_table(records, node), node, source)
    results: list[Event | Reject | None] = [None] * len(records)
    events = finish_events(cleaned.events, node, scaler).to_pylist()
    for position, event in zip(cleaned.accepted.tolist(), events, strict=True):
        own = {name: value for name, value in event.items() if name in OWN}
        record = {name: _scalar(value) for name, value in event.items() if name not in OWN}
        results[position] = Event(node_id=node.name, record=record, **own)
    for reject in finish_rejects(cleaned.rejects, node).to_pylist():
        results[reject["row"]] = Reject(node_id=node.name, **reject)
    return results


def _scalar(value: Any) -> Scalar:
    scalar: Scalar = value.isoformat() if isinstance(value, datetime) else value
    return scalar
