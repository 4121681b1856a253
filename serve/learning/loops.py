"""The learning loops that one learner runs: which folds there are, how a new one takes over.

A *plan* says what a fold begins with. Sources give plans: the configuration, the registry's champion, the Personalizer
API's settings. Where a plan changes - another champion, other rewards, a user was forgotten - a new fold is made of the
whole log beside the old one, which goes on answering; then the new one takes its place. One that cannot be made is
refused and said, and the old one stays.

What fails does so alone. A policy that cannot be loaded is left out of its fold; a plan of which none can be begun has
no fold; a source that fails gives no plan. A fold that fails is not followed any more: what it has published goes on
being served, the others go on, and it is begun anew: at once, after a minute, then after twice as long each time. Only
where no fold at all can be begun does the start fail.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import TypeAlias

from data.log.database import StoreError
from data.log.store import Store
from data.log.unreadable import reason_of
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.artefacts.errors import ArtefactError
from rl.artefacts.shelf import load_kept
from rl.online.fold import FoldSpec, Known, News, Place, Snapshot, Update
from rl.online.learner import OnlineLearner
from rl.online.state import FoldState

_HISTORY = 200
"""Updates kept for followers; one that has missed more takes a snapshot."""
_AGAIN_S = 60.0
"""After this a fold that has failed again is begun anew, and then after twice as long."""

log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Plan:
    """What a fold begins with."""

    spec: FoldSpec
    policies: Mapping[str, str]
    """Digests of kept artefacts, by the policy's name."""
    erasures: int = 0
    """How many users had been forgotten: another number is another log."""
    lacking: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Why policies that were asked for are not among them."""

    @property
    def place(self) -> Place:
        """Which fold it is of."""
        return self.spec.loop, self.spec.objective


PlanSource: TypeAlias = Callable[[], Sequence[Plan]]
"""Gives the plans that hold now; may raise StoreUnavailable or a ValueError, and is asked again."""


@dataclass
class Loop:
    """One fold in service."""

    plan: Plan
    learner: OnlineLearner
    updates: list[Update] = field(default_factory=list)
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Why policies of the plan could not be loaded."""
    failed: str | None = None
    """Why it does not follow the log any more."""

    @property
    def published(self) -> int:
        """The number of the last step that followers may have."""
        return self.updates[-1].number if self.updates else 0

    def poll(self) -> bool:
        """Learn what is new; returns whether there was anything.

        Raises:
            StoreError: the log did not answer; the next call goes on.
        """
        if self.failed is not None:
            return False
        try:
            update = self.learner.poll()
        except StoreError:
            raise
        except Exception as error:
            # What it had half learned nobody sees: followers have what was published, and it is begun anew.
            self.failed = reason_of(error)
            log.exception("loop %s, objective %s has failed and is not followed any more", *self.plan.place)
            return False
        if update:
            self.updates = [*self.updates[-_HISTORY:], update]
        return update is not None

    def state(self, now: datetime) -> FoldState:
        """Say how it is."""
        aside, (decisions, feedback) = self.learner.aside, self.learner.positions
        lacks = "; ".join(f"policy {name} is not served: {reason}" for name, reason in self.lacking.items())
        return FoldState(
            loop=self.plan.spec.loop,
            objective=self.plan.spec.objective,
            fold_id=self.learner.fold_id,
            state="failed" if self.failed is not None else "set_aside" if aside.count else "following",
            reason=self.failed or lacks or None,
            policies=tuple(name for name in self.plan.policies if name not in self.lacking),
            not_served=dict(self.lacking),
            decisions_through=decisions,
            feedback_through=feedback,
            waiting=self.learner.waiting,
            rows_set_aside=aside.count,
            set_aside=aside.listed(),
            as_of=now,
        )

    def news(self, fold_id: str, number: int) -> Snapshot | list[Update]:
        """Return what came after a step, or everything to a follower of another fold or one that has missed a step."""
        updates = [update for update in self.updates if update.number > number]
        missed = number + 1 < (updates[0].number if updates else number + 1)
        return self.learner.snapshot() if fold_id != self.learner.fold_id or missed else updates


