"""What is done with evaluations and feature importances: created, listed, shown, deleted, applied."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from typing import TypeVar
from uuid import uuid4

from data.log import loops
from data.log.current.settings_table import reading
from data.log.store import Store
from data.settings import Settings
from serve.api.personalizer.configuration.policy import read_exploration
from serve.api.personalizer.configuration.values import LOOP, Configuration, PolicySettings, read_configuration
from serve.api.personalizer.errors import ERRORS, Code
from serve.api.personalizer.evaluations.child import LONGEST_S, Run, Task, run_child
from serve.api.personalizer.evaluations.contracts import (
    ApplyRequest,
    Evaluation,
    EvaluationContract,
    Importance,
    ImportanceContract,
)
from serve.api.personalizer.evaluations.table import Kept, find
from serve.contracts.errors import Refused

_MOST_POLICIES = 10
_RESERVED = ("online", "baseline", "random", "champion")

log = logging.getLogger("raycommend.personalizer")
T = TypeVar("T", Evaluation, Importance)
SetPolicy = Callable[[PolicySettings], Awaitable[PolicySettings]]


class Evaluations:
    """Those of the Personalizer loop. Methods raise `Refused`, and StoreError as the store does."""

    def __init__(self, store: Store, settings: Settings, set_policy: SetPolicy, run: Run = run_child) -> None:
        """Read nothing yet.

        Args:
            store: the log.
            settings: where it and the policies lie, for the process that does the work.
            set_policy: lets learning settings answer.
            run: does the work; blocks.
        """
        self._store, self._settings, self._set_policy, self._run = store, settings, set_policy, run
        self._kept, self._running, self._one = Kept(store), set[asyncio.Task[None]](), asyncio.Lock()

    async def create(self, asked: EvaluationContract, key: str | None = None) -> Evaluation:
        """Begin an evaluation; without a key it is given one."""
        self._check(asked)
        new = Evaluation(id=key or uuid4().hex, asked=asked, created=self._store.now())
        if not await asyncio.to_thread(self._create, asked, new):
            raise ERRORS.refuse("EvaluationAlreadyExists", where="evaluationId")
        self._begin(Task(kind="evaluation", key=new.id, settings=self._settings))
        return new

    async def create_importance(self, asked: ImportanceContract, key: str) -> Importance:
        """Begin to measure feature importances."""
        new = Importance(id=key, asked=asked, created=self._store.now())
        if not await asyncio.to_thread(self._create, asked, new):
            raise ERRORS.refuse("FeatureImportanceAlreadyExists", where="featureImportanceId")
        self._begin(Task(kind="importance", key=new.id, settings=self._settings))
        return new

    async def list_all(self) -> Sequence[Evaluation]:
        """Return all, the newest first."""
        return self._shown(await asyncio.to_thread(self._kept.evaluations))

    async def list_importances(self) -> Sequence[Importance]:
        """Return all, the newest first."""
        return self._shown(await asyncio.to_thread(self._kept.importances))

    async def get(self, key: str) -> Evaluation:
        """Return an evaluation."""
        return self._find(await self.list_all(), key, "EvaluationNotFound")

    async def get_importance(self, key: str) -> Importance:
        """Return feature importances."""
        return self._find(await self.list_importances(), key, "FeatureImportanceNotFound")

    async def delete(self, key: str) -> None:
        """Delete an evaluation."""
        gone = (await self.get(key)).model_copy(update={"deleted": True})
        await asyncio.to_thread(self._kept.change, gone)

    async def delete_importance(self, key: str) -> None:
        """Delete feature importances."""
        gone = (await self.get_importance(key)).model_copy(update={"deleted": True})
        await asyncio.to_thread(self._kept.change, gone)

    async def apply(self, asked: ApplyRequest) -> None:
        """Let a policy of an evaluation answer from now on, if the gate lets it through."""
        evaluation = await self.get(asked.evaluation_id)
        result = next((one for one in evaluation.results if one.name == asked.policy_name), None)
        if result is None or result.source not in ("Custom", "OfflineExperimentation", "Online"):
            message = f"The evaluation has no learning settings of the name {asked.policy_name[:60]!r}."
            raise ERRORS.refuse("EvaluationNotFound", message, "policyName")
        if result.source == "Online":
            await asyncio.to_thread(self._kept.change, evaluation.model_copy(update={"status": "OnlinePolicyRetained"}))
            return
        if not result.promote:
            message = f"{result.verdict} Who wants it all the same puts it with PUT /configurations/policy."
            raise ERRORS.refuse("InvalidApiAccess", message, "policyName")
        wanted, now = PolicySettings(name=result.name, arguments=result.arguments), await asyncio.to_thread(self._now)
        if evaluation.answering not in ("", now.answering) and now.policy != wanted:
            message = "Another policy answers now than the one that the evaluation compared with: evaluate anew."
            raise ERRORS.refuse("InvalidApiAccess", message, "evaluationId")
        await self._set_policy(wanted)
        await asyncio.to_thread(self._kept.change, evaluation.model_copy(update={"status": "OptimalPolicyApplied"}))

    async def optimize(self, now: Configuration) -> Evaluation | None:
        """Evaluate other learning settings if that is due, and let the best answer if the gate lets them through.

        Of several replicas one does it. Returns what came of it; None: nothing was due.
        """
        service = now.service
        begun, every = service.auto_optimization_start_date or now.edited_at, service.auto_optimization_frequency
        if not service.is_auto_optimization_enabled or begun is None:
            return None
        end = begun + every * int((self._store.now() - begun) / every)
        if end <= begun:
            return None
        new = Evaluation(
            id=f"auto-{end:%Y%m%dT%H%M%S}",
            asked=EvaluationContract(
                name="automatic optimisation", start_time=end - every, end_time=end, optimize=True
            ),
            kind="Auto",
            created=self._store.now(),
        )
        before = await asyncio.to_thread(self._kept.evaluations)
        if not any(one.id == new.id for one in before):
            try:
                created = await asyncio.to_thread(self._create, new.asked, new)
            except Refused:  # nothing was ranked in that time
                return None
            if not created:  # by another replica
                return None
            await asyncio.to_thread(self._run, Task(kind="evaluation", key=new.id, settings=self._settings))
        elif not any(one.id == new.id and one.status == "Succeeded" and not one.deleted for one in before):
            return None
        done = await self.get(new.id)  # also one whose process ended before it was applied
        if done.status == "Succeeded" and done.optimal is not None:
            try:
                await self.apply(ApplyRequest(evaluation_id=done.id, policy_name=done.optimal))
            except Refused as error:
                log.warning("%s was not applied: %s", done.id, error)
                await asyncio.to_thread(self._kept.change, done.model_copy(update={"status": "OnlinePolicyRetained"}))
        return await self.get(new.id)

    def _now(self) -> Configuration:
        with reading(self._store) as table:
            return read_configuration(table)

    def _check(self, asked: EvaluationContract) -> None:
        if len(asked.policies) > _MOST_POLICIES:
            raise ERRORS.refuse("MaximumEvaluationCustomPoliciesExceeded", where="policies")
        names = [one.name.lower() for one in asked.policies]
        if len({*names, *_RESERVED}) < len(names) + len(_RESERVED):
            raise ERRORS.refuse("DuplicateCustomPolicyNames", where="policies")
        for one in asked.policies:
            read_exploration(one)  # refuses what cannot be followed

    def _create(self, asked: EvaluationContract | ImportanceContract, new: T) -> bool:
        if asked.end_time <= asked.start_time:
            raise ERRORS.refuse("InvalidEvaluationContract", where="endTime")
        found = loops.date_range(self._store, LOOP)
        if found is None or found[1] < asked.start_time or found[0] >= asked.end_time:
            raise ERRORS.refuse("NoLogsExistInDateRange")
        return self._kept.create(new)

    def _begin(self, task: Task) -> None:
        running = asyncio.get_running_loop().create_task(self._do(task))
        self._running.add(running)  # asyncio keeps no task that nobody else does
        running.add_done_callback(self._running.discard)

    async def _do(self, task: Task) -> None:
        async with self._one:  # each takes a core, and memory
            await asyncio.to_thread(self._run, task)

    def _shown(self, kept: Sequence[T]) -> list[T]:
        """Return those that were not deleted; who did not end in time never will."""
        late = self._store.now() - timedelta(seconds=LONGEST_S)
        shown = [one for one in kept if not one.deleted]
        return [
            one.model_copy(update={"status": "Timeout"}) if one.status == "Running" and one.created < late else one
            for one in reversed(shown)
        ]

    def _find(self, shown: Sequence[T], key: str, otherwise: Code) -> T:
        if (found := find(shown, key)) is None:
            raise ERRORS.refuse(otherwise)
        return found
