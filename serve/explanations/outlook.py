"""What a page about learning asks of a replica: where something is learned, and what policies think of items."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from data.log.recent.newest import newest_decisions
from data.reward import RewardSpec
from data.schema import Decision
from serve.contracts.learning import ServedPolicy
from serve.decisions.service import Service
from serve.explanations.boards import ItemEstimate, StateTable, estimate_items, find_table, read_state

VISITS: Final = 8
"""Decisions of late whose visits estimates are averages over."""
MOST_ITEMS: Final = 500
"""That estimates are asked of at once: a replica answers nobody else meanwhile."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """A loop and objective that is served."""

    loop: str
    objective: str
    spec: RewardSpec
    policies: tuple[ServedPolicy, ...]
    tables: tuple[str, ...]
    """Those that keep a table of states."""

    @property
    def name(self) -> str:
        """What a page's address calls it."""
        return f"{self.loop}/{self.objective}"


class Outlooks:
    """Answers in the recommender's own process. Its methods raise Refused, and StoreError as the store does."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def list_all(self) -> list[Outlook]:
        """Return all places."""
        found, policies = list[Outlook](), self._service.policies()
        for (loop, objective), recommender in sorted(self._service.served.places.items(), key=_first_v1):
            spec = await asyncio.to_thread(self._spec, loop, objective)
            tables = tuple(n for n in recommender.names if find_table(recommender.artefact(n).policy) is not None)
            own = tuple(one for one in policies if (one.loop, one.objective) == (loop, objective))
            found.append(Outlook(loop, objective, spec, own, tables))
        return found

    async def estimate(self, loop: str, objective: str, policy: str, items: Sequence[str]) -> dict[str, ItemEstimate]:
        """Return what a policy expects of items at the visits of late; {}: there was none, or nobody answers there."""
        recommender = self._service.served.places.get((loop, objective))
        if recommender is None or policy not in recommender.names or not items:
            return {}
        newest = await asyncio.to_thread(newest_decisions, self._service.store, 4 * VISITS)
        visits = [one for one in newest if _is_of(one, loop, objective)][:VISITS]
        if not visits:
            return {}
        of = self._service.items.catalogue.features_of
        return estimate_items(recommender, policy, items[:MOST_ITEMS], visits, of)

    async def table(self, loop: str, objective: str, policy: str, state: int | None) -> StateTable:
        """Return what a tabular policy knows in a state; None: in the one that it has learned most in."""
        return read_state(self._service.served.at(loop, objective), policy, state)

    def _spec(self, loop: str, objective: str) -> RewardSpec:
        of_loop = self._service.rewards.get(loop)
        return of_loop() if of_loop else self._service.reward_of(objective)


def _is_of(decision: Decision, loop: str, objective: str) -> bool:
    return (decision.loop, decision.objective) == (loop, objective) and bool(decision.candidates)


def _first_v1(place: tuple[tuple[str, str], object]) -> tuple[bool, bool, str, str]:
    (loop, objective), _ = place
    return loop != "v1", objective != "default", loop, objective
