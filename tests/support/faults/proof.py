"""That what a service has learned is what its log gives: by batch, and made again; and that its decisions are."""

from contextlib import closing
from datetime import timedelta
from time import monotonic, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from data.attribution.join import join
from data.log.loops import fold_step
from data.log.store import Store
from data.schema import Feedback
from data.settings import Settings
from rl.artefacts.shelf import load_shelved
from rl.online.observe import observe
from rl.online.snapshot import Snapshot
from rl.online.snapshots import Snapshots
from rl.provenance.replay import Sources, state_at
from serve.audit.run import Audit, audit
from tests.support.faults.fault import Place
from tests.support.rows import feedback_rows

_SAVED_S = 60.0


def differences(settings: Settings, until: int) -> list[str]:
    """Return in what the last state that was saved differs from what the log gives.

    It is held to the batch of all decisions and feedback that it has read, but for rounding, and to the fold made again
    from the log's first row, to the bit.

    Args:
        settings: where the log and the snapshots are.
        until: log position of the last feedback, which must be learned.
    """
    with closing(Store.open(settings.store_url)) as store, threadpool_limits(1, "blas"):
        snapshot = _wait_for_snapshot(settings, store, until)
        cursor = snapshot.cursor
        batch, again = (
            _batch(settings, store, snapshot, until),
            state_at(Sources.of(store, settings, None), cursor.fold_id, cursor.number),
        )
    found = list[str]()
    for name, state in snapshot.policies.items():
        for array, values in state.items():
            if not np.array_equal(values, again.policies[name][array]):
                found.append(f"{name} {array} is not the same made again from the first row")
            if not np.allclose(values, batch[name][array], rtol=1e-9, atol=1e-9):
                found.append(f"{name} {array} differs from the batch by {np.abs(values - batch[name][array]).max()}")
    return found


def prove(place: Place) -> list[str]:
    """Return what is not as it must be once the traffic has ended: in the log, in what was learned, in the audit."""
    ledger = place.traffic.ledger
    lost, double = ledger.compare(place.store_url)
    found = [*lost, *double, *place.traffic.wrong, *differences(place.settings, max(ledger.reports.values()))]
    audited = audit_all(place.settings)
    found += [*audited.mismatches, *audited.unreadable, *map(str, audited.erased)]
    if audited.decisions < len(ledger.decisions) or not ledger.decisions:
        found.append(f"{audited.decisions} decisions were audited, {len(ledger.decisions)} were acknowledged")
    return found


def audit_all(settings: Settings) -> Audit:
    """Make all decisions of the log again, from its first row."""
    with closing(Store.open(settings.store_url)) as store:
        times = [decision.time for _, decision in store.decisions()]
        return audit(store, settings, min(times), max(times) + timedelta(seconds=1), from_snapshots=False)


def _wait_for_snapshot(settings: Settings, store: Store, until: int) -> Snapshot:
    """Return the newest snapshot of the fold that has answered last, once it has read the last feedback.

    Feedback that changes nothing, as what comes too late, is no step, and nothing is saved after it: then it is the one
    that was saved after the last step. See `_batch` for a learner that has stopped.
    """
    deadline = monotonic() + _SAVED_S
    fold_id = max(store.decisions(), key=lambda row: row[0])[1].policy_version.split(".")[1]
    while True:
        snapshot = Snapshots(settings).before(fold_id, 1 << 60)
        if snapshot and snapshot.cursor.feedback_seq >= until:
            return snapshot
        if monotonic() > deadline:
            assert snapshot, f"there is no snapshot of fold {fold_id}"
            at = snapshot.cursor
            assert fold_step(store, fold_id, at.number + 1) is None, (
                f"feedback {until} is in no snapshot of fold {fold_id}: the newest, of step {at.number}, has read until"
                f" {at.feedback_seq}, and there are later steps"
            )
            return snapshot
        sleep(0.5)


def _batch(settings: Settings, store: Store, snapshot: Snapshot, until: int) -> dict[str, dict[str, NDArray[Any]]]:
    """Learn what a snapshot has read at once, without the online learner.

    Of one that has not read all feedback until a position, learn all that the log has, as of a while after its last
    step: had the learner stopped, more would be due by then.
    """
    cursor, learned = snapshot.cursor, dict[str, dict[str, NDArray[Any]]]()
    assert cursor.spec.learn_from == "own"
    is_behind = cursor.feedback_seq < until
    as_of = cursor.as_of + timedelta(seconds=_SAVED_S / 2 * is_behind)
    decisions = [decision for seq, decision in store.decisions() if seq <= cursor.decision_seq or is_behind]
    feedback: dict[str, list[Feedback]] = {}
    for seq, report in feedback_rows(store):
        if seq <= cursor.feedback_seq or is_behind:
            feedback.setdefault(report.decision_id, []).append(report)
    outcomes = list(join(decisions, feedback, cursor.spec.reward, as_of))
    for name, digest in cursor.policies.items():
        artefact = load_shelved(digest, settings)
        due = [one for one in outcomes if one.due and one.decision.policy == name]
        artefact.policy.update(observe(due, artefact.encoder))
        learned[name] = artefact.policy.state_dict()
    return learned