class Loops:
    """All folds of a service. `poll` and `refresh` may run in different threads."""

    def __init__(
        self, store: Store, settings: Settings, sources: Sequence[PlanSource], clock: Callable[[], datetime]
    ) -> None:
        """Make the folds of all plans; they have learned the log when this returns.

        Raises:
            ArtefactError: there are plans, and of none can a fold be begun.
            StoreError: the log did not answer.
        """
        self._store, self._settings, self._sources, self._clock = store, settings, sources, clock
        self._refused: dict[Place, Plan] = {}
        self._faults: dict[int, str] = {}
        self._again: dict[Place, tuple[float, float]] = {}  # when to begin a failed fold anew, and how long was waited
        self.current: dict[Place, Loop] = {}
        self.problems: dict[Place, str] = {}
        """Why a plan was refused, where one was and nothing better has come since."""
        self.refresh()
        if not self.current and (problems := [*self.problems.values(), *self._faults.values()]):
            raise ArtefactError("; ".join(dict.fromkeys(problems)))

    def poll(self) -> bool:
        """Let each fold learn what is new; returns whether there was anything.

        Raises:
            StoreError: the log did not answer.
        """
        news = False
        for loop in list(self.current.values()):
            news = loop.poll() or news
        return news

    def refresh(self) -> bool:
        """Begin a fold for each plan that has changed, and let it take over; returns whether one did."""
        changed = False
        for plan in self._plans():
            loop = self.current.get(plan.place)
            failed = loop is not None and loop.failed is not None
            if loop and loop.plan == plan and not (failed and self._may_begin_anew(plan.place)):
                continue
            if self._refused.get(plan.place) == plan and not failed:
                continue
            try:
                self.current[plan.place] = self._begin(plan)
            except StoreError:
                raise
            except Exception as error:
                self._refused[plan.place], self.problems[plan.place] = plan, reason_of(error)
                log.error("loop %s, objective %s goes on with what it has: %s", *plan.place, error)
                continue
            self._refused.pop(plan.place, None)
            self.problems.pop(plan.place, None)
            changed = True
        return changed

    def _may_begin_anew(self, place: Place) -> bool:
        """Return whether a fold that has failed has waited long enough."""
        now = monotonic()
        due, wait = self._again.get(place, (now, _AGAIN_S))
        if now < due:
            return False
        self._again[place] = (now + wait, 2 * wait)
        return True

    def states(self) -> tuple[FoldState, ...]:
        """Say how each fold is, and each place that has none."""
        now = self._clock()
        states = {place: loop.state(now) for place, loop in self.current.items()}
        for place, problem in self.problems.items():
            if known := states.get(place):
                reason = f"a new plan was refused, it goes on with what it has: {problem}"
                states[place] = known.model_copy(update={"reason": known.reason or reason})
            else:
                states[place] = FoldState(loop=place[0], objective=place[1], state="failed", reason=problem, as_of=now)
        return tuple(state for _, state in sorted(states.items()))

    def behind(self, known: Known) -> bool:
        """Return whether a follower lacks something."""
        for place, loop in self.current.items():
            fold_id, number = known.get(place, ("", 0))
            if loop.failed is None and (fold_id != loop.learner.fold_id or number < loop.published):
                return True
        return False

    def news(self, known: Known) -> News:
        """Return what a follower does not have yet, by fold; nothing where it has all."""
        found: News = {}
        for place, loop in self.current.items():
            fold_id, number = known.get(place, ("", 0))
            if loop.failed is None and (news := loop.news(fold_id, number)):
                found[place] = news
        return found

    def _plans(self) -> list[Plan]:
        plans = list[Plan]()
        for number, source in enumerate(self._sources):
            try:
                plans += source()
            except StoreError:
                raise
            except Exception as error:  # what one source cannot give does not stop the others
                if self._faults.get(number) != str(error):
                    log.error("%s gives no plan, what it gave before goes on: %s", type(source).__name__, error)
                self._faults[number] = str(error)
        return plans

    def _begin(self, plan: Plan) -> Loop:
        artefacts, lacking = dict[str, Artefact](), dict(plan.lacking)
        for name, digest in plan.policies.items():
            try:
                artefacts[name] = load_kept(digest, self._settings)
            except Exception as error:
                lacking[name] = reason_of(error)
                log.error("loop %s, objective %s goes on without policy %s: %s", *plan.place, name, error)
        if not artefacts:
            why = "; ".join(f"{name}: {reason}" for name, reason in lacking.items())
            raise ArtefactError(f"no policy can be served: {why or 'none is asked for'}")
        learner = OnlineLearner(self._store, artefacts, plan.spec, self._clock)
        last = learner.catch_up()
        return Loop(plan, learner, [last] if last else [], lacking)
