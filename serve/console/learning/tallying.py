"""A tally of one place's log: begun with what is there, then kept up to date by what is new.

A view of the page reads sums; the log is read in small steps, only while somebody looks. Decisions whose wait windows
are over are added once. The others are kept, with their reports, and what was added of them is corrected by each report
that comes: silence counts as the default until then.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic_core import from_json

from data.attribution.columns import attribute_columns, microseconds
from data.attribution.join import GRACE
from data.fields import MICROSECOND, from_us, to_us
from data.log.archived.columns import DECISION_SEQ, schema
from data.log.bulk import columns_between, feedback_about, first_position, late_feedback
from data.log.following import SeenFeedback, last_feedback, new_feedback
from data.log.store import Store
from data.log.tables import FEEDBACK
from data.reward import RewardSpec
from data.schema import ORACLE
from rl.evaluation.board.tally import Arm, Shown, Tally
from rl.policy.arrays import FloatArray, IntArray

ROWS: Final = 1_000
"""Positions of the log that one step reads."""
MOST_OPEN: Final = 200_000
"""Decisions whose windows are open and that are kept; where there are more, the oldest are taken as they are."""
_COLUMNS: Final = (
    *("decision_id", "time", "slate", "deferred", "policy", "policy_version", "objective"),
    *("propensities", "slots", "abtest", "variant"),
)
_NEVER: Final = datetime(9999, 1, 1, tzinfo=UTC)
_FEEDBACK: Final = pa.schema([schema(FEEDBACK).field(name) for name in schema(FEEDBACK).names])


@dataclass
class _Chunk:
    """Decisions whose windows may be open, and the reports about them so far."""

    decisions: pa.Table
    """In the order of `seq`, slates as the names of the slots."""
    slates: pa.ChunkedArray
    """The items."""
    arms: IntArray
    closes_us: int
    """When the last window is over."""
    feedback: pa.Table

    @property
    def seqs(self) -> IntArray:
        found: IntArray = self.decisions["seq"].to_numpy()
        return found


@dataclass(frozen=True)
class Progress:
    """How far a tally has read the log."""

    read: int
    """Positions of the log that were read."""
    left: int
    """Positions that are left."""
    since: datetime
    """Decisions before that are left out."""
    open: int
    """Decisions whose windows are open: reports that come now still count."""
    open_since: datetime | None

    @property
    def share(self) -> float:
        """What was read of all."""
        return self.read / max(self.read + self.left, 1)


class PlaceTally:
    """The tally of the decisions for one loop and objective. Its methods block, and raise what the store does."""

    def __init__(self, store: Store, loop: str, objective: str, spec: RewardSpec, history: timedelta) -> None:
        """Begin, with nothing read.

        Args:
            store: the log.
            loop: whose decisions.
            objective: likewise.
            spec: what feedback is worth.
            history: how far back decisions are read.
        """
        self._store, self.loop, self.objective, self.spec = store, loop, objective, spec
        self.tally = Tally()
        self._since = store.now() - history
        self._feedback_through = last_feedback(store, loop)
        self._late = late_feedback(store)
        self._first = self._at = first_position(store, self._since) - 1
        self._last = store.last_decision()
        self._open = list[_Chunk]()

    @property
    def progress(self) -> Progress:
        """How far the log was read."""
        opened = sum(chunk.decisions.num_rows for chunk in self._open)
        since = from_us(int(microseconds(self._open[0].decisions["time"])[0])) if self._open else None
        return Progress(self._at - self._first, max(self._last - self._at, 0), self._since, opened, since)

    def step(self) -> bool:
        """Read some of what is new; returns whether there is more."""
        now = self._store.now()
        self._last = self._store.last_decision()
        end = min(self._at + ROWS, self._last)
        if end > self._at:
            self._read_decisions(self._at + 1, end, now)
            self._at = end
        more = self._read_feedback() or end < self._last
        self._close(now)
        return more

    def _read_decisions(self, first: int, last: int, now: datetime) -> None:
        table = columns_between(self._store, first, last, _COLUMNS, self.loop)
        table = table.filter(pc.equal(table["objective"], self.objective))
        if not table.num_rows:
            return
        times = microseconds(table["time"]).clip(to_us(self._since), to_us(now) + timedelta(days=1) // MICROSECOND)
        arms, named = self._arms(table, times), table
        if any(text != "[]" for text in pc.unique(table["slots"]).to_pylist()):
            at = table.schema.get_field_index("slate")
            named = table.set_column(at, table.schema.field(at), pa.array(_names(table), table.schema.field(at).type))
        chunk = _Chunk(
            decisions=named.select(["seq", "decision_id", "time", "loop", "slate", "deferred", "propensities"]),
            slates=table["slate"],
            arms=arms,
            closes_us=int(times.max()) + round((self.spec.wait_s + GRACE.total_seconds()) * 1e6),
            feedback=feedback_about(self._store, table, self._late),
        )
        self.tally.add(self._judge(chunk, chunk.feedback))
        if self._open and self._open[-1].decisions.num_rows < ROWS:
            chunk = _join(self._open.pop(), chunk)
        self._open.append(chunk)

    def _arms(self, table: pa.Table, times: IntArray) -> IntArray:
        columns = [table[name].to_pylist() for name in ("policy", "abtest", "variant")]
        arms = np.array([self.tally.arm(Arm(*values)) for values in zip(*columns, strict=True)], dtype=np.int64)
        versions = table["policy_version"].to_pylist()
        for time, policy, version in zip(times.tolist(), columns[0], versions, strict=True):
            self.tally.see_version(time, policy, version)
        return arms

    def _read_feedback(self) -> bool:
        """Correct what was added by reports that are new; returns whether there are more."""
        limit = 5 * ROWS
        new = new_feedback(self._store, self.loop, self._feedback_through, limit, until=None, with_content=True)
        if not new:
            return False
        self._feedback_through = new[-1].seq
        about = np.array([-1 if report.decision_seq is None else report.decision_seq for report in new])
        for chunk in self._open:
            seqs = chunk.seqs
            place = np.minimum(np.searchsorted(seqs, about), len(seqs) - 1)
            mine = np.flatnonzero(seqs[place] == about)
            if len(mine):
                self._correct(chunk, [new[at] for at in mine.tolist()])
        return len(new) == limit

    def _correct(self, chunk: _Chunk, new: Sequence[SeenFeedback]) -> None:
        known = set(chunk.feedback["seq"].to_pylist())  # a chunk was read with all that there was about it then
        if not (reports := [report for report in new if report.seq not in known]):
            return
        touched = np.isin(chunk.seqs, [report.decision_seq for report in reports if report.decision_seq is not None])
        some = replace(
            chunk,
            decisions=chunk.decisions.filter(pa.array(touched)),
            slates=chunk.slates.filter(pa.array(touched)),
            arms=chunk.arms[touched],
        )
        of_some = chunk.feedback.filter(pc.is_in(chunk.feedback[DECISION_SEQ], some.decisions["seq"].combine_chunks()))
        added = _table(reports, self.loop)
        self.tally.add(self._judge(some, of_some), -1.0)
        self.tally.add(self._judge(some, pa.concat_tables([of_some, added])))
        chunk.feedback = pa.concat_tables([chunk.feedback, added])

    def _judge(self, chunk: _Chunk, feedback: pa.Table) -> Shown:
        """Return what decisions have earned by some reports about them, silence being what it is worth in the end."""
        oracle = pc.equal(feedback["kind"], ORACLE)
        about = feedback if ORACLE in self.spec.weights else feedback.filter(pc.invert(oracle))
        outcomes = attribute_columns(chunk.decisions, about, self.spec, _NEVER)
        offsets, due = outcomes.offsets, outcomes.due
        seen = np.where(due, np.diff(offsets), 0)
        number = np.cumsum(due) - 1  # of those that were shown
        begins = np.concatenate([[0], np.cumsum(pc.list_value_length(chunk.slates).to_numpy())])[:-1]
        rows = np.repeat(np.arange(len(due)), seen)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(seen) - seen, seen)
        shown = begins[rows] + within
        items = pc.list_flatten(chunk.slates).take(pa.array(shown)).combine_chunks().dictionary_encode()
        numbers = np.array([self.tally.item(item) for item in items.dictionary.to_pylist()], dtype=np.int64)
        return Shown(
            times_us=microseconds(chunk.decisions["time"])[due].clip(to_us(self._since)),
            arms=chunk.arms[due],
            rewards=outcomes.reward[due],
            rows=number[rows],
            items=numbers[np.asarray(items.indices)],
            slot_rewards=outcomes.rewards[offsets[:-1][rows] + within],
            propensities=pc.list_flatten(chunk.decisions["propensities"]).to_numpy()[shown],
            best=_best(chunk.seqs, feedback.filter(oracle))[due],
        )

    def _close(self, now: datetime) -> None:
        """Forget decisions of which nothing can change any more."""
        kept = [chunk for chunk in self._open if chunk.closes_us >= to_us(now)]
        while sum(chunk.decisions.num_rows for chunk in kept) > MOST_OPEN:
            kept.pop(0)
        self._open = kept


def _join(one: _Chunk, other: _Chunk) -> _Chunk:
    """Return the decisions of two chunks that follow each other as one: few come at a time."""
    return _Chunk(
        decisions=pa.concat_tables([one.decisions, other.decisions]).combine_chunks(),
        slates=pa.chunked_array([*one.slates.chunks, *other.slates.chunks], one.slates.type),
        arms=np.concatenate([one.arms, other.arms]),
        closes_us=max(one.closes_us, other.closes_us),
        feedback=pa.concat_tables([one.feedback, other.feedback]).combine_chunks(),
    )


def _names(table: pa.Table) -> list[list[str]]:
    """Return what feedback calls the slots of decisions: by names of their own, or else by their items."""
    pairs = zip(table["slots"].to_pylist(), table["slate"].to_pylist(), strict=True)
    return [[slot["slot_id"] for slot in from_json(slots)][: len(slate)] or slate for slots, slate in pairs]


def _best(seqs: IntArray, oracle: pa.Table) -> FloatArray:
    """Return what the best slate of each decision earns, as the last report of an oracle says; else not a number."""
    best = np.full(len(seqs), np.nan)
    if oracle.num_rows:
        best[np.searchsorted(seqs, oracle[DECISION_SEQ].to_numpy())] = oracle["value"].to_numpy()
    return best


def _table(reports: Sequence[SeenFeedback], loop: str) -> pa.Table:
    """Return reports as columns; when they happened by the reporter's clock matters to no reward."""
    columns: dict[str, list[Any]] = {name: [None] * len(reports) for name in _FEEDBACK.names}
    columns["seq"] = [report.seq for report in reports]
    columns[DECISION_SEQ] = [report.decision_seq for report in reports]
    columns["received_at"] = [from_us(report.received_us) for report in reports]
    columns["loop"] = [loop] * len(reports)
    columns["feedback_id"] = [str(report.seq) for report in reports]  # each position is a report of its own
    for name in ("decision_id", "item_id", "kind", "value"):
        columns[name] = [getattr(report, name) for report in reports]
    return pa.Table.from_pydict(columns, schema=_FEEDBACK)
