"""Reports of clients as records of the log, and what became of each as the client is told."""

from collections.abc import Iterator
from hashlib import blake2b

from data.log.insertion.appender import Stored
from data.nodes.node import NodeSpec
from data.schema import LOOP_V1, Event, Feedback, Reject
from serve.contracts.reports import EventResult, FeedbackRequest, FeedbackResult
from serve.decisions.retries import compare_event, compare_report


def to_feedback(report: FeedbackRequest) -> Feedback:
    """Return the record of a report."""
    # Not validated again: the request was.
    return Feedback.model_construct(
        feedback_id=report.feedback_id or _content_id(report),
        decision_id=report.decision_id,
        loop=LOOP_V1,
        item_id=report.item_id,
        kind=report.kind,
        value=report.value if report.weight is None else report.value * report.weight,
        time=report.time,
        received_at=None,
    )


def feedback_result(sent: Feedback, row: Stored) -> FeedbackResult:
    """Return what became of a report, given what the log has by its id."""
    held = row.record
    assert isinstance(held, Feedback), "as what was committed"
    if not row.inserted and (fields := compare_report(sent, held)):
        return FeedbackResult(feedback_id=sent.feedback_id, status="conflict", orphan=False, differs=fields)
    status = "stored" if row.inserted else "known"
    return FeedbackResult(feedback_id=sent.feedback_id, status=status, orphan=row.orphan, position=row.seq)


def event_result(record: Event | Reject | None, stored: Iterator[Stored], node: NodeSpec) -> EventResult:
    """Return what became of a row, given what it was cleaned to; takes what the log has of it from `stored`."""
    match record:
        case None:
            return EventResult(status="dropped")
        case Event():
            row = next(stored)
            assert isinstance(row.record, Event), "as what was committed"
            if not row.inserted and (fields := compare_event(record, row.record, node)):
                return EventResult(status="conflict", event_id=record.event_id, differs=fields)
            return EventResult(status="stored" if row.inserted else "known", event_id=record.event_id)
        case Reject():
            next(stored)
            return EventResult(status="rejected", rule=record.rule, value=record.value)


def _content_id(report: FeedbackRequest) -> str:
    """Name a report by what it says: sent twice, it counts once."""
    return blake2b(report.model_dump_json().encode(), digest_size=16).hexdigest()
