"""The recommenders of a replica: one for each fold of the learner, kept up to date with what it publishes."""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime

from data.schema import LOOP_V1
from rl.online.fold import News, Place, Publication, Update
from rl.online.state import FoldState
from rl.policy.errors import PolicyError
from serve.contracts.errors import ERRORS
from serve.decisions.recommender import Recommender, Watch
from serve.decisions.router import Router

log = logging.getLogger("ray.serve")


def has_publication(news: News) -> bool:
    """Say whether there is something to be made writable, which takes long: seldom, most news are updates."""
    return any(isinstance(what, Publication) for what in news.values())


def make_writable(news: News) -> News:
    """Return news with copies of the policies, which learn on: arrays that came over Ray cannot be written."""
    return {place: _copy_policies(what) if isinstance(what, Publication) else what for place, what in news.items()}


def _copy_policies(publication: Publication) -> Publication:
    copies = {name: replace(a, policy=deepcopy(a.policy)) for name, a in publication.artefacts.items()}
    return replace(publication, artefacts=copies)


class Served:
    """A recommender for each fold.

    `take` must not run while a request is decided: on an event loop it does not, as neither awaits.
    """

    def __init__(
        self,
        shares: Mapping[str, Mapping[str, float]],
        objectives: Collection[str] = (),
        watch: Watch | None = None,
        make: Callable[[Router, str, str], Recommender] = Recommender,
    ) -> None:
        """Take what is configured.

        Args:
            shares: of the policies in the traffic, by loop.
            objectives: of the loop v1, beside the default.
            watch: is told of each decision.
            make: makes the recommender of a router, a loop and an objective.
        """
        self._watch, self._make = watch, make
        self._routers = {loop: Router(of_loop) for loop, of_loop in shares.items()}
        self.configured = frozenset(
            [
                *((loop, "default") for loop in shares),
                *((LOOP_V1, objective) for objective in objectives if LOOP_V1 in shares),
            ]
        )
        """The places that are to be served."""
        self.states: tuple[FoldState, ...] = ()
        """The states of the folds when the learner was last heard."""
        self.heard: datetime | None = None
        """When that was."""
        self._lost = set[Place]()  # recommenders that could not take over an update
        self._recommenders: dict[Place, Recommender] = {}
        self.since: dict[tuple[Place, str, str], datetime] = {}
        """When this replica began to answer with an artefact, by place, policy and digest."""

    @property
    def places(self) -> dict[Place, Recommender]:
        """All recommenders."""
        return self._recommenders

    def steps(self) -> dict[Place, tuple[str, int]]:
        """Return the fold and the step that each recommender has."""
        return {place: (r.fold_id, r.number) for place, r in self._recommenders.items() if place not in self._lost}

    def hear(self, states: Sequence[FoldState]) -> None:
        """Note the states of the folds, as the learner reports them."""
        self.states, self.heard = tuple(states), datetime.now(UTC)

    def list_missing(self) -> list[Place]:
        """Return the places that are configured and have no recommender."""
        return sorted(self.configured - self._recommenders.keys())

    def at(self, loop: str, objective: str = "default") -> Recommender:
        """Return the recommender of a loop and an objective.

        Raises:
            PolicyError: there is no such objective.
            Refused: not_ready, it is configured and has no policy yet.
        """
        if recommender := self._recommenders.get((loop, objective)):
            return recommender
        if (loop, objective) in self.configured:
            message = f"loop {loop}, objective {objective} has no policy yet, or none can be loaded"
            raise ERRORS.refuse("not_ready", message)
        served = ", ".join(sorted(name for of_loop, name in self._recommenders if of_loop == loop)) or "none"
        raise PolicyError(f"objective {objective!r} is not served; served are {served}")

    def take(self, news: News) -> None:
        """Take over what the learner has published; where an update fails, a snapshot is asked for the next time."""
        for place, what in news.items():
            try:
                self._take(place, what)
            except Exception:  # the other places are taken over
                self._lost.add(place)
                log.exception("loop %s, objective %s: what the learner published cannot be taken over", *place)

    def _take(self, place: Place, what: Publication | Sequence[Update]) -> None:
        recommender = self._recommenders.get(place)
        if isinstance(what, Publication):
            if recommender is None:
                recommender = self._make(self._routers[place[0]], *place)
                recommender.watch = self._watch
            recommender.restore(what)
            self._recommenders[place] = recommender
            self._lost.discard(place)
            now = datetime.now(UTC)
            for name, artefact in what.artefacts.items():
                self.since.setdefault((place, name, artefact.digest), now)
        else:
            assert recommender is not None, "updates follow a publication"
            for update in what:
                recommender.apply(update)
