"""Explains decisions by the version that made them: the one that is served, else the same made again from the log."""

import asyncio
from collections.abc import Callable
from typing import Literal, TypeVar

from data.log.store import Store
from data.schema import Decision
from data.settings import Settings
from rl.policy.explanation.parts import TOP, Explanation
from serve.audit.replay import find_difference, place_of
from serve.contracts.errors import ERRORS
from serve.contracts.explanations import DecisionExplanation
from serve.decisions.recommender import Recommender, to_visit
from serve.decisions.served import Served
from serve.explanations.answer import respond
from serve.explanations.versions import KEPT_S, Versions
from serve.explanations.views import View, see, see_actions

LIMIT_S = 10.0
"""How long a version is made again for one request; who asks again goes on from there."""

T = TypeVar("T")
Finish = Callable[[], T]
"""What is left to do when all that changes with the next update was looked at."""


class Explanations:
    """Explains decisions of one log. Its methods raise `Refused`, and StoreError as the store does."""

    def __init__(self, served: Served, store: Store, settings: Settings, limit_s: float = LIMIT_S) -> None:
        self._served, self._store = served, store
        self._versions = Versions(store, settings, limit_s)

    async def explain(self, decision_id: str, top: int = TOP) -> DecisionExplanation:
        """Explain a decision.

        Args:
            decision_id: of any loop, also of one that nobody was shown, and of an archived day.
            top: contributions, and shares of the variance, that are listed of each item.

        Raises:
            Refused: unknown_decision, the log has none, or its user was forgotten; not_explainable, its version cannot
                be made again; making_again, not within the time.
            StoreError: the log does not answer.
        """
        decision = await asyncio.to_thread(self._store.decision, decision_id)
        if decision is None:
            raise ERRORS.refuse("unknown_decision", f"there is no decision {decision_id!r}", "decision_id")

        def prepare(
            recommender: Recommender, state: Literal["served", "made_again"]
        ) -> tuple[Finish[DecisionExplanation], bool]:
            seen = see(recommender, decision)
            return lambda: respond(decision, seen, state, top), seen.changes

        return await self._by_its_version(decision, prepare)

    async def explain_actions(self, decision: Decision, top: int = TOP) -> Explanation:
        """Explain what was expected of all candidates of a decision of one policy, in their order; see `explain`."""

        def prepare(recommender: Recommender, state: object) -> tuple[Finish[Explanation], bool]:
            view = see_actions(recommender, decision)
            return lambda: view.explain(top), view.policy.learns

        return await self._by_its_version(decision, prepare)

    async def _by_its_version(
        self,
        decision: Decision,
        prepare: Callable[[Recommender, Literal["served", "made_again"]], tuple[Finish[T], bool]],
    ) -> T:
        fold_id, number = place_of(decision.policy_version)
        if not fold_id:
            message = f"version {decision.policy_version!r} is of no fold: it was not decided here"
            raise ERRORS.refuse("not_explainable", message)
        recommender = self._find(fold_id, number)
        if recommender is None:
            return await self._made_again(decision, fold_id, number, prepare)
        _check(recommender, decision)
        finish, changes = prepare(recommender, "served")
        # What learns must not learn meanwhile, and is quick; what does not, a network, may take a while.
        return finish() if changes else await asyncio.to_thread(finish)

    def _find(self, fold_id: str, number: int) -> Recommender | None:
        places = self._served.places.values()
        return next((one for one in places if (one.fold_id, one.number) == (fold_id, number)), None)

    async def _made_again(
        self,
        decision: Decision,
        fold_id: str,
        number: int,
        prepare: Callable[[Recommender, Literal["served", "made_again"]], tuple[Finish[T], bool]],
    ) -> T:
        def work() -> T:
            with self._versions.at(fold_id, number) as recommender:
                _check(recommender, decision)
                return prepare(recommender, "made_again")[0]()

        try:
            return await asyncio.to_thread(work)
        finally:
            asyncio.get_running_loop().call_later(KEPT_S + 1.0, self._versions.forget)


def explain_now(recommender: Recommender, decision: Decision, top: int = TOP) -> Explanation:
    """Explain what is expected of all candidates of a decision that a recommender has made just now."""
    view: View = see_actions(recommender, decision)
    return view.explain(top)


def _check(recommender: Recommender, decision: Decision) -> None:
    """Check that a version is the one that made a decision: made again, it is the same, bit by bit.

    Raises:
        Refused: not_explainable, it is not.
    """
    try:
        again = recommender.decide(to_visit(decision))
    except (ValueError, LookupError) as error:
        raise ERRORS.refuse("not_explainable", f"the decision cannot be made again: {error}") from error
    if differs := find_difference(decision, again):
        message = f"made again, the decision is another one, as after a user was forgotten: {differs}"
        raise ERRORS.refuse("not_explainable", message)
