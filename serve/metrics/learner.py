"""What the learner counts: learning itself, and what the log says of nodes, sizes, tests, audits and the archive."""

import logging
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from data.log import activity
from data.log.following import lag
from data.log.store import Store
from rl.evaluation.abtests.preference import Preference
from rl.evaluation.abtests.scorecard import Scorecard
from rl.online.fold import Place
from rl.online.state import FoldState
from rl.online.steps import OutcomeChange
from serve.metrics import definitions as of
from serve.metrics.earned import Earned
from serve.metrics.examined import Examined
from serve.metrics.meter import Meter
from serve.metrics.replica import Names

_HEARD_AT_ONCE: Final = 5_000
_VIEW: Final = "view"

log = logging.getLogger("ray.serve")


class LearnerMetrics:
    """The learner's process calls it; `look` blocks and belongs in a thread."""

    def __init__(
        self,
        meter: Meter,
        store: Store,
        names: Names,
        input_nodes: Collection[str],
        folders: Mapping[str, Path],
        archived_after: timedelta | None = None,
    ) -> None:
        """Begin at the end of the log.

        Args:
            meter: counts.
            store: the log.
            names: for labels.
            input_nodes: those whose rows are looked for.
            folders: those of whose disks the room is measured, by name.
            archived_after: how long after its end a day can be archived; None: no day is, by this service.

        Raises:
            StoreError: the log does not answer.
        """
        self.meter, self._store, self._names = meter, store, names
        self._input_nodes, self._folders, self._archived_after = tuple(input_nodes), dict(folders), archived_after
        self._earned = dict[tuple[str, str, str], Earned]()
        self._reports = dict[Place, tuple[str, Counter[str]]]()
        self._heard = activity.last_feedback_position(store)
        self._seen = dict[str, datetime]()
        for kind in ("decisions", "feedback", "events", "rejects", "old_steps"):
            meter.begin(of.ARCHIVED, kind)
        meter.begin(of.ARCHIVE_ERRORS)
        meter.begin(of.EXAMINE_ERRORS)

    def learned(self, place: Place, changes: Sequence[OutcomeChange]) -> None:
        """Take the outcomes that a fold has learned."""
        for change in changes:
            labels = (*place, change.outcome.decision.policy)
            earned = self._earned.get(labels)
            if earned is None:
                earned = self._earned[labels] = Earned()
            new, accepted = earned.add(change)
            if new:
                self.meter.count(of.OUTCOMES, labels)
            if accepted:
                self.meter.count(of.ACCEPTED, labels)

    def stepped(self, place: Place, seconds: float) -> None:
        """Count a step in which a fold has learned something."""
        self.meter.observe(of.UPDATE, place, seconds)

    def look(self, states: Sequence[FoldState], unsaved_s: Mapping[Place, float]) -> None:
        """Read what there is to read, and hand all on.

        Args:
            states: of the folds.
            unsaved_s: for how long each has learned what no snapshot has.

        Raises:
            StoreError: the log does not answer; what was counted was handed on.
        """
        try:
            self._look_at_folds(states, unsaved_s)
            self._look_at_disks()
            self._look_at_log()
        finally:
            self.meter.flush()

    def _look_at_folds(self, states: Sequence[FoldState], unsaved_s: Mapping[Place, float]) -> None:
        places = {(state.loop, state.objective): state for state in states}
        self.meter.set(of.WAITING, {place: state.waiting for place, state in places.items()})
        self.meter.set(of.SET_ASIDE, {place: state.rows_set_aside for place, state in places.items()})
        self.meter.set(of.FAILED, {place: float(state.state == "failed") for place, state in places.items()})
        self.meter.set(of.SNAPSHOT_AGE, {place: seconds for place, seconds in unsaved_s.items()})
        for place, state in places.items():
            self._count_reports(place, state)
        rewards, losses = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
        for labels, earned in list(self._earned.items()):
            for window, bounds in (("all", earned.all), ("recent", earned.recent)):
                for bound, value in bounds._asdict().items():
                    rewards[*labels, window, bound] = value
            for window, loss in zip(("all", "recent"), earned.loss, strict=True):
                losses[*labels, window] = loss
        self.meter.set(of.REWARD, rewards)
        self.meter.set(of.LOSS, losses)
        seconds, rows = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
        for place, state in places.items():
            behind = lag(self._store, state.loop, state.decisions_through, state.feedback_through)
            seconds[place] = behind.seconds
            rows[*place, "decisions"], rows[*place, "feedback"] = behind.decisions, behind.feedback
        self.meter.set(of.LAG, seconds)
        self.meter.set(of.LAG_ROWS, rows)

    def _count_reports(self, place: Place, state: FoldState) -> None:
        """Count what a fold has judged since the last look; a new fold judges the log anew, which is not counted."""
        now = Counter(state.reports)
        fold_id, before = self._reports.get(place, ("", now))
        if fold_id == state.fold_id or not fold_id:
            for case, number in (now - before).items():
                self.meter.count(of.JUDGED, (*place, case), number)
        self._reports[place] = state.fold_id or "", now
        for case in ("counted", "orphan", "missing"):
            self.meter.begin(of.JUDGED, *place, case)

    def _look_at_disks(self) -> None:
        free, size = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
        for name, folder in self._folders.items():
            try:
                usage = shutil.disk_usage(folder)
            except OSError:  # not there yet, or not any more: the log says so itself
                continue
            free[name,], size[name,] = usage.free, usage.total
        self.meter.set(of.DISK_FREE, free)
        self.meter.set(of.DISK_SIZE, size)

    def _look_at_log(self) -> None:
        while (found := activity.heard_after(self._store, self._heard, _HEARD_AT_ONCE))[1] > self._heard:
            heard, self._heard = found
            for one in heard:
                node = self._names.node(one.node_id)
                self.meter.count(of.NODE_FEEDBACK, (node, self._names.kind(one.kind)))
                if one.kind == _VIEW:
                    self.meter.observe(of.SHOWN, (node,), max(one.received_us - one.decided_us, 0) / 1e6)
        self._seen |= activity.last_seen(self._store, self._input_nodes)
        self.meter.set(of.LAST_SEEN, {(node,): at.timestamp() for node, at in self._seen.items()})
        self.meter.set(of.LOG_SIZE, {(): activity.size_bytes(self._store)})
        if self._archived_after is not None:
            oldest, now = activity.oldest_decision(self._store), datetime.now(UTC)
            due = now if oldest is None else _end_of_day(oldest) + self._archived_after
            self.meter.set(of.ARCHIVE_LAG, {(): max((now - due).total_seconds(), 0.0)})

    def tested(self, found: Mapping[str, Scorecard | Preference]) -> None:
        """Take what is known of the A/B tests that run."""
        differences, ratios = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
        for test, known in found.items():
            if isinstance(known, Preference):
                if known.share is not None:
                    differences |= {(test, known.variant, bound): v for bound, v in known.share.model_dump().items()}
                continue
            ratios[test,] = known.health.balance.p_sequential
            for row in known.rows:
                if row.role == "goal" and row.difference is not None:
                    differences |= {(test, row.variant, bound): v for bound, v in row.difference.model_dump().items()}
        self.meter.set(of.ABTEST, differences)
        self.meter.set(of.SAMPLE_RATIO, ratios)

    def examined(self, found: Examined | None) -> None:
        """Take what an examination has found; None: it has failed."""
        if found is None:
            self.meter.count(of.EXAMINE_ERRORS)
            return
        self.meter.set(of.AUDITED, {(result,): number for result, number in found.audited.items()})
        self.meter.set(of.AUDIT_DEVIATION, {(): found.deviation})
        self.meter.set(of.AUDIT_TIME, {(): datetime.now(UTC).timestamp()})
        values = dict[tuple[str, ...], float]()
        for one in found.off_policy:
            values |= {(one.test, one.variant, bound): getattr(one, bound) for bound in ("value", "low", "high")}
        self.meter.set(of.OFF_POLICY, values)
        named = {(one.test, one.variant): one for one in found.off_policy}
        self.meter.set(of.EFFECTIVE, {labels: one.effective_decisions for labels, one in named.items()})
        self.meter.set(of.WEIGHED, {labels: one.decisions for labels, one in named.items()})

    def archived(self, moved: Mapping[str, int] | None, seconds: float = 0.0) -> None:
        """Count a run that has moved closed days to the archive; None: it has failed."""
        if moved is None:
            self.meter.count(of.ARCHIVE_ERRORS)
            return
        self.meter.set(of.ARCHIVE_RUN, {(): seconds})
        for kind, number in moved.items():
            if number:
                self.meter.count(of.ARCHIVED, (kind,), number)


def _end_of_day(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
