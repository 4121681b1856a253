"""The learning loops that one learner runs: which folds there are, how a new one takes over. No Ray.

A *plan* says what a fold begins with. Sources give plans: the configuration, the registry's champion, the Personalizer
API's settings. Where a plan changes - another champion, other rewards, a user was forgotten - a new fold is made of the
whole log beside the old one, which goes on answering; then the new one takes its place. One that cannot be made is
refused and said, and the old one stays.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeAlias

import sqlalchemy as sa

from data.settings import Settings
from data.state import ERASURES
from data.store import Store
from rl.artefact import ArtefactError
from rl.policy import PolicyError
from serve.fold import FoldSpec, Snapshot, Update
from serve.kept import load_kept
from serve.learner import OnlineLearner

_HISTORY = 200
"""Updates kept for followers; one that has missed more takes a snapshot."""

Place: TypeAlias = tuple[str, str]
"""A loop and an objective."""
Known: TypeAlias = Mapping[Place, tuple[str, int]]
"""The fold and the step that a follower has of each."""
News: TypeAlias = dict[Place, Snapshot | list[Update]]
"""What a follower does not have yet."""

log = logging.getLogger("ray.serve")


@dataclass(frozen=True)
class Plan:
    """What a fold begins with."""

    spec: FoldSpec
    policies: Mapping[str, str]
    """Digests of kept artefacts, by the policy's name."""
    erasures: int = 0
    """How many users had been forgotten: another number is another log."""

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

    @property
    def published(self) -> int:
        """The number of the last step that followers may have."""
        return self.updates[-1].number if self.updates else 0

    def poll(self) -> bool:
        """Learn what is new; returns whether there was anything."""
        if update := self.learner.poll():
            self.updates = [*self.updates[-_HISTORY:], update]
        return update is not None

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
            ArtefactError: a policy cannot be loaded.
        """
        self._store, self._settings, self._sources, self._clock = store, settings, sources, clock
        self._refused: dict[Place, Plan] = {}
        self._faults: dict[int, str] = {}
        self.current: dict[Place, Loop] = {}
        self.problems: dict[Place, str] = {}
        """Why a plan was refused, where one was and nothing better has come since."""
        for source in sources:
            for plan in source():
                self.current[plan.place] = self._begin(plan)

    def poll(self) -> bool:
        """Let each fold learn what is new; returns whether there was anything."""
        news = False
        for loop in list(self.current.values()):
            news = loop.poll() or news
        return news

    def refresh(self) -> bool:
        """Begin a fold for each plan that has changed, and let it take over; returns whether one did."""
        changed = False
        for plan in self._plans():
            loop = self.current.get(plan.place)
            if (loop and loop.plan == plan) or self._refused.get(plan.place) == plan:
                continue
            try:
                self.current[plan.place] = self._begin(plan)
            except (ArtefactError, PolicyError) as error:
                self._refused[plan.place], self.problems[plan.place] = plan, str(error)
                log.error("loop %s, objective %s goes on with what it has: %s", *plan.place, error)
                continue
            self._refused.pop(plan.place, None)
            self.problems.pop(plan.place, None)
            changed = True
        return changed

    def behind(self, known: Known) -> bool:
        """Return whether a follower lacks something."""
        for place, loop in self.current.items():
            fold_id, number = known.get(place, ("", 0))
            if fold_id != loop.learner.fold_id or number < loop.published:
                return True
        return False

    def news(self, known: Known) -> News:
        """Return what a follower does not have yet, by fold; nothing where it has all."""
        found: News = {}
        for place, loop in self.current.items():
            fold_id, number = known.get(place, ("", 0))
            if news := loop.news(fold_id, number):
                found[place] = news
        return found

    def _plans(self) -> list[Plan]:
        plans = list[Plan]()
        for number, source in enumerate(self._sources):
            try:
                plans += source()
            except ValueError as error:  # what one source cannot give does not stop the others
                if self._faults.get(number) != str(error):
                    log.error("%s gives no plan, what it gave before goes on: %s", type(source).__name__, error)
                self._faults[number] = str(error)
        return plans

    def _begin(self, plan: Plan) -> Loop:
        artefacts = {name: load_kept(digest, self._settings) for name, digest in plan.policies.items()}
        learner = OnlineLearner(self._store, artefacts, plan.spec, self._clock)
        last = learner.catch_up()
        return Loop(plan, learner, [last] if last else [])


def erasures(store: Store) -> int:
    """Return how many users were forgotten."""
    with store.reading() as connection:
        return int(connection.execute(sa.select(sa.func.coalesce(sa.func.max(ERASURES.c.seq), 0))).scalar_one())
