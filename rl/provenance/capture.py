"""What must be kept of the folds that have learned from a user, before their rows are deleted.

Each fold is made again from before their first decision to its last step. Where a policy was given an outcome of
theirs, what it learned in that step is kept. All else that a step does follows from the rows of others.
"""

import logging
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from data.errors import RecommenderError
from data.fields import MAX_DAYS, to_us
from data.log.erasures import decisions_of, list_erasures
from data.log.errors import StoreUnavailable
from data.log.loops import begun_folds, fold_step, fold_steps
from data.log.store import Store
from data.log.unreadable import describe_error
from data.schema import Version
from data.settings import Settings
from rl.online.observe import TRANSIENT
from rl.online.reading import MAX_ROWS
from rl.online.set_aside import MAX_REMEMBERED
from rl.online.snapshots import Snapshots
from rl.online.steps import Lesson, Remainder, Replayed, Taught
from rl.online.windows import Windows
from rl.policies.forgetting.policy import ForgettingPolicy
from rl.policy.arrays import IntArray
from rl.provenance.proof import FoldProof, Proof, begin_proof
from rl.provenance.proofs import Proofs
from rl.provenance.remainders import RemainderWriter, to_arrays
from rl.provenance.replay import Replay, Sources, begin_replay, find_beginning, origin_of

_LARGE = 1 << 16
"""Bytes of impressions from which on a policy's state may be kept in their place."""
_TRIES = 3
_NEVER = 1 << 62
"""A log position that none reaches."""

log = logging.getLogger("ray.serve")


class ProofError(RecommenderError):
    """To prove a fold without a user takes more than it may."""


