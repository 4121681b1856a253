"""The log: decisions, feedback, events, rejects and versions in a database, each record once by its key.

Closed days may lie in the archive (`data.archive`): all who read the log read them too, by its database's say.
"""

from collections.abc import Collection, Sequence

import pyarrow.compute as pc
import sqlalchemy as sa

from data.log.archived.columns import to_records
from data.log.archived.parts import last_archived
from data.log.archived.reading import Archived, from_both, merge
from data.log.insertion.appender import Appender
from data.log.selection import select_in
from data.log.tables import DECISIONS, EVENTS, FEEDBACK, Log, R
from data.log.unreadable import Fault, read
from data.schema import Decision, Event, Feedback


class Store(Appender):
    """The log in one database. Any number of threads and processes may hold one on the same place.

    Every reading method answers in the order of `seq`, and leaves out rows that cannot be read back
    (`data.log.unreadable`); all raise StoreUnavailable if the database does not answer within 30 s.
    """

    def decision(self, decision_id: str) -> Decision | None:
        """Return the decision, or None if the log has none with this id."""
        return self.decisions_by_id([decision_id]).get(decision_id)

    def archived(self, connection: sa.Connection) -> Archived:
        """Return the archived rows as a transaction sees them, for those who read tables with `from_both`.

        In one of `reading` it is one for all: how far the archive goes is asked once.
        """
        mine = self._now_reading
        if connection is not mine.connection:
            return Archived(connection, self.parts)
        if mine.archived is None:
            mine.archived = Archived(connection, self.parts)
        return mine.archived

    @from_both
    def decisions_by_id(self, decision_ids: Collection[str]) -> dict[str, Decision]:
        """Return those of the decisions that the log has, by id."""
        with self.reading() as connection:
            rows = select_in(connection, DECISIONS, DECISIONS.table.c.decision_id, decision_ids)
            missing = {*decision_ids}.difference(decision.decision_id for _, decision in rows)
            rows += self.archived(connection).records_by_key(DECISIONS, {(one,) for one in missing})
        return {decision.decision_id: decision for _, decision in rows}

    def decisions(
        self,
        after: int = 0,
        limit: int | None = None,
        *,
        loop: str | None = None,
        without: Collection[str] = (),
        faults: list[Fault] | None = None,
    ) -> list[tuple[int, Decision]]:
        """Return the decisions after a log position with their positions: `limit` at most.

        `without` names fields that are not read, for speed: they are empty tuples in what is returned. `faults` gets
        the rows that cannot be read back, here and where else it is taken.
        """
        of_loop = [pc.field("loop") == loop] if loop is not None else []
        where = DECISIONS.between(after, None, loop)
        return self._select(DECISIONS, after, where, of_loop, limit, without, faults)

    def last_decision(self) -> int:
        """Return the log position of the last decision, 0 if there is none."""
        with self.reading() as connection:
            last = connection.execute(sa.select(sa.func.max(DECISIONS.table.c.seq))).scalar_one()
            return max(last or 0, last_archived(connection, DECISIONS))

    @from_both
    def feedback_of(
        self, decision_ids: Collection[str], faults: list[Fault] | None = None
    ) -> dict[str, list[Feedback]]:
        """Return the feedback of each decision in log order; decisions without any are left out."""
        with self.reading() as connection:
            rows = select_in(connection, FEEDBACK, FEEDBACK.table.c.decision_id, decision_ids, faults=faults)
            archived = self.archived(connection)
            if len(decided := archived.find(DECISIONS, {(one,) for one in decision_ids})):
                about = archived.about(decided["seq"].to_pylist(), None, archived.columns(FEEDBACK))
                rows = merge(to_records(FEEDBACK, about, faults), rows)
        grouped: dict[str, list[Feedback]] = {}
        for _, feedback in rows:
            grouped.setdefault(feedback.decision_id, []).append(feedback)
        return grouped

    def events(self, node_id: str) -> list[tuple[int, Event]]:
        """Return a node's events with their positions."""
        where = [EVENTS.table.c.node_id == node_id]
        return self._select(EVENTS, 0, where, [pc.field("node_id") == node_id], None, (), None)

    @from_both
    def _select(
        self,
        log: Log[R],
        after: int,
        where: Sequence[sa.ColumnElement[bool]],
        archived_where: Sequence[pc.Expression],
        limit: int | None,
        without: Collection[str],
        faults: list[Fault] | None,
    ) -> list[tuple[int, R]]:
        """Read rows after a position from archive and log; both conditions mean the same."""
        query = log.select(without=without).where(*where).order_by(log.table.c.seq).limit(limit)
        with self.reading() as connection:
            archived = self.archived(connection)
            table = archived.between(log, after, None, limit, archived.columns(log, without), *archived_where)
            if limit is not None and table.num_rows == limit:
                query = query.where(log.table.c.seq < table["seq"][-1].as_py())
            rows = read(connection, log, query, faults)
        return merge(to_records(log, table, faults), rows)[:limit]
