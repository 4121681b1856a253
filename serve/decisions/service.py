"""What one replica does with a request: decide, commit, answer. No Ray, no HTTP: the routes call it, tests do too."""

import asyncio
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import TypeAlias

from pydantic import JsonValue

from data.feature_objects import FeatureError
from data.ingest.http_rows import clean_records
from data.log.catalogue_copy import Catalogue
from data.log.settings_table import reading
from data.log.store import Store, Stored
from data.log.users import (
    NOTHING,
    Past,
    get_user,
    past,
)
from data.log.writer.commit import Writer
from data.nodes.node import NodeSpec
from data.nodes.scaler import Scaler
from data.schema import (
    CONTEXT_TIME,
    LOOP_V1,
    AnyRecord,
    Decision,
    Event,
    Features,
    Feedback,
    Reject,
    RewardSpec,
)
from rl.policy.interface import PolicyError
from serve.api.personalizer.configuration.values import LOOP, read
from serve.config import ServiceConfig
from serve.contracts.decisions import (
    EventResult,
    EventsRequest,
    EventsResponse,
    FeedbackRequest,
    FeedbackResponse,
    FeedbackResult,
    Health,
    PolicyVersion,
    RecommendRequest,
    RecommendResponse,
    ServedPolicy,
)
from serve.decisions.filters import needs_past, select, since
from serve.decisions.followers import Streams
from serve.decisions.health import Learning
from serve.decisions.recommender import Ask
from serve.decisions.retries import (
    digests_of,
    of_event,
    of_report,
    of_request,
)
from serve.decisions.served import Served
from serve.http.answers import Refused

_Told: TypeAlias = tuple[Past, Mapping[str, JsonValue]]
"""What a user has seen and bought, and what is kept of him."""
_UNTOLD: _Told = (NOTHING, {})


