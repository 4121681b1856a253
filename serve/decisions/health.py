"""The health of a replica: what does not work, whether it is ready, and the state of learning."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from data.log.errors import StoreError
from data.log.following import lag
from data.log.store import Store
from rl.online.state import FoldState
from serve.contracts.errors import ERRORS
from serve.contracts.learning import Fold, LearningResponse
from serve.contracts.reports import FeedbackResult
from serve.decisions.served import Served

AskLearner: TypeAlias = Callable[[], Awaitable[Sequence[FoldState]]]
"""Asks the learner for the states of its folds; may raise anything where it does not answer."""

_CASES = {"stored": "stored", "known": "duplicate", "conflict": "contradictory"}
"""What a report is called by what became of it, as `data.attribution.join.Case` does."""
SILENT_S = 20.0
"""The learner is heard every few seconds; after so long it is reported as silent."""
_ASK_S = 2.0
_STORE_S = 2.0


class Learning:
    """What is known of the learner, and whether what is configured is served."""

    def __init__(self, served: Served, store: Store, replica: str, ask: AskLearner | None = None) -> None:
        """Keep how to ask the learner; None: only what it sent with its news is reported."""
        self._served, self._store, self._replica, self.ask = served, store, replica, ask
        self._reports = Counter[str](stored=0, duplicate=0, contradictory=0, orphan=0)

    def count(self, results: Iterable[FeedbackResult]) -> None:
        """Count what became of feedback."""
        for result in results:
            self._reports[_CASES[result.status]] += 1
            self._reports["orphan"] += result.orphan

    def reasons(self) -> list[str]:
        """Return in short what does not work, without anything that a client has sent."""
        served, reasons = self._served, list[str]()
        reasons += [f"{_name(*place)}: no policy" for place in served.list_missing()]
        for state in served.states:
            name = _name(state.loop, state.objective)
            if state.state == "failed":
                reasons.append(f"{name}: failed")
            if state.rows_set_aside:
                reasons.append(f"{name}: {state.rows_set_aside} rows set aside")
            if state.not_served:
                reasons.append(f"{name}: not served: {', '.join(sorted(state.not_served))}")
            reasons += [f"{name}: {policy} was promoted by force: {why}" for policy, why in state.forced.items()]
            reasons += [f"{name}: {policy}: {which}" for policy, which in state.rolled_back.items()]
        if served.heard and (silent := (datetime.now(UTC) - served.heard).total_seconds()) > SILENT_S:
            reasons.append(f"no word from the learner for {silent:.0f} s")
        return reasons

    async def check(self) -> None:
        """Return if the replica may be sent traffic.

        Raises:
            Refused: not_ready, a configured place has no policy; store_unavailable, the log does not answer.
        """
        if missing := self._served.list_missing():
            raise ERRORS.refuse(
                "not_ready", f"no policy yet, or none that can be loaded: {', '.join(_name(*p) for p in missing)}"
            )
        try:
            await asyncio.wait_for(asyncio.to_thread(self._store.last_decision), _STORE_S)
        except (StoreError, TimeoutError):
            raise ERRORS.refuse("store_unavailable", "the log does not answer now") from None

    async def report(self) -> LearningResponse:
        """Return the state of each fold, as the learner reports it now, or reported it last."""
        answers = False
        if self.ask is not None:
            try:
                self._served.hear(await asyncio.wait_for(self.ask(), _ASK_S))
                answers = True
            except Exception:  # whatever it is: the learner does not answer, which is reported
                answers = False
        states = {(state.loop, state.objective): state for state in self._served.states}
        now = datetime.now(UTC)
        for loop, objective in self._served.configured - states.keys():
            reason = "the learner has said nothing of it"
            states[loop, objective] = FoldState(
                loop=loop, objective=objective, state="failed", reason=reason, as_of=self._served.heard or now
            )
        folds = await asyncio.to_thread(lambda: [self._measure_lag(state) for _, state in sorted(states.items())])
        learner = "answers" if answers or (self.ask is None and self._served.heard) else "silent"
        return LearningResponse(
            replica=self._replica,
            learner=learner,
            heard=self._served.heard,
            reports=dict(self._reports),
            folds=folds,
        )

    def _measure_lag(self, state: FoldState) -> Fold:
        try:
            behind = lag(self._store, state.loop, state.decisions_through, state.feedback_through)
        except StoreError:
            behind = None
        known = {
            name: value for name, value in dict(state).items() if name in Fold.model_fields
        }  # newer code says more
        return Fold(
            **known,
            decisions_behind=behind and behind.decisions,
            feedback_behind=behind and behind.feedback,
            seconds_behind=behind and behind.seconds,
        )


def _name(loop: str, objective: str) -> str:
    return f"loop {loop}, objective {objective}"
