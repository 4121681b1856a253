"""The learner: one replica that folds the log, and that the others follow."""

import asyncio
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from time import monotonic

import ray
from ray.serve import get_replica_context
from threadpoolctl import threadpool_limits

from data.log.store import Store
from data.private import keep_private
from rl.online.fold import FoldSteps, News
from rl.online.state import FoldState
from serve.abtests.watch import Watch
from serve.api.personalizer.configuration.plan import PersonalizerSource
from serve.audit.examination import keep_examining
from serve.background import Signal, check_log, check_tasks, repeat
from serve.config import ServiceConfig
from serve.learning.archiving import archive_daily
from serve.learning.loops import Loops
from serve.learning.plan import PlanSource
from serve.learning.plans import ConfiguredPlans
from serve.metrics.setup import learner_metrics
from serve.traces.start import start_learner_spans

_POLL_S = 0.05
"""How often it looks at the log, where there is nothing new by one statement; adds half of it to the time until
feedback is served."""
_REFRESH_S = 0.5
"""How often it looks whether something else is to be served."""
_CHECKPOINT_S = 1.0
_SAVE_S = 1.0
"""How often it looks whether a snapshot is due."""
_MEASURE_S = 5.0
"""How often it looks at what it counts."""
LONG_POLL_S = 5.0
"""How long a follower's question may wait for an answer."""
_COURTESY = 10
"""Niceness of its process, so that replicas get the processor first."""


class Learner:
    """One replica that folds the log; the others ask it what is new."""

    def __init__(self, config: ServiceConfig) -> None:
        """Load the policies, rebuild from the log what they have learned since, then follow it."""
        os.nice(_COURTESY)
        threadpool_limits(1, "blas")  # more would wait for each other, and add in another order than an audit's
        settings = config.settings
        keep_private(settings.home)
        store = self._store = Store.open(settings.store_url)
        sources: list[PlanSource] = [ConfiguredPlans(config, settings, store), PersonalizerSource(settings, store)]
        self._learned = start_learner_spans(config.traces, get_replica_context().replica_id.unique_id)
        self._node = ray.get_runtime_context().get_node_id()
        metrics = learner_metrics(config, store)
        watches = config.snapshots, metrics, self._learned
        self._loops = Loops(store, settings, sources, lambda: datetime.now(UTC), *watches)
        self._followers: dict[str, float] = {}
        self._changed = Signal()
        loop = asyncio.get_running_loop()
        self._tasks = [
            loop.create_task(repeat(self._loops.poll, _POLL_S, self._tell)),
            loop.create_task(repeat(self._loops.refresh, _REFRESH_S, self._tell)),
            loop.create_task(repeat(self._loops.save, _SAVE_S)),
            loop.create_task(repeat(store.checkpoint, _CHECKPOINT_S)),
            loop.create_task(repeat(Watch(store, config, metrics.tested if metrics else None).look, config.look_s)),
        ]
        if self._learned:
            self._tasks.append(loop.create_task(repeat(self._learned.send, _REFRESH_S)))
        here = None if store.shared else self._node
        if config.archive:
            self._tasks.append(loop.create_task(archive_daily(config, here, metrics)))
        if metrics:
            self._tasks.append(loop.create_task(repeat(self._loops.measure, _MEASURE_S)))
            if when := config.examination:
                self._tasks.append(loop.create_task(keep_examining(config, when, here, metrics.examined)))

    async def _tell(self, changed: bool) -> None:
        if changed:
            self._changed.send()

    def node(self) -> str:
        """Return the id of the machine that this runs on: if the log is a file, it is there."""
        return self._node

    def states(self) -> tuple[FoldState, ...]:
        """Say how the folds are."""
        return self._loops.states()

    async def news(self, follower: str, steps: FoldSteps) -> tuple[News, int, tuple[FoldState, ...]]:
        """Return what a follower does not have yet, how many follow, and how the folds are; waits 5 s for something."""
        self._followers[follower] = monotonic()
        # An empty answer shows the follower that the learner lives.
        await self._changed.wait_for(lambda: self._loops.is_behind(steps), LONG_POLL_S)
        news = await asyncio.to_thread(self._loops.news, steps)
        lately = monotonic() - 2 * LONG_POLL_S
        self._followers = {name: at for name, at in self._followers.items() if at > lately}
        return news, len(self._followers), self._loops.states()

    def hear(self, traced: Sequence[tuple[str, str]]) -> None:
        """Note which requests that are traced were for which decisions; see `serve.traces.outbox`."""
        if self._learned:
            self._learned.hear(traced)

    def check_health(self) -> None:
        """Let Serve replace this replica if it no longer follows the log, or another log is in its place."""
        check_tasks(self._tasks, "the learner has stopped following the log")
        check_log(self._store)
