"""Where snapshots of folds lie, when one is due, and which one a fold begins from.

Each is one object of the archive, so that a learner on any node finds it. Its name says what it is of:

    SPEC-DECISIONS-FEEDBACK-TIME-FOLD-NUMBER    as e59f..-000000000120000-000000000031337-20261126T101500-5cd41fa0-117

The first is the hash of what the fold had begun with; the positions come next, so that the last name of a kind is of
the fold that had come farthest.
"""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from pydantic import BaseModel, ConfigDict, Field

from data.archive.objects import Objects
from data.errors import DataError
from data.fields import MAX_DAYS
from data.log.erasures import count_erasures
from data.log.loops import fold_step
from data.log.store import Store
from data.settings import Settings
from rl.online.fold import FoldSpec
from rl.online.learner import OnlineLearner
from rl.online.snapshot import Cursor, Snapshot, SnapshotError

_KEPT = 3
"""Snapshots of a kind that are kept in any case: the last ones, should one be damaged."""
_TIME = "%Y%m%dT%H%M%S"

log = logging.getLogger("ray.serve")


class SnapshotSettings(BaseModel):
    """When folds are saved, and for how long."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    every_s: float = Field(default=30.0, gt=0, description="seconds between two snapshots of a fold that learns")
    every_decisions: int = Field(default=50_000, ge=1, description="or this many decisions read, if that is sooner")
    keep_days: float = Field(
        default=30.0,
        ge=0,
        le=MAX_DAYS,
        description="the first snapshot of each day of a fold is kept so long, for audits to begin from",
    )


@dataclass(frozen=True, order=True)
class _Name:
    """What the name of a snapshot says, in its order."""

    kind: str
    decision_seq: int
    feedback_seq: int
    time: datetime
    fold_id: str
    number: int

    def __str__(self) -> str:
        time = self.time.strftime(_TIME)
        return f"{self.kind}-{self.decision_seq:015d}-{self.feedback_seq:015d}-{time}-{self.fold_id}-{self.number}"

    @classmethod
    def of(cls, cursor: Cursor, kind: str) -> "_Name":
        time = cursor.as_of.astimezone(UTC).replace(microsecond=0)
        return cls(kind, cursor.decision_seq, cursor.feedback_seq, time, cursor.fold_id, cursor.number)

    @classmethod
    def parse(cls, name: str) -> "_Name | None":
        try:
            kind, decisions, feedback, time, fold_id, number = name.split("-")
            at = datetime.strptime(time, _TIME).replace(tzinfo=UTC)
            return cls(kind, int(decisions), int(feedback), at, fold_id, int(number))
        except ValueError:
            return None


class Snapshots:
    """The snapshots of all folds of a log."""

    def __init__(
        self,
        settings: Settings,
        when: SnapshotSettings | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Look for nothing yet.

        Raises:
            DataError: the archive's URI names no filesystem that pyarrow knows.
        """
        self._objects = Objects.at(settings.archive_uri, "snapshots", settings.home / "cache")
        self._when, self._clock = when or SnapshotSettings(), clock
        self._saved: dict[str, tuple[float, int, int]] = {}  # by fold: when, and the decisions and the step it was at
        self._kept: dict[str, tuple[float, int]] = {}  # the same of the last that was saved indeed, without decisions

    def newest(self, store: Store, spec: FoldSpec, policies: Mapping[str, str], erasures: int) -> Snapshot | None:
        """Return the snapshot of this log that a fold can begin from, which has come farthest; None if there is none.

        One that is damaged, or of another log, is passed over with a line in the log of the process.

        Args:
            store: the log.
            spec: what the fold learns from, and what for.
            policies: digests of its artefacts, by the policy's name.
            erasures: how often rows of the log had been deleted.

        Raises:
            StoreUnavailable: the log does not answer.
        """
        kind = _kind(spec, policies, erasures)
        for name in reversed(self._names(lambda name: name.kind == kind)):
            snapshot = self._load(name)
            if snapshot and _is_of(snapshot.cursor, store):
                log.info("going on from snapshot %s", name)
                return snapshot
        return None

    def before(self, fold_id: str, number: int) -> Snapshot | None:
        """Return the last good snapshot of a fold up to a step; None if there is none."""
        for name in reversed(self._names(lambda name: name.fold_id == fold_id and name.number <= number)):
            if snapshot := self._load(name):
                return snapshot
        return None

    def offer(self, learner: OnlineLearner, store: Store, erasures: int, *, now: bool = False) -> bool:
        """Save the state of a fold if it is time, and drop those that nobody needs; returns whether it was saved.

        What fails is said and tried again when the next is due: learning goes on.

        Args:
            learner: of the fold.
            store: its log.
            erasures: how often rows of the log had been deleted when the fold began; where more were since, the fold
                will be replaced, and its state is not kept.
            now: it is time whenever something was learned since the last.

        Raises:
            StoreUnavailable: the log does not answer.
        """
        time, decisions = monotonic(), learner.positions[0]
        since, read, number = self._saved.setdefault(learner.fold_id, (time, *learner.begun_at))
        self._kept.setdefault(learner.fold_id, (time, number))
        due = now or time - since >= self._when.every_s or decisions - read >= self._when.every_decisions
        if learner.number == number or not due or count_erasures(store) != erasures:
            return False
        if (snapshot := learner.snapshot()) is None:
            return False
        self._saved[learner.fold_id] = (time, snapshot.cursor.decision_seq, snapshot.cursor.number)
        try:
            name = self.save(snapshot, erasures)
            if count_erasures(store) != erasures:  # `forget` of who has erased may have come too early to see it
                self._objects.delete(name)
        except (DataError, OSError) as error:
            log.warning("fold %s was not saved, it goes on: %s", learner.fold_id, error)
            return False
        self._kept[learner.fold_id] = (time, snapshot.cursor.number)
        return True

    def unsaved_s(self, learner: OnlineLearner) -> float:
        """Return how many seconds ago the last snapshot of a fold was saved, 0 if nothing was learned since."""
        since, number = self._kept.get(learner.fold_id, (monotonic(), learner.number))
        return 0.0 if learner.number == number else monotonic() - since

    def save(self, snapshot: Snapshot, erasures: int) -> str:
        """Save a snapshot, and drop those that nobody needs; returns its name.

        Raises:
            DataError: the archive does not answer.
            OSError: it cannot be written here first.
        """
        cursor = snapshot.cursor
        name = _Name.of(cursor, _kind(cursor.spec, cursor.policies, erasures))
        self._objects.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._objects.cache, prefix=".snapshot-") as temporary:
            snapshot.save(Path(temporary))
            self._objects.put(str(name), Path(temporary))
        self._prune(name.kind)
        return str(name)

    def forget(self, user_id: str) -> int:
        """Take a user out of the histories of all snapshots; what policies have learned are sums over all users.

        Comes after the log's own erasure: a fold that has begun before it saves no more then.

        Returns:
            The number of snapshots that had them.

        Raises:
            DataError: the archive does not answer.
        """
        count = 0
        for name in self._objects.names():
            parsed = _Name.parse(name)
            snapshot = self._load(parsed) if parsed else None
            if snapshot and snapshot.histories is not None and user_id in snapshot.histories:
                snapshot.histories.forget(user_id)
                with TemporaryDirectory(dir=self._objects.cache, prefix=".snapshot-") as temporary:
                    snapshot.save(Path(temporary))
                    self._objects.replace(name, Path(temporary))
                count += 1
        return count

    def _prune(self, kind: str) -> None:
        """Drop what is neither one of the last of its kind nor the first of a fold's day."""
        first_kept = self._clock() - timedelta(days=self._when.keep_days)
        last, days = self._names(lambda name: name.kind == kind)[-_KEPT:], set[tuple[str, str]]()
        for name in self._names(lambda _: True):
            day = (name.fold_id, f"{name.time:%Y%m%d}")
            first_of_day = day not in days and name.time >= first_kept
            days.add(day)
            if not first_of_day and name not in last and (name.kind == kind or name.time < first_kept):
                self._objects.delete(str(name))

    def _names(self, wanted: Callable[[_Name], bool]) -> list[_Name]:
        """Return what is wanted of all names, in order; nothing if the archive does not answer, which is said."""
        try:
            names = [_Name.parse(name) for name in self._objects.names()]
        except DataError as error:
            log.warning("no snapshots can be had: %s", error)
            return []
        return sorted(name for name in names if name is not None and wanted(name))

    def _load(self, name: _Name) -> Snapshot | None:
        try:
            folder = self._objects.get(str(name))
            snapshot = Snapshot.load(folder)
            shutil.rmtree(folder, ignore_errors=True)  # read once, and large
        except (DataError, SnapshotError) as error:
            log.warning("snapshot %s is passed over: %s", name, error)
            return None
        return snapshot


def _kind(spec: FoldSpec, policies: Mapping[str, str], erasures: int) -> str:
    """Return the hash of what a fold begins with; others' snapshots are of no use to it."""
    begins = {"spec": spec.model_dump(mode="json"), "policies": dict(policies), "erasures": erasures}
    return hashlib.sha256(json.dumps(begins, sort_keys=True).encode()).hexdigest()[:16]


def _is_of(cursor: Cursor, store: Store) -> bool:
    """Return whether a snapshot is of this log: the step after which it was taken is in it."""
    step = fold_step(store, cursor.fold_id, cursor.number)
    if step and step.as_of == cursor.as_of and step.decision_seq <= cursor.decision_seq <= store.last_decision():
        return True
    log.warning("snapshot of step %d of fold %s is passed over: it is of another log", cursor.number, cursor.fold_id)
    return False
