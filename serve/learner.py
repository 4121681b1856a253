"""The online learner: folds the log into the policies as it grows. A plain class: no Ray.

A decision is folded as soon as some of its feedback counts, or else when its wait window closes; further feedback in
the window corrects what was folded. At any time the policies are what batch training on the same log would give.

A fold goes in steps, and each is recorded in the log before its state is shown to anyone: whoever repeats the steps
(`replay`) comes to the same states bit by bit, as sums of floats depend on how they were grouped.
"""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from operator import methodcaller
from uuid import uuid4

from data.attribution import GRACE, Outcome, attribute
from data.schema import Decision, Feedback, Version
from data.store import Store
from rl.artefact import Artefact
from rl.fold import correct, observe
from rl.histories import Histories, outcome_of
from rl.json_features import DescribedEncoder
from rl.policy import Observations
from serve.fold import FoldSpec, HistoryStep, Snapshot, Update

_ROWS = 5_000
"""Log rows read at a time; bounds the memory of a fold over a long log."""
_NOT_READ = ("propensities", "scores", "probabilities", "rules", "request")
"""What of a decision is not needed to learn from it."""
_OF_FEATURES = ("candidates", "features", "slots")
"""What is needed only by policies that learn from features that were given with the request."""


@dataclass(slots=True)
class _Tracked:
    """A decision whose window is open, or was a moment ago."""

    decision: Decision
    feedback: list[Feedback]
    folded: tuple[float, ...] | None = None  # the rewards that the policies have learned


@dataclass(slots=True)
class _Fold:
    """What one reading of the log changes."""

    new: list[Outcome] = field(default_factory=list)
    corrected: list[tuple[Outcome, tuple[float, ...]]] = field(default_factory=list)  # with the rewards learned before


