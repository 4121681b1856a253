"""The folds that one learner runs, and how a new one takes over from an old one.

A *plan* says what a fold begins with. Sources give plans: the configuration, the registry's champion, the Personalizer
API's settings. Where a plan changes - another champion, other rewards, a user was forgotten - a new fold is made beside
the old one, which goes on answering; then the new one takes its place. It begins from the newest snapshot of a fold of
the same plan and reads the rest of the log, without one the whole log. One that cannot be made is refused and reported,
and the old one stays.

Each failure stays alone. A policy that cannot be loaded is left out of its fold; a plan of which none can be begun has
no fold; a source that fails gives no plan. A fold that fails is not followed any more: what it has published goes on
being served, the others go on, and it is begun anew: at once, after a minute, then after twice as long each time. Only
where no fold at all can be begun does the start fail.
"""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from time import monotonic

from data.log.errors import StoreError
from data.log.loops import LoopEnds
from data.log.store import Store
from data.log.unreadable import describe_error
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import load_shelved
from rl.online.fold import FoldSteps, News, Place
from rl.online.learner import OnlineLearner
from rl.online.snapshot import SnapshotError
from rl.online.snapshots import Snapshots, SnapshotSettings
from rl.online.state import FoldState
from serve.learning.loop import Loop, Watch
from serve.learning.plan import Plan, PlanSource
from serve.metrics.learner import LearnerMetrics

_RETRY_S = 60.0
"""Wait before a fold that has failed a second time is begun anew; doubles with each failure."""

log = logging.getLogger("ray.serve")


