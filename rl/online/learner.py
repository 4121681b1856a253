"""The online learner: folds the log into the policies as it grows.

A decision is folded as soon as some of its feedback counts, or else when its wait window closes; further feedback in
the window corrects what was folded. At any time the policies are what batch training on the same log would give.

A fold goes in steps, and each is recorded in the log before its state is shown to anyone: whoever repeats the steps
(`replay`) comes to the same states bit by bit, as sums of floats depend on how they were grouped.

What waits is kept as positions and deadlines (`rl.online.windows`); what feedback is about and what closes is read
from the log then, with all feedback about it. What was learned of a decision before follows from what had been read of
its feedback before, so it is not kept either: feedback may come however late it likes. What is gone from the log by
then, because its user was forgotten, is not learned; what it had taught goes with the new fold that an erasure begins.
What cannot be learned is set aside (`rl.online.set_aside`), and all else is learned.
"""

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from pydantic import JsonValue

from data.attribution.join import Outcome
from data.fields import EPOCH, MICROSECOND
from data.log.following import (
    SeenDecision,
    SeenFeedback,
    decision_ids,
    last_feedback,
    new_decisions,
    new_feedback,
    to_time,
    whole_decisions,
    whole_feedback,
)
from data.log.store import Store
from data.schema import Feedback, Version
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.online.errors import SnapshotError
from rl.online.fold import (
    FoldSpec,
    HistoryStep,
    Publication,
    Update,
)
from rl.online.guard import Guard
from rl.online.histories import Histories
from rl.online.history_steps import update_histories
from rl.online.observe import Learnable, UnlearnableError
from rl.online.set_aside import SetAsideRows
from rl.online.snapshot import Cursor, Snapshot
from rl.online.steps import Lesson, OutcomeChange, Remainder, Replayed, Step, find_due
from rl.online.windows import MAX_WAIT_S, Windows
from rl.policy.arrays import IntArray
from rl.policy.errors import PolicyError

MAX_ROWS = 5_000
"""Log rows read, and windows closed, at a time; bounds the memory of a fold over a long log."""
_UNREAD = ("propensities", "scores", "probabilities", "rules", "request")
"""Fields of a decision that nothing is learned from."""
_FEATURES = ("candidates", "features", "slots")
"""Those that only policies which learn from features of the request need."""


