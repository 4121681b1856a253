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
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from operator import gt
from uuid import uuid4

from data.fields import to_us
from data.log.archived.reading import from_both
from data.log.loops import Ends
from data.log.store import Store
from data.schema import Version
from rl.artefacts.artefact import Artefact
from rl.encoders.json_features import FeaturesEncoder
from rl.online.fold import FoldSpec, Publication, Update
from rl.online.guard import Guards
from rl.online.history.histories import Histories, HistoryStep
from rl.online.history.steps import update_histories
from rl.online.reading import Reader, StepRows
from rl.online.set_aside import SetAsideRows
from rl.online.snapshot import Cursor, Snapshot, SnapshotError, begins_with
from rl.online.steps import Lesson, OutcomeChange, Remainder, Replayed, Step, find_due
from rl.online.windows import MAX_WAIT_S, Windows
from rl.policies.forgetting.policy import ForgettingPolicy
from rl.policy.errors import PolicyError


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
        self._number = 0
        self._unfinished: Step | None = None
        self.set_aside = SetAsideRows(f"loop {spec.loop}, objective {spec.objective}", clock)
        """The rows that were not learned."""
        self.reports = Counter[str]()
        """What the reports were that it has judged (see `data.attribution.join.Case`), with `orphan` and `missing`."""
        length = max((artefact.history for artefact in artefacts.values()), default=0)
        self.histories = Histories(length) if length else None
        """Of the users, where a policy reads them."""
        features = any(isinstance(artefact.encoder, FeaturesEncoder) for artefact in artefacts.values())
        features = features or bool(spec.imitates)  # what was not chosen is learned too
        self._reader = Reader(store, spec.loop, self._windows, with_content=length > 0, with_features=features)
        self.fold_id = fold_id or uuid4().hex[:8]
        self.caught_up = False
        """Whether the last poll came to the end of the log."""
        self._ends = Ends(0, 0)  # where the log ended before the last poll that has read all of it
        self._as_of, self._origin = clock(), snapshot.cursor if snapshot else None
        rows = self._restore(snapshot) if snapshot else {}
        self.begun_at = self.positions[0], self._number
        """Log position of the last decision, and the step, that it has begun after."""
        self._guards = Guards(artefacts, rows, spec, self.set_aside)
        self._unrecorded = [] if fold_id else [self._version(self._as_of, begins=True)]
        self._unpublished: Update | None = None
        self.watch: Callable[[Sequence[OutcomeChange]], None] | None = None
        """Is told what each step has learned."""

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
        self._reader.positions = cursor.decision_seq, cursor.feedback_seq
        if cursor.fold_id == self.fold_id:
            self._number, self._as_of = cursor.number, cursor.as_of
        self.set_aside.restore(cursor.set_aside, cursor.rows)
        return cursor.checked

    def poll(self, ends: Ends | None = None) -> Update | None:
        """Read what the log has gained, learn it and record the step; None if nothing has changed.

        Args:
            ends: where the log of its loop ended just before: where all of that has been read, nothing is read now.

        Raises:
            StoreUnavailable: the database did not answer; the next call goes on where this one has stopped.
        """
        with self._lock:  # a snapshot must not say that it has learned what has only been read
            if ends is not None and not self._has_news(ends):
                return None
            if not self._unpublished:
                self._unpublished = self._read()
            if ends is not None and self.caught_up:
                self._ends = ends
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
            return Publication(self.fold_id, self._number, self.positions[1], artefacts, histories)

    def snapshot(self) -> Snapshot | None:
        """Return the state after the last step, to begin from; None where a step is not finished.

        Raises:
            StoreUnavailable: the step could not be recorded yet.
        """
        with self._lock:
            self._record()
            if self._unfinished is not None:
                return None
            decision_seq, feedback_seq = self.positions
            cursor = Cursor(
                fold_id=self.fold_id,
                number=self._number,
                decision_seq=decision_seq,
                feedback_seq=feedback_seq,
                as_of=self._as_of,
                spec=self._spec,
                policies=self._digests(),
                checked=self.checked,
                set_aside=self.set_aside.count,
                rows=self.set_aside.remembered(),
                history=self.histories.length if self.histories is not None else 0,
            )
            policies = {name: self._artefacts[name].policy.state_dict() for name in cursor.checked}
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
        return self._reader.positions

    @property
    def checked(self) -> dict[str, int]:
        """Impressions that each policy has learned since its state was last looked at; see `rl.online.guard`."""
        return self._guards.rows

    def windows_without(self, seqs: Collection[int]) -> Windows:
        """Return the open wait windows, as they are where the decisions at some positions are gone."""
        return self._windows.without(seqs)

    @property
    def answering_windows(self) -> dict[str, int]:
        """Of each policy that forgets: number of decisions in the window that answers; 0: it is the whole log."""
        policies = {name: artefact.policy for name, artefact in self._artefacts.items()}
        return {name: one.window or 0 for name, one in policies.items() if isinstance(one, ForgettingPolicy)}

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
        step, decisions = self._reader.read_again(version, remainder.closed if remainder else None)
        self._unfinished, rows = step, self._reader.read_whole(step, self.set_aside)
        self._number, lessons = version.number - 1, dict[str, Lesson]()
        self._finish(step, rows, remainder, lessons)
        self._number = version.number  # also where nothing that it has read is in the log any more
        return Replayed(decisions, step.closed, lessons)

    def _has_news(self, ends: Ends) -> bool:
        """Return whether a poll finds something: rows, windows that have closed, or what one that failed has left."""
        if self._unpublished or self._unrecorded or self._unfinished is not None or not self.caught_up:
            return True
        now, read = to_us(self._clock()), map(max, self.positions, self._ends)
        return any(map(gt, ends, read)) or len(self._windows.find_due(now, 1)) > 0

    def _read(self) -> Update | None:
        step, rows = self._read_step()
        update = self._finish(step, rows)
        if update:
            self._as_of = step.as_of
            self._unrecorded.append(self._version(step.as_of))
        return update

    @from_both
    def _read_step(self) -> tuple[Step, StepRows]:
        """Read what is to be learned next, in one transaction: the last step again, if it could not be finished."""
        with self._store.reading():
            if self._unfinished is None:
                step, self.caught_up = self._reader.read(self._clock())
                self._unfinished = step
            return self._unfinished, self._reader.read_whole(self._unfinished, self.set_aside)

    def _finish(
        self, step: Step, rows: StepRows, remainder: Remainder | None = None, lessons: dict[str, Lesson] | None = None
    ) -> Update | None:
        """Learn the step that was read; `lessons` gets what each policy was given."""
        update, cases, changes = None, Counter[str](), tuple[HistoryStep, ...]()
        if self.histories is not None:
            changes = update_histories(self.histories, step, rows.feedback, rows.closed, self.set_aside)
        if step.teaches or remainder or changes:
            reward = self._spec.reward
            due = find_due(step, rows.decisions, rows.feedback, self._windows, reward, self.set_aside, cases)
            update = self._learn(due, changes, remainder, lessons)
        self.reports.update(cases, orphan=step.orphans)
        self._unfinished = None
        return update

    def _version(self, now: datetime, begins: bool = False) -> Version:
        return Version(
            version_id=f"{self.fold_id}.{self._number}",
            loop=self._spec.loop,
            objective=self._spec.objective,
            fold_id=self.fold_id,
            number=self._number,
            decision_seq=self.positions[0],
            feedback_seq=self.positions[1],
            as_of=now,
            caught_up=self.caught_up,
            begins=begins_with(self._spec, self._digests(), self._origin) if begins else None,
        )

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
        impressions = self._guards.learn(due, remainder, lessons)
        if self.watch:
            self.watch(due)
        return Update(self._number, self.positions[1], impressions, changes)