class Service:
    """Everything is answered after its commit, so what was answered is never lost."""

    def __init__(
        self,
        served: Served,
        store: Store,
        writer: Writer,
        nodes: Mapping[str, tuple[NodeSpec, Scaler | None]],
        config: ServiceConfig | None = None,
        replica: str = "local",
    ) -> None:
        self.served, self.store, self._writer, self._nodes, self.replica = served, store, writer, nodes, replica
        self.config = config or ServiceConfig()
        self.catalogue, self._refreshing = Catalogue(), threading.Lock()
        self.streams = Streams(store, self.policies)
        self.learning = Learning(served, store, replica)

    async def recommend(
        self, requests: Sequence[RecommendRequest], length: int | None = None
    ) -> list[RecommendResponse | list[str]]:
        """Decide and log; for a known decision id return the logged decision if it was made for the same request.

        Args:
            requests: what is asked.
            length: how many they are, where one name is given to all of them together.

        Returns:
            The decision of each, or the fields in which the request differs from the one that has its name.

        Raises:
            PolicyError: a request cannot be answered by the served policies; nothing was logged.
            FeatureError: what is known of a visit is nothing that they can read; nothing was logged.
            StoreError: the decisions could not be committed.
            Refused: they were not within the shortest time that a request gave; they may be yet.
        """
        told = await self._told(requests)
        learned_through = [self.served.at(LOOP_V1, request.objective).learned_through for request in requests]
        try:
            pairs = zip(requests, told, strict=True)
            decisions = [self._decide(request, digests_of(request, length), *of_user) for request, of_user in pairs]
        except (PolicyError, FeatureError):
            # A retry is answered as the first time, even if by now it could not be answered any more.
            known = await asyncio.to_thread(self._known, requests)
            if known is None:
                raise
            decisions = known
        stored = await self.commit(decisions, min((r.timeout_s for r in requests if r.timeout_s), default=None))
        answers = list[RecommendResponse | list[str]]()
        for request, row, through in zip(requests, stored, learned_through, strict=True):
            decision = row.record
            assert isinstance(decision, Decision), "as what was committed"
            differs = [] if row.inserted else of_request(request, decision, length)
            answers.append(differs or respond(decision, through))
        return answers

    async def _told(self, requests: Sequence[RecommendRequest]) -> list[_Told]:
        """Return what the log and the users' table tell of each request's user, as far as it matters."""
        wanted = [(needs_past(request), self._reads_features(request)) for request in requests]
        if not any(past or features for past, features in wanted):  # most often: nothing to wait for
            return [_UNTOLD] * len(requests)
        pairs = list(zip(requests, wanted, strict=True))
        return await asyncio.to_thread(lambda: [self._ask_store(request, *what) for request, what in pairs])

    def _reads_features(self, request: RecommendRequest) -> bool:
        recommender = self.served.at(LOOP_V1, request.objective)
        return any(recommender.reads_features(name) for name in recommender.names)

    def _ask_store(self, request: RecommendRequest, needs: bool, features: bool) -> _Told:
        if request.user_id is None:
            return _UNTOLD
        now = datetime.now(UTC)
        happened = past(self.store, request.user_id, *since(self.config.memory, now)) if needs else NOTHING
        user = get_user(self.store, request.user_id) if features else None
        return happened, user.features if user else {}

    def _decide(
        self, request: RecommendRequest, digests: str, happened: Past, user: Mapping[str, JsonValue]
    ) -> Decision:
        recommender, now = self.served.at(LOOP_V1, request.objective), datetime.now(UTC)
        decision_id = request.decision_id or _uuid7(now)
        policy = recommender.policy_of(request.policy, request.user_id or decision_id)
        known = recommender.catalogue(policy)
        chosen = select(request, known, self.catalogue, self.config.rules, now, happened)
        ask = Ask(
            decision_id=decision_id,
            time=now,
            k=request.k,
            user_id=request.user_id,
            node_id=request.node,
            context=request.context,
            candidates=chosen.candidates,
            policy=policy,
            mode="explore" if request.explore else "exploit",
            features=self._features(request, chosen.candidates, user) if recommender.reads_features(policy) else None,
            rules=chosen.rules,
            request=digests,
        )
        return recommender.decide(ask)

    def _features(
        self, request: RecommendRequest, candidates: Sequence[str], user: Mapping[str, JsonValue]
    ) -> Features:
        """Return what is known of a visit, its user and its candidates, for policies that learn from that."""
        context: dict[str, JsonValue] = {n: value for n, value in request.context.items() if n != CONTEXT_TIME}
        items = tuple((dict(self.catalogue.features_of(item)),) for item in candidates)
        return Features.model_construct(context=({"context": context, "user": dict(user)},), items=items)

    def _known(self, requests: Sequence[RecommendRequest]) -> list[Decision] | None:
        """Return the logged decisions of requests that all name one that is known."""
        names = [request.decision_id or "" for request in requests]
        known = self.store.decisions_by_id(set(names))
        return [known[name] for name in names] if len(known) == len(set(names)) else None

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """Log feedback; the learner will find it there.

        Raises:
            StoreError: it could not be committed; none of it was.
        """
        records = [_feedback(report) for report in reports]
        stored = await self.commit(records)
        return FeedbackResponse(results=list(map(_feedback_result, records, stored)))

    async def events(self, request: EventsRequest) -> EventsResponse:
        """Check rows by the node's rules, as an ingestion of files does, and log events and rejects.

        Raises:
            Refused: unknown_node, events of this node are not taken here.
            StoreError: they could not be committed; none of them was.
        """
        if request.node not in self._nodes:
            message = f"node {request.node!r} is not taken here; taken are {', '.join(self._nodes)}"
            raise Refused("unknown_node", message, "node")
        node, scaler = self._nodes[request.node]
        cleaned = clean_records(request.records, node, scaler)
        stored = iter(await self.commit([record for record in cleaned if record is not None]))
        return EventsResponse(results=[_event_result(record, stored, node) for record in cleaned])

    def policies(self) -> list[ServedPolicy]:
        """Say what is served, and since when."""
        return [
            ServedPolicy(
                loop=place[0],
                objective=place[1],
                name=name,
                version=recommender.version(name),
                since=self.served.since[place, name, recommender.digest(name)],
                learned_through=recommender.learned_through,
            )
            for place, recommender in sorted(self.served.places.items())
            for name in recommender.names
        ]

    def refresh_catalogue(self) -> None:
        """Read what has changed of the items: now and then, and at once after a change that came here."""
        with self._refreshing:
            self.catalogue.refresh(self.store)

    def health(self) -> Health:
        """Say which versions this replica answers with, and what does not work."""
        recommender = self.served.places.get((LOOP_V1, "default"))
        names = recommender.names if recommender else []
        versions = [PolicyVersion(name=name, version=recommender.version(name)) for name in names if recommender]
        reasons = self.learning.reasons()
        return Health(
            status="degraded" if reasons else "ok",
            reasons=reasons,
            replica=self.replica,
            policies=versions,
            learned_through=recommender.learned_through if recommender else 0,
        )

    def reward(self, decision: Decision) -> RewardSpec:
        """Return the specification under which a decision earns: its loop's, of its objective. Blocks.

        Raises:
            StoreError: the Personalizer loop's cannot be read.
        """
        if decision.loop == LOOP:
            with reading(self.store) as settings:
                return read(settings).service.reward_spec
        return self.config.objectives.get(decision.objective, self.config.reward)

    async def commit(self, records: Sequence[AnyRecord], timeout_s: float | None = None) -> list[Stored]:
        """Log records and return what the log then holds for each.

        Raises:
            StoreError: they could not be committed; none of them was.
            Refused: they were not within the time; they may be yet.
        """
        if timeout_s is None:
            return await self._writer.commit(records)
        committing = asyncio.ensure_future(self._writer.commit(records))
        try:
            return await asyncio.wait_for(asyncio.shield(committing), timeout_s)
        except TimeoutError:
            committing.add_done_callback(lambda done: done.exception())  # nobody waits for it any more
            message = f"not committed within {timeout_s:g} s; ask again with the same decision_id"
            raise Refused("timeout", message, "timeout_s") from None