class OnlineLearner:
    """Follows one log. `poll`, `publication` and `snapshot` may be called from different threads."""

    def __init__(
        self,
        store: Store,
        artefacts: Mapping[str, Artefact],
        spec: FoldSpec,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        fold_id: str | None = None,
        snapshot: Snapshot | None = None,
    ) -> None:
        """Start before the first row of the log, or where a snapshot was taken; the policies are changed in place.

        What an artefact was trained on already, it does not learn again. Steps are recorded only in a fold of its own:
        one that is given an id is a recorded one, to be replayed.

        Args:
            store: the log.
            artefacts: what learns, or is served as it is, by name.
            spec: what is learned from, and what for.
            clock: gives the time, timezone-aware.
            fold_id: of the fold that is to be replayed.
            snapshot: what to begin from, of a fold of the same artefacts and specification.

        Raises:
            SnapshotError: a policy cannot go on from the snapshot.
        """
        self._store, self._artefacts, self._spec, self._clock = store, artefacts, spec, clock
        self._lock = threading.Lock()
        self._windows = Windows(int(min(spec.reward.wait_s, MAX_WAIT_S) * 1e6))
        self._decision_seq = self._feedback_seq = self._number = 0
        self._unfinished: Step | None = None
        self.set_aside = SetAsideRows(f"loop {spec.loop}, objective {spec.objective}", clock)
        """The rows that were not learned."""
        plain = not any(isinstance(artefact.encoder, FeaturesEncoder) for artefact in artefacts.values())
        self._unread = (*_UNREAD, *_FEATURES) if plain else _UNREAD
        length = max((artefact.history for artefact in artefacts.values()), default=0)
        self.histories = Histories(length) if length else None
        """Of the users, where a policy reads them."""
        self.fold_id = fold_id or uuid4().hex[:8]
        self.caught_up = False
        """Whether the last poll came to the end of the log."""
        self._as_of, self._origin = clock(), snapshot.cursor if snapshot else None
        rows = self._restore(snapshot) if snapshot else {}
        self.begun_at = self._decision_seq, self._number
        """Log position of the last decision, and the step, that it has begun after."""
        self._guards = {name: Guard(a, rows.get(name, 0)) for name, a in artefacts.items() if a.policy.learns}
        self._unrecorded = [] if fold_id else [self._version(self._as_of, begins=True)]
        self._unpublished: Update | None = None

    def _restore(self, snapshot: Snapshot) -> Mapping[str, int]:
        """Go on from a snapshot; returns how many impressions each policy has learned since it was looked at."""
        cursor = snapshot.cursor
        try:
            for name, state in snapshot.policies.items():
                self._artefacts[name].policy.load_state_dict(dict(state))
            self._windows.load_state_dict(snapshot.windows)
        except (PolicyError, KeyError, ValueError) as error:
            raise SnapshotError(f"no policy can go on from {cursor.fold_id}.{cursor.number}: {error}") from error
        if (self.histories is None) != (snapshot.histories is None):
            raise SnapshotError(f"{cursor.fold_id}.{cursor.number} has other histories than the policies read")
        self.histories = snapshot.histories
        self._decision_seq, self._feedback_seq = cursor.decision_seq, cursor.feedback_seq
        if cursor.fold_id == self.fold_id:
            self._number, self._as_of = cursor.number, cursor.as_of
        self.set_aside.restore(cursor.set_aside, cursor.rows)
        return cursor.checked

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

    def catch_up(self, after_poll: Callable[[], object] = lambda: None) -> Update | None:
        """Poll until the end of the log; returns the last update."""
        last, self.caught_up = None, False
        while not self.caught_up:
            last = self.poll() or last
            after_poll()
        return last

    def publication(self) -> Publication:
        """Return what a follower needs to answer, as of the last step.

        Raises:
            StoreUnavailable: the step could not be recorded yet.
        """
        with self._lock:
            self._record()
            artefacts = {name: replace(a, policy=deepcopy(a.policy)) for name, a in self._artefacts.items()}
            histories = self.histories.copy() if self.histories is not None else None
            return Publication(self.fold_id, self._number, self._feedback_seq, artefacts, histories)

    def snapshot(self) -> Snapshot | None:
        """Return the state after the last step, to begin from; None where a step is not finished.

        Raises:
            StoreUnavailable: the step could not be recorded yet.
        """
        with self._lock:
            self._record()
            if self._unfinished is not None:
                return None
            cursor = Cursor(
                fold_id=self.fold_id,
                number=self._number,
                decision_seq=self._decision_seq,
                feedback_seq=self._feedback_seq,
                as_of=self._as_of,
                spec=self._spec,
                policies=self._digests(),
                checked=self.checked,
                set_aside=self.set_aside.count,
                rows=self.set_aside.remembered(),
                history=self.histories.length if self.histories is not None else 0,
            )
            policies = {name: self._artefacts[name].policy.state_dict() for name in self._guards}
            histories = self.histories.copy() if self.histories is not None else None
            return Snapshot(cursor, policies, self._windows.state_dict(), histories)

    @property
    def spec(self) -> FoldSpec:
        """What it learns from, and what for."""
        return self._spec

    @property
    def number(self) -> int:
        """The last step."""
        return self._number

    @property
    def positions(self) -> tuple[int, int]:
        """Log positions up to which it has read decisions and feedback."""
        return self._decision_seq, self._feedback_seq

    @property
    def checked(self) -> dict[str, int]:
        """Impressions that each policy has learned since its state was last looked at; see `rl.online.guard`."""
        return {name: guard.rows for name, guard in self._guards.items()}

    def windows_without(self, seqs: Collection[int]) -> Windows:
        """Return the open wait windows, as they are where the decisions at some positions are gone."""
        return self._windows.without(seqs)

    @property
    def waiting(self) -> int:
        """Number of open wait windows."""
        return len(self._windows)

    def replay(self, version: Version, remainder: Remainder | None = None) -> Replayed:
        """Repeat the next step of a recorded fold; returns what it has done.

        Args:
            version: the step.
            remainder: what stands in for rows that it has read and that are gone from the log since; None: nothing.

        Raises:
            PolicyError: a policy cannot go on from the remainder.
            StoreUnavailable: the log does not answer.
        """
        self.caught_up, self._as_of = version.caught_up, version.as_of
        decisions = self._new_decisions(version.decision_seq, version.feedback_seq, None)
        feedback = self._new_feedback(version.feedback_seq, None) if self._decision_seq else []
        until = version.decision_seq, version.feedback_seq
        closed = remainder.closed if remainder else None
        step = self._unfinished = self._advance(decisions, feedback, until, version.as_of, closed)
        self._number, lessons = version.number - 1, dict[str, Lesson]()
        self._finish(remainder, lessons)
        self._number = version.number  # also where nothing that it has read is in the log any more
        return Replayed(decisions, step.closed, lessons)

    def _read(self) -> Update | None:
        if self._unfinished is None:
            now, feedback, behind = self._clock(), list[SeenFeedback](), False
            # Feedback first: then each decision that it is about is in the log already when the decisions are read.
            if self._decision_seq:
                feedback = self._new_feedback(None, MAX_ROWS)
                through = feedback[-1].seq if feedback else self._feedback_seq
                behind = len(feedback) == MAX_ROWS
                if behind:  # there is more, all received later than this: for the fold it is not later yet
                    now = min(now, to_time(feedback[-1].received_us))
            else:  # no decision was read yet: feedback is read with its decision
                through = last_feedback(self._store, self._spec.loop)
            decisions = self._new_decisions(None, through, MAX_ROWS)
            until = decisions[-1].seq if decisions else self._decision_seq, max(through, self._feedback_seq)
            self._unfinished = self._advance(decisions, feedback, until, now)
            self.caught_up = not behind and max(len(decisions), len(self._unfinished.closed)) < MAX_ROWS
        step = self._unfinished
        update = self._finish()
        if update:
            self._as_of = step.as_of
            self._unrecorded.append(self._version(step.as_of))
        return update

    def _new_decisions(self, until: int | None, heard_until: int, limit: int | None) -> list[SeenDecision]:
        after, loop, slate = self._decision_seq, self._spec.loop, self.histories is not None
        return new_decisions(self._store, loop, after, limit, until=until, heard_until=heard_until, with_slate=slate)

    def _new_feedback(self, until: int | None, limit: int | None) -> list[SeenFeedback]:
        after, loop, content = self._feedback_seq, self._spec.loop, self.histories is not None
        return new_feedback(self._store, loop, after, limit, until=until, with_content=content)

    def _advance(
        self,
        decisions: Sequence[SeenDecision],
        feedback: Sequence[SeenFeedback],
        until: tuple[int, int],
        now: datetime,
        close: IntArray | None = None,
    ) -> Step:
        """Move on past what was read. What fails after this is done again from the step that is returned."""
        after = self._decision_seq, self._feedback_seq
        touched = {report.decision_seq for report in feedback if (report.decision_seq or after[0] + 1) <= after[0]}
        touched |= {decision.seq for decision in decisions if decision.heard}
        self._windows.add([decision.seq for decision in decisions], [decision.time_us for decision in decisions])
        if close is None:
            closed, silent = self._windows.close((now - EPOCH) // MICROSECOND, MAX_ROWS)
        else:
            closed, silent = self._windows.close_at(close)
        self._decision_seq, self._feedback_seq = until
        positions = frozenset(seq for seq in touched if seq is not None)
        rows = (decisions, feedback) if self.histories is not None else ((), ())
        return Step(now, after, self.positions, positions, closed.tolist(), silent.tolist(), *rows)

    def _finish(self, remainder: Remainder | None = None, lessons: dict[str, Lesson] | None = None) -> Update | None:
        """Learn the step that was read; `lessons` gets what each policy was given."""
        step, update = self._unfinished, None
        assert step is not None, "there is one"
        if step.touched or step.closed or step.until[1] > step.after[1] or step.decisions or remainder:
            decisions, faults = whole_decisions(self._store, {*step.touched, *step.silent}, self._unread)
            self.set_aside.add_faults(faults)
            positions = {decision.decision_id: seq for seq, decision in decisions}
            feedback, faults = whole_feedback(self._store, self._spec.loop, positions, step.until[1])
            self.set_aside.add_faults(faults)
            changes = self._update_histories(step, feedback)
            if step.touched or step.closed or step.until[1] > step.after[1] or changes or remainder:
                due = find_due(step, decisions, feedback, self._windows, self._spec.reward, self.set_aside)
                update = self._learn(due, changes, remainder, lessons)
        self._unfinished = None
        return update

    def _update_histories(
        self, step: Step, feedback: Mapping[str, Sequence[tuple[int, Feedback]]]
    ) -> tuple[HistoryStep, ...]:
        if self.histories is None:
            return ()
        closed = decision_ids(self._store, step.closed)
        return update_histories(self.histories, step, feedback, closed, self.set_aside)

    def _version(self, now: datetime, begins: bool = False) -> Version:
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
            begins=self._begins() if begins else None,
        )

    def _begins(self) -> dict[str, JsonValue]:
        begins: dict[str, JsonValue] = {
            "policies": dict(self._digests()),
            "spec": self._spec.model_dump(mode="json"),
        }
        if self._origin:
            begins["from"] = {"fold_id": self._origin.fold_id, "number": self._origin.number}
        return begins

    def _digests(self) -> dict[str, str]:
        return {name: artefact.digest for name, artefact in self._artefacts.items()}

    def _record(self) -> None:
        if self._unrecorded:
            self._store.insert(self._unrecorded)
            self._unrecorded = []

    def _learn(
        self,
        due: Sequence[OutcomeChange],
        changes: tuple[HistoryStep, ...],
        remainder: Remainder | None,
        lessons: dict[str, Lesson] | None,
    ) -> Update:
        self._number += 1
        impressions = {}
        positions = {one.outcome.decision.decision_id: one.seq for one in due}

        def at(learnables: Sequence[Learnable]) -> frozenset[int]:
            return frozenset(positions[outcome.decision.decision_id] for outcome, _ in learnables)

        for name, guard in self._guards.items():
            if remainder and (taught := remainder.policies.get(name)):
                guard.take(taught)
                for seq in sorted(taught.set_aside):
                    self.set_aside.add("decisions", seq, UnlearnableError("it could not be learned then"), name)
                continue
            outcomes: list[Learnable] = [
                (one.outcome, one.previous)
                for one in due
                # What was not learned cannot be corrected.
                if self._learns(name, one.outcome) and not self.set_aside.has("decisions", one.seq, name)
            ]
            if not outcomes:
                continue
            learned, failed = guard.learn(outcomes)
            for (outcome, _), error in failed:
                self.set_aside.add("decisions", positions[outcome.decision.decision_id], error, name)
            if learned is not None:
                impressions[name] = learned
            if lessons is not None:
                lessons[name] = Lesson(at(outcomes), at([learnable for learnable, _ in failed]), learned)
        return Update(self._number, self._feedback_seq, impressions, changes)

    def _learns(self, name: str, outcome: Outcome) -> bool:
        decision, until = outcome.decision, self._artefacts[name].learned_until
        if decision.mode == "log" or (until is not None and decision.time <= until):
            return False
        return self._spec.learn_from == "all" or decision.policy == name
