"""What a replica knows of the learner's folds, and how it keeps up with them. No Ray: `serve.app` brings the news."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime

from rl.policy import PolicyError
from serve.fold import Snapshot
from serve.loops import News, Place
from serve.recommender import Recommender
from serve.router import Router


def owned(news: News) -> News:
    """Return news with policies that can learn on: arrays that came from another process over Ray cannot be written."""
    return {place: _copied(what) if isinstance(what, Snapshot) else what for place, what in news.items()}


def _copied(snapshot: Snapshot) -> Snapshot:
    copies = {name: replace(a, policy=deepcopy(a.policy)) for name, a in snapshot.artefacts.items()}
    return replace(snapshot, artefacts=copies)


class Served:
    """A recommender for each fold.

    `take` must not run while a request is decided: on an event loop it does not, as neither awaits.
    """

    def __init__(self, shares: Mapping[str, Mapping[str, float]]) -> None:
        """Take the shares of the policies in the traffic by loop."""
        self._routers = {loop: Router(of_loop) for loop, of_loop in shares.items()}
        self._recommenders: dict[Place, Recommender] = {}
        self.since: dict[tuple[Place, str, str], datetime] = {}
        """When this replica began to answer with an artefact, by place, policy and digest."""

    @property
    def places(self) -> dict[Place, Recommender]:
        """All recommenders."""
        return self._recommenders

    def known(self) -> dict[Place, tuple[str, int]]:
        """Return the fold and the step that each recommender has."""
        return {place: (r.fold_id, r.number) for place, r in self._recommenders.items()}

    def at(self, loop: str, objective: str = "default") -> Recommender:
        """Return the recommender of a loop and an objective.

        Raises:
            PolicyError: there is no such objective.
        """
        if found := self._recommenders.get((loop, objective)):
            return found
        known = ", ".join(sorted(name for of_loop, name in self._recommenders if of_loop == loop)) or "none"
        raise PolicyError(f"objective {objective!r} is not served; served are {known}")

    def take(self, news: News) -> None:
        """Take over what the learner has published."""
        for place, what in news.items():
            recommender = self._recommenders.get(place)
            if isinstance(what, Snapshot):
                if recommender is None:
                    recommender = self._recommenders[place] = Recommender(self._routers[place[0]], *place)
                recommender.restore(what)
                now = datetime.now(UTC)
                for name, artefact in what.artefacts.items():
                    self.since.setdefault((place, name, artefact.digest), now)
            else:
                assert recommender is not None, "updates follow a snapshot"
                for update in what:
                    recommender.apply(update)