def respond(decision: Decision, learned_through: int) -> RecommendResponse:
    """Return a decision as it is answered."""
    slots = zip(decision.slate, decision.scores, decision.propensities, strict=True)
    return {
        "decision_id": decision.decision_id,
        "items": [{"item_id": item, "score": score, "propensity": p} for item, score, p in slots],
        "policy": {"name": decision.policy, "version": decision.policy_version},
        "learned_through": learned_through,
    }


def _uuid7(now: datetime) -> str:
    """Return a new id, of 32 hexadecimal digits that grow with time: so the index of ids is written where it ends.

    Source: RFC 9562, section 5.7.
    """
    tail = int.from_bytes(os.urandom(10))
    return f"{int(now.timestamp() * 1_000):012x}7{tail >> 68:03x}{0x8 | tail >> 64 & 0x3:x}{tail & (1 << 60) - 1:015x}"


def _feedback_result(sent: Feedback, row: Stored) -> FeedbackResult:
    held = row.record
    assert isinstance(held, Feedback), "as what was committed"
    if not row.inserted and (fields := of_report(sent, held)):
        return FeedbackResult(feedback_id=sent.feedback_id, status="conflict", orphan=False, differs=fields)
    status = "stored" if row.inserted else "known"
    return FeedbackResult(feedback_id=sent.feedback_id, status=status, orphan=row.orphan, position=row.seq)


def _event_result(record: Event | Reject | None, stored: Iterator[Stored], node: NodeSpec) -> EventResult:
    match record:
        case None:
            return EventResult(status="dropped")
        case Event():
            row = next(stored)
            assert isinstance(row.record, Event), "as what was committed"
            if not row.inserted and (fields := of_event(record, row.record, node)):
                return EventResult(status="conflict", event_id=record.event_id, differs=fields)
            return EventResult(status="stored" if row.inserted else "known", event_id=record.event_id)
        case Reject():
            next(stored)
            return EventResult(status="rejected", rule=record.rule, value=record.value)


def _feedback(report: FeedbackRequest) -> Feedback:
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


def _content_id(report: FeedbackRequest) -> str:
    """Name a report by what it says: sent twice, it counts once."""
    return blake2b(report.model_dump_json().encode(), digest_size=16).hexdigest()