class ProofSettings(BaseModel):
    """How much an erasure may cost to keep decisions about others repeatable."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    max_s: float = Field(
        default=600.0,
        ge=0,
        description="seconds for making folds again before the rows are deleted, newest first; 0: nothing is proved",
    )
    max_mb: int = Field(default=256, ge=1, description="of what is kept of one fold")
    keep_days: float = Field(
        default=30.0, ge=0, le=MAX_DAYS, description="after a fold's last step, so long is it kept"
    )


def capture(store: Store, settings: Settings, user_id: str, limits: ProofSettings) -> Proof:
    """Make every fold again that has learned from a user, and keep what proves it without their rows.

    Only one process does so at a time. What is kept counts when `Proofs.confirm` says that the rows are gone.

    Raises:
        StoreUnavailable: the log does not answer; or rows are deleted all the time.
        DataError: the archive does not answer.
    """
    proofs, deadline = Proofs(settings), monotonic() + limits.max_s
    proofs.prune(store.now() - timedelta(days=limits.keep_days))
    for _ in range(_TRIES):
        sources = Sources.of(store, settings, Snapshots(settings))
        proof = _capture(sources, user_id, limits, deadline)
        if list_erasures(store) == sources.erasures:  # else rows were missing from what was made again
            proofs.keep(proof)
            return proof
    raise StoreUnavailable("rows of the log are deleted all the time")


def has_been_learned(store: Store, user_id: str) -> bool:
    """Return whether there is a fold that may have learned from a user."""
    return any(begun_folds(store, loop, None) for loop in decisions_of(store, user_id))


def _capture(sources: Sources, user_id: str, limits: ProofSettings, deadline: float) -> Proof:
    proof, folds = begin_proof(user_id), dict[str, FoldProof]()
    running, older = list[_Fold](), list[Version]()
    with ExitStack() as stack:
        for loop in decisions_of(sources.store, user_id):
            newest = set[str]()
            for first in begun_folds(sources.store, loop, None):
                if first.objective in newest:
                    older.append(first)
                    continue
                newest.add(first.objective)
                running.append(_Fold(sources, first, user_id, stack.enter_context(sources.proofs.folder()), limits))
        for fold in running:
            fold.repeat(fold.steps(), deadline)
        for first in older:
            with sources.proofs.folder() as folder:
                fold = _Fold(sources, first, user_id, folder, limits)
                fold.repeat(fold.steps(), deadline)
                folds |= fold.keep(sources.proofs, proof.token)
        for fold in running:  # last, as they go on
            while steps := fold.new_steps():
                fold.repeat(steps, deadline)
            folds |= fold.keep(sources.proofs, proof.token)
    return proof.model_copy(update={"learned": True, "folds": folds})


class _Fold:
    """A fold that is made again to see what it has learned from a user."""

    def __init__(self, sources: Sources, first: Version, user_id: str, folder: Path, limits: ProofSettings) -> None:
        """Read nothing yet."""
        self._sources, self._first, self._user, self._folder, self._limits = sources, first, user_id, folder, limits
        self._writer = RemainderWriter(first.fold_id, folder)
        self._own = frozenset[int]()
        """Positions of the user's decisions."""
        self._first_own = 0
        self._replay: Replay | None = None
        self._shadow = Windows(0)
        """The windows that are open where the user's decisions are gone."""
        self._number = self._through = -1
        """The last step that was repeated, and the last that will be the same without their rows."""
        self._until, self._ended = first.as_of, False

    def steps(self) -> list[Version]:
        """Return its steps; none where the last one was made before what is kept."""
        steps = fold_steps(self._sources.store, self._first.fold_id)
        since = self._sources.store.now() - timedelta(days=self._limits.keep_days)
        self._find_own()
        return steps if steps and steps[-1].as_of >= since else []

    def new_steps(self) -> list[Version]:
        """Return those that it has recorded since it was last made again."""
        steps, number = list[Version](), self._number
        while number >= 0 and not self._ended and (step := self._read_step(number + 1)):
            steps.append(step)
            number = step.number
        self._find_own()
        return steps

    def _read_step(self, number: int) -> Version | None:
        return fold_step(self._sources.store, self._first.fold_id, number)

    def _find_own(self) -> None:
        """Find the user's decisions; after some steps were read, so that those that they have read are among them."""
        self._own = frozenset(decisions_of(self._sources.store, self._user).get(self._first.loop, ()))
        self._first_own = min(self._own, default=_NEVER)

    def repeat(self, steps: Iterable[Version], deadline: float) -> None:
        """Repeat steps, from the user's first decision on, until the time is up or enough is kept."""
        if self._ended:
            return
        try:
            for step in steps:
                if self._replay is None and step.decision_seq >= self._first_own:
                    self._begin()
                if self._replay is None:
                    self._number = self._through = step.number  # it had read nothing of theirs
                elif step.number > self._number:
                    self._check(deadline)
                    self._repeat(step, self._replay)
                self._until = step.as_of
        except TRANSIENT:
            raise
        except Exception as error:  # whatever it is: the user is forgotten, and the rest is not proved
            log.warning("fold %s is proved to step %d: %s", self._first.fold_id, self._through, describe_error(error))
            self._ended = True

    def keep(self, proofs: Proofs, token: str) -> dict[str, FoldProof]:
        """Keep what stands in for the user's rows; returns what it proves, by fold."""
        if self._through < 0:
            return {}
        kept = len(self._writer) > 0
        if kept:
            self._writer.close()
            proofs.keep_remainders(self._first.fold_id, token, self._folder)
        origin = origin_of(self._first)
        return {self._first.fold_id: FoldProof(through=self._through, kept=kept, origin=origin, until=self._until)}

    def _begin(self) -> None:
        """Make the state again after the last step before the user's first decision, or what the fold began with."""
        number = max(self._number, 0)
        beginning = find_beginning(self._sources, self._first.fold_id, number)
        replay = self._replay = begin_replay(self._sources, beginning)
        for step in fold_steps(self._sources.store, self._first.fold_id):
            if replay.learner.number < step.number <= number:
                replay.repeat(step)
        self._number = self._through = number
        self._shadow = replay.learner.windows_without(self._own)

    def _check(self, deadline: float) -> None:
        if monotonic() > deadline:
            raise ProofError(f"its {self._limits.max_s:g} seconds (max_s) are up")
        if self._writer.bytes > self._limits.max_mb << 20:
            raise ProofError(f"more than {self._limits.max_mb} MB (max_mb) would be kept")

    def _repeat(self, step: Version, replay: Replay) -> None:
        done = replay.repeat(step)
        policies = {
            name: self._to_taught(name, lesson, replay)
            for name, lesson in done.lessons.items()
            if not lesson.seqs.isdisjoint(self._own) and not (lesson.seqs <= self._own and not lesson.impressions)
        }
        closed = self._close(step, done)
        if policies or closed is not None:
            self._writer.add(step.number, Remainder(policies, closed))
        learner, exact = replay.learner, self._through == self._number
        histories = learner.histories
        if histories is not None and len(histories) >= histories.max_users:
            exact = False  # whom histories forget for want of room depends on who is in them
        if learner.set_aside.count > MAX_REMEMBERED:
            exact = False  # as does which rows are known to be set aside
        self._number = step.number
        if exact:
            self._through = step.number

    def _to_taught(self, name: str, lesson: Lesson, replay: Replay) -> Taught:
        set_aside, impressions = lesson.set_aside - self._own, lesson.impressions
        size = _size(to_arrays(impressions)) if impressions is not None else 0
        policy = replay.artefacts[name].policy
        forgets = isinstance(policy, ForgettingPolicy)
        if size > _LARGE or (forgets and size):
            state = policy.state_dict()
            if _size(state) < size or forgets:
                return Taught(state=state, rows=replay.learner.checked[name], set_aside=set_aside)
        if impressions is not None:  # log positions would say which impressions are of rows that are gone
            impressions = replace(impressions, at=np.full(len(impressions), np.nan))
        return Taught(impressions, set_aside=set_aside)

    def _close(self, step: Version, done: Replayed) -> IntArray | None:
        """Return whose windows a step closes, if it would be others without the user's; None: it would not."""
        new = [decision for decision in done.decisions if decision.seq not in self._own]
        self._shadow.add([decision.seq for decision in new], [decision.time_us for decision in new])
        closed = np.array([seq for seq in done.closed if seq not in self._own], dtype=np.int64)
        now_us = to_us(step.as_of)
        if np.array_equal(self._shadow.find_due(now_us, MAX_ROWS), closed):
            self._shadow.close(now_us, MAX_ROWS)
            return None
        self._shadow.close_at(closed)
        return closed


def _size(arrays: Mapping[str, NDArray[Any]]) -> int:
    return sum(array.nbytes for array in arrays.values())
