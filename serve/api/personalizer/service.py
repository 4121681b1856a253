"""What a replica does with a request of the Personalizer API: decide, commit, answer."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from data.feature_objects import FeatureError
from data.json_lines import note_decisions
from data.log import loops
from data.log.current.settings_table import reading, writing
from data.log.store import Store
from data.reward import RewardSpec
from data.schema import Decision, Feedback
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.artefacts.shelf import shelve_new
from rl.encoders.visit import Visit
from rl.policy.errors import PolicyError
from serve.api.personalizer import model_file as model
from serve.api.personalizer.apprentice import ApprenticeMetrics
from serve.api.personalizer.calls import Commit, Look, Report, Set
from serve.api.personalizer.configuration.plan import Untrained, same_model
from serve.api.personalizer.configuration.policy import make_untrained, read_exploration, shown_policy
from serve.api.personalizer.configuration.replica import copy_configuration
from serve.api.personalizer.configuration.values import (
    LOOP,
    MODEL,
    POLICY,
    SERVICE,
    Configuration,
    ModelOrigin,
    PolicySettings,
    ServiceConfiguration,
    apply_changes,
    read_configuration,
    to_response,
)
from serve.api.personalizer.errors import ERRORS, Code
from serve.api.personalizer.evaluations.child import Run, run_child
from serve.api.personalizer.evaluations.service import Evaluations
from serve.api.personalizer.explaining import ExplainedRank
from serve.api.personalizer.rank import (
    MultiSlotRankRequest,
    MultiSlotRankResponse,
    RankRequest,
    RankResponse,
    respond,
    respond_with_slots,
    to_slots_visit,
    to_visit,
)
from serve.api.personalizer.retries import check_retry
from serve.contracts.errors import Refused
from serve.decisions.recommender import Recommender
from serve.decisions.retries import decide_or_repeat
from serve.decisions.served import Served
from serve.explanations.service import Explanations

_OPTIMIZE_S = 60.0
"""Between two looks whether an automatic optimisation is due."""
log = logging.getLogger("raycommend.personalizer")


class Personalizer:
    """Everything is answered after its commit. Its methods raise `Refused`, and StoreError as the store does."""

    def __init__(
        self,
        served: Served,
        store: Store,
        commit: Commit,
        report: Report,
        settings: Settings,
        make: Untrained = make_untrained,
        run: Run = run_child,
    ) -> None:
        """Read the configuration.

        Args:
            served: what the replica knows of the loop "personalizer".
            store: the log.
            commit: see `Commit`.
            report: see `Report`.
            settings: where models are kept.
            make: the policy that a configuration asks for; the learner's source must make the same.
            run: does an evaluation.

        Raises:
            StoreError: the configuration cannot be read.
        """
        self._served, self._store, self._settings, self._make = served, store, settings, make
        self._commit, self._report = commit, report
        self.configuration = copy_configuration(store)
        self._apprentice = ApprenticeMetrics(store)
        self._explanations = Explanations(served, store, settings)
        self.evaluations = Evaluations(store, settings, self.set_policy, run)

    async def optimize(self) -> None:
        """Look again and again whether other learning settings are to be evaluated; for ever."""
        while True:
            await asyncio.sleep(_OPTIMIZE_S)
            try:
                await self.evaluations.optimize(self.configuration.current)
            except Exception:  # whatever it is: it is tried again, and who asks is answered meanwhile
                log.exception("automatic optimisation has failed")

    async def rank(self, request: RankRequest) -> RankResponse:
        """Choose an action; the same rank is answered as it was the first time."""
        now = self.configuration.current
        visit = to_visit(request, now.mode, self._store.now())
        if not now.service.is_inference_explainability_enabled:
            return respond(await self._decide(visit))
        explained = ExplainedRank(self._explanations)
        decision = await self._decide(visit, explained.look)
        return respond(decision, await explained.of(decision))

    async def rank_slots(self, request: MultiSlotRankRequest) -> MultiSlotRankResponse:
        """Choose an action for each slot; the same rank is answered as it was the first time."""
        visit = to_slots_visit(request, self.configuration.current.mode, self._store.now())
        return respond_with_slots(await self._decide(visit))

    async def report(self, feedback: Sequence[Feedback]) -> None:
        """Log rewards or an activation; what is known already changes nothing."""
        await self._report(feedback)

    async def _decide(self, visit: Visit, look: Look | None = None) -> Decision:
        def decide() -> list[Decision]:
            recommender = self._recommender()
            decision = recommender.decide(visit)
            if look:
                look(recommender, decision)
            return [decision]

        try:
            made = await decide_or_repeat(decide, [visit.decision_id], self._store)
        except (PolicyError, FeatureError) as error:
            raise _refuse(error) from error
        note_decisions((decision.decision_id, decision.policy_version) for decision in made)
        [stored] = await self._commit(made)
        decision = stored.record
        assert isinstance(decision, Decision)
        note_decisions([(decision.decision_id, decision.policy_version)])
        if decision.loop != LOOP:
            raise ERRORS.refuse("EventIdConflict", "EventId is that of a decision of another interface.", "eventId")
        if not stored.inserted:
            check_retry(visit, decision)
        return decision

    def _recommender(self) -> Recommender:
        if (LOOP, "default") not in self._served.places:
            raise ERRORS.refuse("OperationNotAllowed", "No policy is loaded yet; try again.")
        return self._served.at(LOOP)

    def reward_spec(self) -> RewardSpec:
        """Return what rewards are worth, as the store has it now. Blocks.

        Raises:
            StoreError: it cannot be read.
        """
        with reading(self._store) as settings:
            return read_configuration(settings).service.reward_spec

    async def service_configuration(self, *, time_spans: bool, metrics: bool) -> dict[str, Any]:
        """Return how the service is configured, with what is known of the apprentice mode if it is on and asked for."""
        return await asyncio.to_thread(self._show_configuration, time_spans, metrics)

    async def configure(self, given: ServiceConfiguration, *, time_spans: bool, metrics: bool) -> dict[str, Any]:
        """Configure the service; see `service_configuration`."""
        await self._set(lambda now: [(SERVICE, apply_changes(now, given).model_dump(mode="json", by_alias=True))])
        return await self.service_configuration(time_spans=time_spans, metrics=metrics)

    async def policy(self) -> PolicySettings:
        """Return the learning policy."""
        await asyncio.to_thread(self.configuration.refresh)
        return shown_policy(self.configuration.current)

    async def set_policy(self, given: PolicySettings) -> PolicySettings:
        """Set the learning policy. How much it explores counts for the service too: there is one such number."""
        explored = read_exploration(given)

        def settings(now: Configuration) -> list[tuple[str, Any]]:
            if explored is None or explored == now.service.exploration_percentage:
                return [(POLICY, given.model_dump())]
            service = now.service.model_copy(update={"exploration_percentage": explored})
            return [(POLICY, given.model_dump()), (SERVICE, service.model_dump(mode="json", by_alias=True))]

        await self._set(settings)
        return shown_policy(self.configuration.current)

    async def reset_policy(self) -> PolicySettings:
        """Set the default learning policy; it explores as much as the one before."""
        await self._set(lambda _: [(POLICY, None)])
        return shown_policy(self.configuration.current)

    async def export_model(self, *, signed: bool) -> bytes:
        """Return the model as this replica has it, see `serve.api.personalizer.model_file`."""
        artefact = model.capture(self._recommender().artefact(LOOP), self._store.now())
        return await asyncio.to_thread(
            lambda: model.pack(artefact(), model.signing_key(self._store) if signed else None)
        )

    async def import_model(self, blob: bytes) -> None:
        """Go on with a model that was exported here. Decisions that were made before are not learned from again."""
        await asyncio.to_thread(self._import, blob)

    async def reset_model(self) -> None:
        """Begin with nothing learned; only decisions that are made from now on are learned from."""
        origin = ModelOrigin(reset_at=self._store.now())
        await self._set(lambda _: [(MODEL, origin.model_dump(mode="json"))])

    async def model_properties(self) -> dict[str, str]:
        """Return since when there is the model, and when it last learned something."""
        return await asyncio.to_thread(self._model_properties, self._recommender().learned_through)

    async def log_properties(self) -> dict[str, Any]:
        """Return from when to when the log is."""
        found = await asyncio.to_thread(loops.date_range, self._store, LOOP)
        if found is None:
            raise ERRORS.refuse("LogsPropertiesNotFound")
        return {"dateRange": {"from": _format_time(found[0]), "to": _format_time(found[1])}}

    async def delete_logs(self) -> None:
        """Delete the log as it is now. The model keeps what it has learned from it."""
        artefact = model.capture(self._recommender().artefact(LOOP), self._store.now())
        await asyncio.to_thread(self._delete_logs, artefact)

    def _show_configuration(self, time_spans: bool, metrics: bool) -> dict[str, Any]:
        self.configuration.refresh()  # another replica may have changed it a moment ago
        now = self.configuration.current
        found = self._apprentice.read(now) if metrics else None
        return to_response(now, time_spans) | ({"latestApprenticeModeMetrics": found} if found else {})

    async def _set(self, settings: Set) -> None:
        await asyncio.to_thread(self._write, settings)

    def _write(self, settings: Set) -> None:
        with writing(self._store) as table:
            now = read_configuration(table)
            have = {
                SERVICE: now.service.model_dump(mode="json", by_alias=True),
                POLICY: now.policy and now.policy.model_dump(),
                MODEL: now.origin.model_dump(mode="json"),
            }
            for name, value in settings(now):
                if value != have[name]:  # what is so already is not changed
                    table.append(name, value, self._store.now())
        self.configuration.refresh()

    def _import(self, blob: bytes) -> None:
        artefact = model.unpack(blob, model.signing_key(self._store))
        self.configuration.refresh()
        if not same_model(artefact, self._make(self.configuration.current)):
            message = "The model is of another learning policy than the one that is set: set that one first."
            raise ERRORS.refuse("InvalidModelImportFormat", message)
        self._begin_with(replace(artefact, learned_until=self._store.now()))

    def _begin_with(self, artefact: Artefact) -> None:
        kept = shelve_new(artefact, self._settings)
        self._write(
            lambda now: [
                (MODEL, now.origin.model_copy(update={"imported": kept.digest}).model_dump(mode="json")),
            ]
        )

    def _delete_logs(self, artefact: Callable[[], Artefact]) -> None:
        learned = artefact()
        assert learned.learned_until is not None
        self._begin_with(learned)
        loops.delete(self._store, LOOP, learned.learned_until)

    def _model_properties(self, learned_through: int) -> dict[str, str]:
        self.configuration.refresh()
        now, range_ = self.configuration.current, loops.date_range(self._store, LOOP)
        begun = now.origin_at or now.edited_at or (range_ and range_[0]) or self._store.now()
        learned = loops.last_received(self._store, LOOP, learned_through)
        return {"creationTime": _format_time(begun), "lastModifiedTime": _format_time(max(begun, learned or begun))}


def _refuse(error: PolicyError | FeatureError) -> Refused:
    code: Code = "InvalidRankRequest" if isinstance(error, FeatureError) else "ModelRankingError"
    return ERRORS.refuse(code, str(error))


def _format_time(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")