class OnlineLearner:
    """Follows one log. `poll` and `snapshot` may be called from different threads."""

    def __init__(
        self,
        store: Store,
        artefacts: Mapping[str, Artefact],
        spec: FoldSpec,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        fold_id: str | None = None,
    ) -> None:
        """Start before the first row of the log; the artefacts' policies are changed in place.

        What an artefact was trained on already, it does not learn again. Steps are recorded only in a fold of its own:
        one that is given an id is another's, to be replayed.
        """
        self._store, self._artefacts, self._spec, self._clock = store, artefacts, spec, clock
        self._wait = timedelta(seconds=spec.reward.wait_s)
        self._lock = threading.Lock()
        self._tracked: dict[str, _Tracked] = {}
        self._open: deque[str] = deque()  # in log order: windows that are not yet known to be closed
        self._kept: deque[str] = deque()  # closed, within the grace
        self._orphans: dict[str, list[Feedback]] = {}
        self._decision_seq = self._feedback_seq = self._number = 0
        self._last_decision = datetime.min.replace(tzinfo=UTC)
        plain = not any(isinstance(artefact.encoder, DescribedEncoder) for artefact in artefacts.values())
        self._not_read = (*_NOT_READ, *_OF_FEATURES) if plain else _NOT_READ
        length = max((artefact.history for artefact in artefacts.values()), default=0)
        self.histories = Histories(length) if length else None
        """Of the users, where a policy reads them."""
        self._told: list[HistoryStep] = []
        self.fold_id = fold_id or uuid4().hex[:8]
        self.caught_up = False
        """Whether the last poll came to the end of the log."""
        self._unrecorded = [] if fold_id else [self._version(clock(), begins=True)]
        self._unpublished: Update | None = None

    def poll(self) -> Update | None:
        """Read what the log has gained, learn it and record the step; None if nothing has changed.

        Raises:
            StoreUnavailable: the database did not answer; the next call goes on where this one has stopped.
        """
        with self._lock:  # a snapshot must not say that it has learned what has only been read
            if not self._unpublished:
                self._unpublished = self._read()
            self._record()
            update, self._unpublished = self._unpublished, None
            return update

    def catch_up(self) -> Update | None:
        """Poll until the end of the log; returns the last update."""
        last, self.caught_up = None, False
        while not self.caught_up:
            last = self.poll() or last
        return last

    def snapshot(self) -> Snapshot:
        """Return the state after the last step.

        Raises:
            StoreUnavailable: the step could not be recorded yet.
        """
        with self._lock:
            self._record()
            artefacts = {name: replace(a, policy=deepcopy(a.policy)) for name, a in self._artefacts.items()}
            histories = self.histories.copy() if self.histories is not None else None
            return Snapshot(self.fold_id, self._number, self._feedback_seq, artefacts, histories)

    @property
    def number(self) -> int:
        """The last step."""
        return self._number

    def replay(self, version: Version) -> None:
        """Repeat the next step of a recorded fold."""
        spec, until = self._spec, version.decision_seq
        feedback = self._store.feedback(self._feedback_seq, loop=spec.loop, until=version.feedback_seq)
        decisions = self._store.decisions(self._decision_seq, loop=spec.loop, until=until, without=self._not_read)
        self.caught_up = version.caught_up
        self._step(feedback, decisions, version.as_of)

    def _read(self) -> Update | None:
        now, spec = self._clock(), self._spec
        # Feedback first: then each decision that it is about is in the log already when the decisions are read.
        feedback = self._store.feedback(self._feedback_seq, _ROWS, loop=spec.loop)
        behind = len(feedback) == _ROWS
        if behind:  # there is more, all received later than this: for the fold it is not later yet
            now = _received(feedback[-1][1])
        ahead = behind and self._last_decision > now  # a long log is read abreast, so that few decisions are open
        decisions = (
            [] if ahead else self._store.decisions(self._decision_seq, _ROWS, loop=spec.loop, without=self._not_read)
        )
        self.caught_up = not behind and len(decisions) < _ROWS
        update = self._step(feedback, decisions, now)
        if update:
            self._unrecorded.append(self._version(now))
        return update

    def _step(
        self, feedback: Sequence[tuple[int, Feedback]], decisions: Sequence[tuple[int, Decision]], now: datetime
    ) -> Update | None:
        touched = self._hear(feedback) | self._track(decisions) | self._close(now)
        update = None
        if touched or feedback or self._told:
            update = self._learn(self._fold(touched, now))
        self._forget(now)
        return update

    def _version(self, now: datetime, begins: bool = False) -> Version:
        digests = {name: artefact.digest for name, artefact in self._artefacts.items()}
        return Version(
            version_id=f"{self.fold_id}.{self._number}",
            loop=self._spec.loop,
            objective=self._spec.objective,
            fold_id=self.fold_id,
            number=self._number,
            decision_seq=self._decision_seq,
            feedback_seq=self._feedback_seq,
            as_of=now,
            caught_up=self.caught_up,
            begins={"policies": digests, "spec": self._spec.model_dump(mode="json")} if begins else None,
        )

    def _record(self) -> None:
        if self._unrecorded:
            self._store.insert(self._unrecorded)
            self._unrecorded = []

    def _hear(self, feedback: Sequence[tuple[int, Feedback]]) -> set[str]:
        """Add feedback to its decisions, or keep it for a decision that may follow."""
        touched = set()
        for seq, report in feedback:
            self._feedback_seq = seq
            self._tell_of(report)
            if tracked := self._tracked.get(report.decision_id):
                tracked.feedback.append(report)
                touched.add(report.decision_id)
            else:
                self._orphans.setdefault(report.decision_id, []).append(report)
        return touched

    def _track(self, decisions: Sequence[tuple[int, Decision]]) -> set[str]:
        """Start to follow decisions; returns those whose feedback was there before them."""
        touched = set()
        for seq, decision in decisions:
            self._decision_seq, self._last_decision = seq, decision.time
            early = self._orphans.pop(decision.decision_id, [])
            self._tracked[decision.decision_id] = _Tracked(_shown(decision) if decision.candidates else decision, early)
            self._open.append(decision.decision_id)
            if decision.user_id is not None:
                self._tell(methodcaller("show", decision.user_id, decision.decision_id, decision.slate))
            for report in early:
                self._tell_of(report)
            if early:
                touched.add(decision.decision_id)
        return touched

    def _close(self, now: datetime) -> set[str]:
        """Return the decisions whose window has closed since the last call."""
        closed = set()
        while self._open and self._tracked[self._open[0]].decision.time + self._wait < now:
            closed.add(self._open[0])
            self._tell(methodcaller("closed", self._open[0]))
            self._kept.append(self._open.popleft())
        return closed

    def _tell(self, step: HistoryStep) -> None:
        if self.histories is not None:
            step(self.histories)
            self._told.append(step)

    def _tell_of(self, report: Feedback) -> None:
        if (outcome := outcome_of(report.kind, report.value)) is not None:
            self._tell(methodcaller("happened", report.decision_id, report.item_id, outcome))

    def _forget(self, now: datetime) -> None:
        """Drop what nothing can change any more."""
        past = now - self._wait - GRACE
        while self._kept and self._tracked[self._kept[0]].decision.time < past:
            del self._tracked[self._kept.popleft()]
        if self.caught_up:  # received longer ago than the window is long: no decision that may follow can claim it
            kept = {key: reports for key, reports in self._orphans.items() if _received(reports[-1]) >= past}
            self._orphans = kept

    def _fold(self, touched: set[str], now: datetime) -> _Fold:
        fold = _Fold()
        for decision_id in sorted(touched):  # a fixed order, so that sums come out the same
            tracked = self._tracked[decision_id]
            outcome = attribute(tracked.decision, tracked.feedback, self._spec.reward, now)
            if not outcome.due or outcome.rewards == tracked.folded:
                continue
            if tracked.folded is None:
                fold.new.append(outcome)
            else:
                fold.corrected.append((outcome, tracked.folded))
            tracked.folded = outcome.rewards
        return fold

    def _learn(self, fold: _Fold) -> Update:
        self._number += 1
        observations = {}
        for name, artefact in self._artefacts.items():
            if not artefact.policy.learns:
                continue
            new = [outcome for outcome in fold.new if self._learns(name, outcome)]
            corrected = [pair for pair in fold.corrected if self._learns(name, pair[0])]
            parts = [observe(new, artefact.encoder)] if new else []
            parts += [correct(corrected, artefact.encoder)] if corrected else []
            if parts:
                observations[name] = Observations.concatenate(parts)
                artefact.policy.update(observations[name])
        told, self._told = tuple(self._told), []
        return Update(self._number, self._feedback_seq, observations, told)

    def _learns(self, name: str, outcome: Outcome) -> bool:
        decision, until = outcome.decision, self._artefacts[name].learned_until
        if decision.mode == "log" or (until is not None and decision.time <= until):
            return False
        return self._spec.learn_from == "all" or decision.policy == name


def _shown(decision: Decision) -> Decision:
    """Return the decision with what was shown as its candidates: the others, most of its memory, are not learned."""
    changes: dict[str, object] = {"candidates": decision.slate}
    if decision.features and decision.features.items:
        shown = tuple(decision.features.items[decision.candidates.index(item)] for item in decision.slate)
        changes["features"] = decision.features.model_copy(update={"items": shown})
    return decision.model_copy(update=changes)


def _received(feedback: Feedback) -> datetime:
    assert feedback.received_at is not None, "feedback of the log has it"
    return feedback.received_at
