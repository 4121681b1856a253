"""What one replica does with a request: decide, commit, answer. The routes of version 1 call it."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from time import perf_counter
from typing import TypeAlias

from data.ingest.http_rows import clean_records
from data.json_lines import note_decisions
from data.log.current.users import NOTHING, past
from data.log.insertion.appender import Stored
from data.log.store import Store
from data.log.writer.commit import Writer
from data.nodes.node import NodeSpec
from data.nodes.scaler import Scaler
from data.reward import RewardSpec
from data.schema import (
    LOOP_V1,
    AnyRecord,
    Decision,
    Feedback,
)
from serve.abtests.running import Answer, RunningTests
from serve.config import ServiceConfig
from serve.contracts.decisions import PolicyVersion, RecommendRequest, RecommendResponse
from serve.contracts.errors import ERRORS
from serve.contracts.ids import new_id
from serve.contracts.learning import Health, ServedPolicy
from serve.contracts.reports import EventsRequest, EventsResponse, FeedbackRequest, FeedbackResponse, FeedbackResult
from serve.decisions.answer import respond
from serve.decisions.filters import lookback_starts, needs_past
from serve.decisions.followers import Streams
from serve.decisions.health import Learning
from serve.decisions.recommender import Recommender
from serve.decisions.reports import event_result, feedback_result, to_feedback
from serve.decisions.retries import compare_request, decide_or_repeat, digest_request
from serve.decisions.served import Served
from serve.decisions.shadows import Shadows, decide_unseen
from serve.decisions.visits import Past, make_visit, set_answer
from serve.entities.items import Items
from serve.entities.users import Users
from serve.metrics.replica import ReplicaMetrics

Witness: TypeAlias = Callable[[Recommender, Decision], None]
_NO_PAST: Past = (NOTHING, {})


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
        metrics: ReplicaMetrics | None = None,
    ) -> None:
        self.metrics = metrics
        self.served, self.store, self._writer, self._nodes, self.replica = served, store, writer, nodes, replica
        self.config = config or ServiceConfig()
        self.items = Items(store)
        self.users = Users(store, self.config.settings, self.config.proof)
        self.streams = Streams(store, self.policies)
        self.learning = Learning(served, store, replica)
        self.tests = RunningTests(store)
        self.shadows = Shadows(self.commit)
        self.rewards: dict[str, Callable[[], RewardSpec]] = {}
        """What feedback is worth in loops of other interfaces; may raise StoreError."""

    async def recommend(
        self, requests: Sequence[RecommendRequest], length: int | None = None, witness: Witness | None = None
    ) -> list[RecommendResponse | list[str]]:
        """Decide and log; for a known decision id return the logged decision if it was made for the same request.

        Args:
            requests: what is asked.
            length: how many they are, where one name is given to all of them together.
            witness: is shown each decision that is made, with what has made it, before that learns on.

        Returns:
            The decision of each, or the fields in which the request differs from the one that has its name.

        Raises:
            PolicyError: a request cannot be answered by the served policies; nothing was logged.
            FeatureError: what is known of a visit is nothing that they can read; nothing was logged.
            StoreError: the decisions could not be committed.
            Refused: they were not within the shortest time that a request gave; they may be yet.
        """
        recommenders = [self.served.at(LOOP_V1, request.objective) for request in requests]
        pasts = await self._read_pasts(requests, recommenders)
        learned_through = [recommender.learned_through for recommender in recommenders]
        decisions = await decide_or_repeat(
            lambda: [
                self._decide(request, recommender, digest_request(request, length), past, witness)
                for request, recommender, past in zip(requests, recommenders, pasts, strict=True)
            ],
            [request.decision_id for request in requests],
            self.store,
        )
        note_decisions((decision.decision_id, decision.policy_version) for decision in decisions)
        stored = await self.commit(decisions, min((r.timeout_s for r in requests if r.timeout_s), default=None))
        answers = list[RecommendResponse | list[str]]()
        for request, row, through in zip(requests, stored, learned_through, strict=True):
            decision = row.record
            assert isinstance(decision, Decision), "as what was committed"
            differs = [] if row.inserted else compare_request(request, decision, length)
            if not row.inserted:
                note_decisions([(decision.decision_id, decision.policy_version)])
            answers.append(differs or respond(decision, through))
        if self.tests.routes:
            for request, recommender, past, row in zip(requests, recommenders, pasts, stored, strict=True):
                if row.inserted:
                    self._shadow(request, recommender, row.record, past)
        return answers

    async def _read_pasts(
        self, requests: Sequence[RecommendRequest], recommenders: Sequence[Recommender]
    ) -> list[Past]:
        """Return what the log and the users' table say of each request's user, as far as it matters."""
        pairs = zip(requests, recommenders, strict=True)
        wanted = [(needs_past(request), recommender.may_read_features) for request, recommender in pairs]
        if not any(past or features for past, features in wanted):  # most often: nothing to wait for
            return [_NO_PAST] * len(requests)
        asked = list(zip(requests, wanted, strict=True))
        return await asyncio.to_thread(lambda: [self._read_past(request, *what) for request, what in asked])

    def _read_past(self, request: RecommendRequest, needs: bool, features: bool) -> Past:
        if request.user_id is None:
            return _NO_PAST
        now = datetime.now(UTC)
        happened = past(self.store, request.user_id, *lookback_starts(self.config.memory, now)) if needs else NOTHING
        user = self.users.get(request.user_id) if features else None
        return happened, user.features if user else {}

    def _decide(
        self,
        request: RecommendRequest,
        recommender: Recommender,
        digests: str,
        past: Past,
        witness: Witness | None,
    ) -> Decision:
        now = datetime.now(UTC)
        decision_id = request.decision_id or new_id(now)
        key = request.user_id or decision_id
        answer = self._expose(recommender, key) if self.tests.routes and request.policy is None else None
        policy = recommender.choose_policy(request.policy, key) if answer is None else answer.policy
        visit = make_visit(request, recommender, policy, now, past, self.items.catalogue, self.config.rules)
        visit.decision_id, visit.node_id, visit.request = decision_id, request.node, digests
        if answer is not None:
            set_answer(visit, answer)
        decision = recommender.decide(visit)
        if witness is not None:
            witness(recommender, decision)
        return decision

    def _expose(self, recommender: Recommender, key: str) -> Answer | None:
        """Return how a test that runs has a user answered; None: no test is asked, or it cannot be yet."""
        routes = self.tests.routes.get((recommender.loop, recommender.objective))
        if routes is None or routes.split is None or not recommender.has(routes.split.policies):
            return None
        return routes.split.find(key)

    def _shadow(self, request: RecommendRequest, recommender: Recommender, shown: AnyRecord, past: Past) -> None:
        """Let variants that nobody sees decide in place of a decision, after it was answered."""
        routes = self.tests.routes.get((recommender.loop, recommender.objective))
        if routes is None or not routes.shadows or request.policy is not None:
            return
        assert isinstance(shown, Decision), "as what was committed"
        for shadowing in routes.shadows:
            answer = shadowing.answer
            if shadowing.concerns(shown.policy, request.user_id or shown.decision_id) and recommender.has(
                {answer.policy}
            ):
                given = shown, past, self.items.catalogue, self.config.rules
                self.shadows.offer(partial(decide_unseen, request, recommender, answer, *given))

    async def feedback(self, reports: Sequence[FeedbackRequest]) -> FeedbackResponse:
        """Log feedback; the learner will find it there.

        Raises:
            StoreError: it could not be committed; none of it was.
        """
        return FeedbackResponse(results=await self.report([to_feedback(report) for report in reports]))

    async def report(self, records: Sequence[Feedback]) -> list[FeedbackResult]:
        """Log feedback of any interface, and count what became of it.

        Raises:
            StoreError: it could not be committed; none of it was.
        """
        note_decisions((record.decision_id, "") for record in records)
        stored = await self.commit(records)
        results = list(map(feedback_result, records, stored))
        self.learning.count(results)
        if self.metrics:
            self.metrics.reported(records, stored, [result.status == "conflict" for result in results])
        return results

    async def events(self, request: EventsRequest) -> EventsResponse:
        """Check rows by the node's rules, as an ingestion of files does, and log events and rejects.

        Raises:
            Refused: unknown_node, events of this node are not taken here.
            StoreError: they could not be committed; none of them was.
        """
        if request.node not in self._nodes:
            message = f"node {request.node!r} is not taken here; taken are {', '.join(self._nodes)}"
            raise ERRORS.refuse("unknown_node", message, "node")
        node, scaler = self._nodes[request.node]
        began = perf_counter()
        cleaned = clean_records(request.records, node, scaler)
        took_s = perf_counter() - began
        stored = iter(await self.commit([record for record in cleaned if record is not None]))
        results = [event_result(record, stored, node) for record in cleaned]
        if self.metrics:
            rules = [result.rule for result in results if result.rule is not None]
            self.metrics.ingested(request.node, [result.status for result in results], rules, took_s)
        return EventsResponse(results=results)

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

    def read_decision(self, decision_id: str) -> tuple[Decision, list[Feedback]]:
        """Return a decision with its feedback. Blocks.

        Raises:
            Refused: unknown_decision, there is none.
            StoreError: it cannot be read.
        """
        decision = self.store.decision(decision_id)
        if decision is None:
            raise ERRORS.refuse("unknown_decision", f"there is no decision {decision_id!r}", "decision_id")
        return decision, self.store.feedback_of([decision_id]).get(decision_id, [])

    def reward(self, decision: Decision) -> RewardSpec:
        """Return the specification under which a decision earns: its loop's, of its objective. Blocks.

        Raises:
            StoreError: that of the loop of another interface cannot be read.
        """
        if of_loop := self.rewards.get(decision.loop):
            return of_loop()
        return self.reward_of(decision.objective)

    def reward_of(self, objective: str) -> RewardSpec:
        """Return the specification of an objective of the loop v1."""
        return self.config.objectives.get(objective, self.config.reward)

    async def commit(self, records: Sequence[AnyRecord], timeout_s: float | None = None) -> list[Stored]:
        """Log records and return what the log then holds for each.

        Raises:
            StoreError: they could not be committed; none of them was.
            Refused: they were not within the time; they may be yet.
        """
        commit = self._writer.commit(records)
        if self.metrics:
            commit = self.metrics.commit(records, commit)
        if timeout_s is None:
            return await commit
        committing = asyncio.ensure_future(commit)
        try:
            return await asyncio.wait_for(asyncio.shield(committing), timeout_s)
        except TimeoutError:
            committing.add_done_callback(lambda done: done.exception())  # nobody waits for it any more
            message = f"not committed within {timeout_s:g} s; ask again with the same decision_id"
            raise ERRORS.refuse("timeout", message, "timeout_s") from None
