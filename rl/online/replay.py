"""Recorded folds made again: a learner that stands where a fold stood after one of its steps, or before it."""

from data.log.loops import fold_step, fold_steps
from data.log.store import Store
from data.settings import Settings
from rl.artefacts.artefact import Artefact
from rl.artefacts.shelf import load_shelved
from rl.online.errors import SnapshotError
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.online.snapshot import Snapshot
from rl.online.snapshots import Snapshots


def begin_replay(
    store: Store, settings: Settings, fold_id: str, number: int, snapshots: Snapshots | None
) -> tuple[OnlineLearner, dict[str, Artefact]]:
    """Return a learner of a recorded fold at the last snapshot up to a step, and the artefacts that learn in it.

    A fold that began from another one's snapshot, and has none of its own that is as early, begins with the state of
    the other, which is made again if need be. The learner's `replay` repeats the steps that follow.

    Args:
        store: the log.
        settings: where artefacts and snapshots lie.
        fold_id: which fold.
        number: the step that is to be reached.
        snapshots: None: begin with the first row of the log, however long that takes.

    Raises:
        SnapshotError: the log does not know the fold, or no state can be made again that it began with.
        ArtefactError: an artefact that it began with is gone or damaged.
        PolicyError: its arrays do not fit its description.
        StoreUnavailable: the log does not answer.
    """
    snapshot = snapshots.before(fold_id, number) if snapshots else None
    first = fold_step(store, fold_id, 0)
    if first is None or first.begins is None:
        raise SnapshotError(f"the log does not know how fold {fold_id} began")
    digests, origin = first.begins["policies"], first.begins.get("from")
    assert isinstance(digests, dict), "as the learner wrote it"
    if snapshot is None and isinstance(origin, dict):
        snapshot = state_at(store, settings, str(origin["fold_id"]), int(str(origin["number"])), snapshots)
    artefacts = {name: load_shelved(str(digest), settings) for name, digest in digests.items()}
    spec = FoldSpec.model_validate(first.begins["spec"])
    return OnlineLearner(store, artefacts, spec, fold_id=fold_id, snapshot=snapshot), artefacts


def state_at(store: Store, settings: Settings, fold_id: str, number: int, snapshots: Snapshots | None) -> Snapshot:
    """Return the state of a recorded fold after a step.

    Raises:
        SnapshotError: as `begin_replay` does; or the log has no such step.
        ArtefactError, PolicyError, StoreUnavailable: as `begin_replay` does.
    """
    learner, _ = begin_replay(store, settings, fold_id, number, snapshots)
    for step in fold_steps(store, fold_id):
        if learner.number < step.number <= number:
            learner.replay(step)
    state = learner.snapshot()
    if learner.number != number or state is None:
        raise SnapshotError(f"the log has no step {number} of fold {fold_id}")
    return state
