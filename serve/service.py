"""What one replica does with a request: decide, commit, answer. No Ray, no HTTP: the routes call it, tests do too."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from uuid import uuid4

from data.node import NodeSpec
from data.records import clean_records
from data.scaler import Scaler
from data.schema import Decision, Event, Feedback, Reject
from data.store import Stored
from data.tables import AnyRecord
from data.writer import GroupCommitWriter
from serve.recommender import Ask, Recommender
from serve.schemas import (
    EventResult,
    EventsRequest,
    EventsResponse,
    FeedbackRequest,
    FeedbackResponse,
    FeedbackResult,
    Health,
    PolicyVersion,
    RecommendedItem,
    RecommendRequest,
    RecommendResponse,
)


class UnknownNode(LookupError):  # noqa: N818 - an answer to the client, not a mistake of ours
    """A request names a node that this service does not take events of."""


class Service:
    """Everything is answered after its commit, so what was answered is never lost."""

    def __init__(
        self,
        recommender: Recommender,
        writer: GroupCommitWriter,
        nodes: Mapping[str, tuple[NodeSpec, Scaler | None]],
        replica: str = "local",
    ) -> None:
        self.recommender, self._writer, self._nodes, self._replica = recommender, writer, nodes, replica

    async def recommend(self, request: RecommendRequest) -> RecommendResponse:
        """Decide and log; for a known decision id return the logged decision.

        Raises:
            PolicyError: the request cannot be answered by the served policies.
            StoreError: the decision could not be committed.
        """
        learned_through = self.recommender.learned_through
        ask = Ask(
            decision_id=request.decision_id or uuid4().hex,
            time=datetime.now(UTC),
            k=request.k,
            user_id=request.user_id,
            context=request.context,
            candidates=request.candidates,
            exclude=request.exclude,
            policy=request.policy,
        )
        (stored,) = await self._commit([self.recommender.decide(ask)])
        decision = stored.record
        assert isinstance(decision, Decision)
        slots = zip(decision.slate, decision.scores, decision.propensities, strict=True)
        return RecommendResponse(
            decision_id=decision.decision_id,
            items=[RecommendedItem(item_id=item, score=score, propensity=p) for item, score, p in slots],
            policy=PolicyVersion(name=decision.policy, version=decision.policy_version),
            learned_through=learned_through,
        )

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """Log feedback; the learner will find it there.

        Raises:
            StoreError: it could not be committed; none of it was.
        """
        records = [
            Feedback(**{**report.model_dump(), "feedback_id": report.feedback_id or _content_id(report)})
            for report in reports
        ]
        stored = await self._commit(records)
        results = [
            FeedbackResult(
                feedback_id=record.feedback_id,
                status="stored" if row.inserted else "known",
                orphan=row.orphan,
                position=row.seq,
            )
            for record, row in zip(records, stored, strict=True)
        ]
        return FeedbackResponse(results=results)

    async def events(self, request: EventsRequest) -> EventsResponse:
        """Check rows by the node's rules, as an ingestion of files does, and log events and rejects.

        Raises:
            UnknownNode: events of this node are not taken here.
            StoreError: they could not be committed; none of them was.
        """
        if request.node not in self._nodes:
            raise UnknownNode(f"node {request.node!r} is not taken here; taken are {', '.join(self._nodes)}")
        node, scaler = self._nodes[request.node]
        cleaned = clean_records(request.records, node, scaler)
        stored = iter(await self._commit([record for record in cleaned if record is not None]))
        return EventsResponse(results=[_event_result(record, stored) for record in cleaned])

    def health(self) -> Health:
        """Say which versions this replica answers with."""
        versions = [PolicyVersion(name=name, version=self.recommender.version(name)) for name in self.recommender.names]
        learned_through = self.recommender.learned_through
        return Health(replica=self._replica, policies=versions, learned_through=learned_through)

    async def _commit(self, records: Sequence[AnyRecord]) -> list[Stored]:
        return await asyncio.wrap_future(self._writer.submit(records))


def _event_result(record: Event | Reject | None, stored: Iterator[Stored]) -> EventResult:
    match record:
        case None:
            return EventResult(status="dropped")
        case Event():
            status = "stored" if next(stored).inserted else "known"
            return EventResult(status=status, event_id=record.event_id)
        case Reject():
            next(stored)
            return EventResult(status="rejected", rule=record.rule, value=record.value)


def _content_id(report: FeedbackRequest) -> str:
    """Name a report by what it says: sent twice, it counts once."""
    return blake2b(report.model_dump_json().encode(), digest_size=16).hexdigest()
