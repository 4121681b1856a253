"""Recorded folds made again: a learner that stands where a fold stood after one of its steps, or before it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from data.log.erasures import list_erasures
from data.log.following import decision_ids
from data.log.loops import fold_step, fold_steps
from data.log.store import Store
from data.schema import Version
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.artefacts.shelf import load_shelved
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.online.snapshot import Snapshot, SnapshotError
from rl.online.snapshots import Snapshots
from rl.online.steps import Replayed
from rl.provenance.proofs import FoldRemainders, Proofs


@dataclass(frozen=True)
class Sources:
    """What folds are made again from."""

    store: Store
    """The log."""
    settings: Settings
    """Where artefacts lie."""
    proofs: Proofs
    erasures: Mapping[int, datetime]
    """Of the log; see `data.log.erasures.list_erasures`."""
    snapshots: Snapshots | None
    """None: begin with the first row of the log, however long that takes."""

    @classmethod
    def of(cls, store: Store, settings: Settings, snapshots: Snapshots | None) -> "Sources":
        """Return what the folds of a log are made again from, as it is now."""
        return cls(store, settings, Proofs(settings), list_erasures(store), snapshots)


@dataclass(frozen=True)
class Replay:
    """A fold that is being made again, step by step."""

    learner: OnlineLearner
    artefacts: dict[str, Artefact]
    """What learns in it, by name."""
    _remainders: FoldRemainders

    def repeat(self, step: Version) -> Replayed:
        """Repeat its next step, as `OnlineLearner.replay` does, with what was kept of forgotten users.

        Raises:
            SnapshotError: that cannot be read.
        """
        return self.learner.replay(step, self._remainders.at(step.number))


@dataclass(frozen=True)
class Beginning:
    """What the replay of a fold begins with: a snapshot of its own, else what it began with itself."""

    first: Version
    """Its first step."""
    snapshot: Snapshot | None
    origin: "tuple[Beginning, int] | None" = None
    """The beginning of the fold whose state after a step it began with, and that step: it is to be made again."""

    @property
    def since(self) -> datetime:
        """From when on steps are repeated: since it began, or since there was a state of one that it came from."""
        oldest = self
        while oldest.origin:
            oldest = oldest.origin[0]
        return min(self.first.as_of, oldest.snapshot.cursor.as_of if oldest.snapshot else oldest.first.as_of)


def find_beginning(sources: Sources, fold_id: str, number: int) -> Beginning:
    """Return what the replay of a recorded fold begins with, to reach a step: the last snapshot up to it.

    A fold that began from another one's snapshot, and has none of its own that is as early, begins with the state of
    the other, which is made again if need be.

    Raises:
        SnapshotError: the log does not know the fold.
        StoreUnavailable: the log does not answer.
    """
    snapshot = sources.snapshots.before(fold_id, number) if sources.snapshots else None
    first = fold_step(sources.store, fold_id, 0)
    if first is None or first.begins is None:
        raise SnapshotError(f"the log does not know how fold {fold_id} began")
    origin = origin_of(first)
    if snapshot or not origin:
        return Beginning(first, snapshot)
    return Beginning(first, None, (find_beginning(sources, *origin), origin[1]))


def begin_replay(sources: Sources, beginning: Beginning) -> Replay:
    """Begin a recorded fold.

    Raises:
        SnapshotError: no state can be made again that it began with, or what was kept of forgotten users is damaged.
        ArtefactError: an artefact that it began with is gone or damaged.
        PolicyError: its arrays do not fit its description.
        StoreUnavailable: the log does not answer.
    """
    first, snapshot = beginning.first, beginning.snapshot
    if beginning.origin:
        snapshot = _state_at(sources, *beginning.origin)
    if snapshot:
        snapshot = _without_gone(sources.store, snapshot)
    begins = first.begins or {}
    digests = begins["policies"]
    assert isinstance(digests, dict), "as the learner wrote it"
    artefacts = {name: load_shelved(str(digest), sources.settings) for name, digest in digests.items()}
    spec = FoldSpec.model_validate(begins["spec"])
    learner = OnlineLearner(sources.store, artefacts, spec, fold_id=first.fold_id, snapshot=snapshot)
    return Replay(learner, artefacts, sources.proofs.of_fold(first.fold_id, sources.erasures))


def state_at(sources: Sources, fold_id: str, number: int) -> Snapshot:
    """Return the state of a recorded fold after a step.

    Raises:
        SnapshotError: as `find_beginning` and `begin_replay` do; or the log has no such step.
        ArtefactError, PolicyError, StoreUnavailable: as `begin_replay` does.
    """
    return _state_at(sources, find_beginning(sources, fold_id, number), number)


def _state_at(sources: Sources, beginning: Beginning, number: int) -> Snapshot:
    replay, fold_id = begin_replay(sources, beginning), beginning.first.fold_id
    for step in fold_steps(sources.store, fold_id):
        if replay.learner.number < step.number <= number:
            replay.repeat(step)
    state = replay.learner.snapshot()
    if replay.learner.number != number or state is None:
        raise SnapshotError(f"the log has no step {number} of fold {fold_id}")
    return state


def origin_of(first: Version) -> tuple[str, int] | None:
    """Return the fold and the step that a fold began from, given its first step; None: the log's first row."""
    origin = first.begins.get("from") if first.begins else None
    return (str(origin["fold_id"]), int(str(origin["number"]))) if isinstance(origin, dict) else None


def _without_gone(store: Store, snapshot: Snapshot) -> Snapshot:
    """Return a snapshot without the windows of decisions that are gone from the log, as a fold without them has it."""
    seqs = snapshot.windows["seqs"]
    there = np.isin(seqs, np.fromiter(decision_ids(store, seqs.tolist()), dtype=np.int64))
    return replace(snapshot, windows={name: array[there] for name, array in snapshot.windows.items()})
