"""What variants in the shadow decide: after the answer, between requests, and only as much as there is time for.

Nothing of it reaches who asked: it begins when they have their answer, what fails is counted and passed over, and
where requests come faster than shadows are made the newest are left out. What is left out says nothing of what would
have been shown, so a match rate is of those that were made.
"""

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeAlias

from data.log.current.catalogue_copy import Catalogue
from data.log.errors import StoreError
from data.schema import SHADOW, AnyRecord, Decision, to_shadow_id
from serve.abtests.running import Answer
from serve.contracts.decisions import RecommendRequest
from serve.contracts.rules import BusinessRules
from serve.decisions.recommender import Recommender
from serve.decisions.visits import Past, make_visit, set_answer

Make: TypeAlias = Callable[[], Decision]
_DISTRIBUTIONS = 1_000
"""Candidates of a decision that nobody sees, at most, of which it is logged how likely each was to be shown."""
_WAITING = 1_000
_AT_ONCE = 32
"""Decisions that are committed together."""
_PAUSE_S = 0.002

log = logging.getLogger("raycommend.abtests")


class Shadows:
    """Decisions to be made that nobody waits for."""

    def __init__(self, commit: Callable[[Sequence[AnyRecord]], Awaitable[Any]]) -> None:
        self._commit = commit
        self._waiting = deque[Make]()
        self._task: asyncio.Task[None] | None = None
        self.counts = Counter[str](made=0, failed=0, left_out=0)
        """Since this replica began."""

    def offer(self, make: Make) -> None:
        """Let a decision be made and logged when there is time; must be called on an event loop."""
        if len(self._waiting) >= _WAITING:
            self._count("left_out")
            return
        self._waiting.append(make)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    @property
    def waiting(self) -> int:
        """How many are still to be made."""
        return len(self._waiting)

    async def finish(self) -> None:
        """Wait until what was offered is logged."""
        while self._task is not None and not self._task.done():
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        while self._waiting:
            made = list[Decision]()
            await asyncio.sleep(_PAUSE_S)  # until the answer is sent
            while self._waiting and len(made) < _AT_ONCE:
                await asyncio.sleep(0)  # requests first
                try:
                    made.append(self._waiting.popleft()())
                except Exception:  # whatever it is: nobody was to see it
                    self._count("failed")
            try:
                if made:
                    await self._commit(made)
            except StoreError:
                self._count("failed", len(made))
            else:
                self.counts["made"] += len(made)

    def _count(self, what: str, n: int = 1) -> None:
        if not self.counts[what]:
            log.warning("decisions of variants in the shadow: some have %s", what.replace("_", " "), exc_info=True)
        self.counts[what] += n


def decide_unseen(
    request: RecommendRequest,
    recommender: Recommender,
    answer: Answer,
    shown: Decision,
    past: Past,
    catalogue: Catalogue,
    rules: BusinessRules,
) -> Decision:
    """Return what a variant would have shown in place of a decision, at its time; it is not logged yet."""
    visit = make_visit(request, recommender, answer.policy, shown.time, past, catalogue, rules)
    visit.decision_id = to_shadow_id(answer.variant or "", shown.decision_id)
    visit.log_probabilities = len(visit.candidates) <= _DISTRIBUTIONS
    set_answer(visit, answer)
    return recommender.decide_and_explain(visit)[0].model_copy(update={"loop": SHADOW})
