"""The rows of a table that are to be archived: in their order, by day, a row group at a time."""

from collections.abc import Iterator, Sequence
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa

from data.log.archived.columns import DECISION_SEQ, UNFIT, schema, select, to_arrow
from data.log.archived.reading import from_both
from data.log.archiving.closing import time_column
from data.log.store import Store
from data.log.tables import DECISIONS, FEEDBACK, VERSIONS, Log
from data.log.unreadable import pass_on

GROUP_ROWS: Final = 10_000
"""Rows of a row group: what is held in memory, and what is decoded for one row."""
PART_ROWS: Final = 250_000


class Rows:
    """The rows of a table up to a position that are to be archived.

    Args:
        store: the log.
        log: the table.
        end: the position.
        last_day: the last day that is closed: rows that say to be of a later one are of it.
    """

    def __init__(self, store: Store, log: Log[Any], end: int, last_day: date) -> None:
        self.log, self._store, self._end, self._last_day = log, store, end, last_day
        self._after = self.generation = 0
        self._waiting: pa.Table | None = None
        self.day = date.min
        self.left = 0
        self._left_seqs = list[int]()

    def begin(self, generation: int) -> None:
        """Note the newest entry of the archive when a part is begun."""
        self.generation = generation

    def left_between(self, first: int, last: int) -> int:
        """Return how many rows between two positions stay in the log; rows before these are forgotten."""
        count = sum(first <= seq <= last for seq in self._left_seqs)
        self._left_seqs = [seq for seq in self._left_seqs if seq > last]
        return count

    def of_day(self) -> Iterator[pa.Table]:
        """Yield the rows of the next day, of as many as a part may have; `day` says which it is.

        A row that says to be of an earlier day than one before it is of that one's.
        """
        rows, self.day = 0, date.min
        while rows < PART_ROWS and (table := self._next()) is not None:
            days = self._days(table)
            if rows == 0:
                self.day = days[0]
            later = np.flatnonzero(np.array([day > self.day for day in days]))
            if len(later):
                table, self._waiting = table[: later[0]], table[later[0] :]
            if table.num_rows:
                rows += table.num_rows
                yield table
            if len(later):
                return

    def _days(self, table: pa.Table) -> list[date]:
        us = table[time_column(self.log)].cast(pa.int64()).to_numpy()
        day_us, last = 86_400_000_000, (self._last_day - date(1970, 1, 1)).days
        first = (date(1, 1, 1) - date(1970, 1, 1)).days
        days = np.maximum.accumulate(np.clip(us // day_us, first, last))
        return [date(1970, 1, 1) + timedelta(days=int(day)) for day in days]

    def _next(self) -> pa.Table | None:
        if self._waiting is not None:
            table, self._waiting = self._waiting, None
            return table
        while self._after < self._end:
            seqs, table = self._read()
            if not seqs:
                return None
            self._after = seqs[-1]
            table = self._eligible(table)
            stay = {*seqs}.difference(table["seq"].to_pylist())
            self.left += len(stay)
            self._left_seqs += sorted(stay)
            if table.num_rows:
                return table
        return None

    def _read(self) -> tuple[list[int], pa.Table]:
        """Return the positions of the next rows, and those of them that fit their columns."""
        c = self.log.table.c
        where = (c.seq > self._after, c.seq <= self._end)
        with self._store.reading() as connection:
            query = select(self.log).where(*where).order_by(c.seq).limit(GROUP_ROWS)
            try:
                rows = connection.execute(query).all()
                return [row[0] for row in rows], to_arrow(self.log, rows)
            except (*UNFIT, sa.exc.OperationalError) as error:
                pass_on(error)
            seqs = list(connection.execute(sa.select(c.seq).where(*where).order_by(c.seq).limit(GROUP_ROWS)).scalars())
            tables = list(self._fitting(connection, seqs))
        return seqs, pa.concat_tables([to_arrow(self.log, []), *tables])

    def _fitting(self, connection: sa.Connection, seqs: Sequence[int]) -> Iterator[pa.Table]:
        """Yield the rows that fit, by halves, down to the one that does not."""
        c = self.log.table.c
        query = select(self.log).where(c.seq >= seqs[0], c.seq <= seqs[-1]).order_by(c.seq)
        try:
            yield to_arrow(self.log, connection.execute(query).all())
            return
        except (*UNFIT, sa.exc.OperationalError) as error:
            pass_on(error)
        if len(seqs) > 1:
            half = len(seqs) // 2
            yield from self._fitting(connection, seqs[:half])
            yield from self._fitting(connection, seqs[half:])

    def _eligible(self, table: pa.Table) -> pa.Table:
        """Return the rows that may leave the log, of feedback with the positions of their decisions."""
        if self.log is VERSIONS:
            return self._inner_steps(table)
        return self._about_archived(table) if self.log is FEEDBACK else table

    @from_both
    def _about_archived(self, table: pa.Table) -> pa.Table:
        with self._store.reading() as connection:
            wanted = {(name,) for name in table["decision_id"].to_pylist()}
            found = self._store.archived(connection).find(DECISIONS, wanted, ["loop"])
        names = zip(found["decision_id"].to_pylist(), found["loop"].to_pylist(), strict=True)
        seqs = dict(zip(names, found["seq"].to_pylist(), strict=True))
        of = zip(table["decision_id"].to_pylist(), table["loop"].to_pylist(), strict=True)
        about = pa.array([seqs.get(name) for name in of], pa.int64())
        table = table.append_column(schema(FEEDBACK).field(DECISION_SEQ), about)
        return table.filter(about.is_valid()).cast(schema(FEEDBACK))

    def _inner_steps(self, table: pa.Table) -> pa.Table:
        c = VERSIONS.table.c
        folds = sa.select(sa.func.max(c.seq)).group_by(c.fold_id)
        with self._store.reading() as connection:
            last = list(connection.execute(folds).scalars())
        stays = pc.or_(pc.equal(table["number"], 0), pc.is_in(table["seq"], pa.array(last, pa.int64())))
        return table.filter(pc.invert(stays))