class Loops:
    """All folds of a service. `poll` and `refresh` may run in different threads."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        sources: Sequence[PlanSource],
        clock: Callable[[], datetime],
        snapshots: SnapshotSettings | None = None,
        metrics: LearnerMetrics | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Make the folds of all plans; they have learned the log when this returns.

        `watch` is told what they learn from then on.

        Raises:
            ArtefactError: there are plans, and of none can a fold be begun.
            StoreError: the log did not answer.
        """
        self._store, self._settings, self._sources, self._clock = store, settings, sources, clock
        self._snapshots, self._metrics, self._watch = Snapshots(settings, snapshots, clock), metrics, watch
        self._ends = LoopEnds(store)
        self._refused: dict[Place, Plan] = {}
        self._faults: dict[int, str] = {}
        self._retries: dict[
            Place, tuple[float, float]
        ] = {}  # when to begin a failed fold anew next, and the wait after that
        self.current: dict[Place, Loop] = {}
        self.problems: dict[Place, str] = {}
        """Why the last plan of a place was refused, where it was."""
        self.refresh()
        if not self.current and (problems := [*self.problems.values(), *self._faults.values()]):
            raise ArtefactError("; ".join(dict.fromkeys(problems)))

    def poll(self) -> bool:
        """Let each fold learn what is new; returns whether there was anything.

        Raises:
            StoreError: the log did not answer.
        """
        news, loops = False, [loop for loop in self.current.values() if loop.failed is None]
        ends = self._ends.look({loop.plan.spec.loop for loop in loops}) if loops else {}
        for loop in loops:
            news = loop.poll(ends[loop.plan.spec.loop]) or news
        return news

    def save(self) -> None:
        """Save the folds of which a snapshot is due, for the next learner to begin from.

        Raises:
            StoreError: the log did not answer.
        """
        for loop in list(self.current.values()):
            if loop.failed is None:
                self._snapshots.offer(loop.learner, self._store, loop.plan.erasures)

    def refresh(self) -> bool:
        """Begin a fold for each plan that has changed, and let it take over; returns whether one did."""
        changed = False
        for plan in self._plans():
            loop = self.current.get(plan.place)
            failed = loop is not None and loop.failed is not None
            if loop and loop.plan == plan and not (failed and self._may_begin_anew(plan.place)):
                loop.plan = plan  # which may say another reason for the same
                continue
            if self._refused.get(plan.place) == plan and not failed:
                continue
            try:
                self.current[plan.place] = self._begin(plan)
            except StoreError:
                raise
            except Exception as error:
                self._refused[plan.place], self.problems[plan.place] = plan, describe_error(error)
                log.error("loop %s, objective %s goes on with what it has: %s", *plan.place, error)
                continue
            self._refused.pop(plan.place, None)
            self.problems.pop(plan.place, None)
            changed = True
        return changed

    def measure(self) -> None:
        """Let the metrics look at the folds. Blocks.

        Raises:
            StoreError: the log did not answer.
        """
        if self._metrics:
            unsaved_s = {place: self._snapshots.unsaved_s(loop.learner) for place, loop in list(self.current.items())}
            self._metrics.look(self.states(), unsaved_s)

    def _may_begin_anew(self, place: Place) -> bool:
        """Return whether a fold that has failed has waited long enough."""
        now = monotonic()
        due, wait = self._retries.get(place, (now, _RETRY_S))
        if now < due:
            return False
        self._retries[place] = (now + wait, 2 * wait)
        return True

    def states(self) -> tuple[FoldState, ...]:
        """Return the state of each fold, and of each place that has none."""
        now = self._clock()
        states = {place: loop.state(now) for place, loop in self.current.items()}
        for place, problem in self.problems.items():
            if state := states.get(place):
                reason = f"a new plan was refused, it goes on with what it has: {problem}"
                states[place] = state.model_copy(update={"reason": state.reason or reason})
            else:
                states[place] = FoldState(loop=place[0], objective=place[1], state="failed", reason=problem, as_of=now)
        return tuple(state for _, state in sorted(states.items()))

    def is_behind(self, steps: FoldSteps) -> bool:
        """Return whether there is news for a follower that has these steps."""
        for place, loop in self.current.items():
            fold_id, number = steps.get(place, ("", 0))
            if loop.failed is None and (fold_id != loop.learner.fold_id or number < loop.published):
                return True
        return False

    def news(self, steps: FoldSteps) -> News:
        """Return what a follower that has these steps does not have yet; places where it has all are left out."""
        news: News = {}
        for place, loop in self.current.items():
            fold_id, number = steps.get(place, ("", 0))
            if loop.failed is None and (of_place := loop.news(fold_id, number)):
                news[place] = of_place
        return news

    def _plans(self) -> list[Plan]:
        plans = list[Plan]()
        for number, source in enumerate(self._sources):
            try:
                plans += source()
            except StoreError:
                raise
            except Exception as error:  # one source does not stop the others
                if self._faults.get(number) != str(error):
                    log.error("%s gives no plan, what it gave before goes on: %s", type(source).__name__, error)
                self._faults[number] = str(error)
        return plans

    def _begin(self, plan: Plan) -> Loop:
        artefacts, missing = self._load(plan)
        digests = {name: artefact.digest for name, artefact in artefacts.items()}
        snapshot = self._snapshots.newest(self._store, plan.spec, digests, plan.erasures)
        try:
            learner = OnlineLearner(self._store, artefacts, plan.spec, self._clock, snapshot=snapshot)
        except SnapshotError as error:
            log.error("loop %s, objective %s learns the whole log anew: %s", *plan.place, error)
            learner = OnlineLearner(self._store, self._load(plan)[0], plan.spec, self._clock)
        last = learner.catch_up(lambda: self._snapshots.offer(learner, self._store, plan.erasures))
        self._snapshots.offer(learner, self._store, plan.erasures, now=True)
        last_ones = [last] if last else []
        return Loop(plan, learner, last_ones, missing, metrics=self._metrics, watch=self._watch)

    def _load(self, plan: Plan) -> tuple[dict[str, Artefact], dict[str, str]]:
        """Load the artefacts of a plan; returns them, and why others of it cannot be served.

        Raises:
            ArtefactError: none can.
        """
        artefacts, missing = dict[str, Artefact](), dict(plan.missing)
        for name, digest in plan.policies.items():
            try:
                artefacts[name] = load_shelved(digest, self._settings)
            except Exception as error:
                missing[name] = describe_error(error)
                log.error("loop %s, objective %s goes on without policy %s: %s", *plan.place, name, error)
        if not artefacts:
            why = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise ArtefactError(f"no policy can be served: {why or 'none is asked for'}")
        return artefacts, missing
