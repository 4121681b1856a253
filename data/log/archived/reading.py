"""Archived rows as one transaction of the log sees them: by position, by name, and what is about a decision.

Whoever reads the log asks here too, in the same transaction, and takes a position that is in both once: a row is
deleted from the log only after the entry of its part is committed. So no state of the database lacks one.
"""

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import lru_cache, wraps
from typing import Any, ParamSpec, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import sqlalchemy as sa
from numpy.typing import NDArray

from data.errors import DataError
from data.log.archived import keys
from data.log.archived.columns import DECISION_SEQ, schema, to_records
from data.log.archived.files import PartFiles
from data.log.archived.parts import PartGone, parts_about, parts_between
from data.log.tables import DECISIONS, FEEDBACK, Key, Log, R
from data.log.unreadable import Fault
from data.schema import SHADOW

P = ParamSpec("P")
T = TypeVar("T")
_TRIES = 5
_ALL = 2**62
_ENDS = "SELECT kind, max(last) FROM archived_parts WHERE path IS NOT NULL GROUP BY kind"
_CONDITIONED = {"loop", "node_id", "fold_id", "number"}
"""Columns that conditions are about."""


def from_both(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function that reads log and archive in a transaction begin anew where a file was replaced meanwhile.

    Within another such function the other one does: the transaction may be its.
    """

    @wraps(function)
    def read(*args: P.args, **kwargs: P.kwargs) -> T:
        if _this_thread.is_in_one:
            return function(*args, **kwargs)
        _this_thread.is_in_one = True
        try:
            return _try(lambda: function(*args, **kwargs))
        finally:
            _this_thread.is_in_one = False

    return read


class _Thread(threading.local):
    is_in_one = False
    """It is within a function of `from_both`."""


_this_thread = _Thread()


def _try(read: Callable[[], T]) -> T:
    for _ in range(_TRIES - 1):
        try:
            return read()
        except PartGone:
            continue
    try:
        return read()
    except PartGone as error:
        raise DataError(
            f"the archive lacks a file that the log names: {error}; put it back, or run python -m data.archive "
            "with the archive that has it"
        ) from error


class Archived:
    """The archived rows, in one transaction. All methods may raise PartGone: see `from_both`."""

    def __init__(self, connection: sa.Connection, files: PartFiles) -> None:
        """Take a transaction of the log, and what reads the files."""
        self._connection, self._files = connection, files
        self._ends: dict[str, int] | None = None

    def _last(self, log: Log[Any]) -> int:
        """Return the last position of a table that is in the archive, 0 if there is none."""
        if self._ends is None:
            rows = self._connection.exec_driver_sql(_ENDS)
            self._ends = {kind: end for kind, end in rows}
        return self._ends.get(log.table.name, 0)

    def reaches(self, log: Log[Any], after: int) -> bool:
        """Return whether it has rows after a position. Most often not: who follows the log is beyond the archive."""
        return self._last(log) > after

    def between(
        self,
        log: Log[Any],
        after: int,
        until: int | None,
        limit: int | None,
        columns: Collection[str],
        *where: pc.Expression,
    ) -> pa.Table:
        """Return rows after a position, up to another (None: the last), that meet conditions; the first `limit`."""
        if not self.reaches(log, after):
            return _empty(log, tuple(columns))
        seq, tables, rows = pc.field("seq"), list[pa.Table](), 0
        wanted = (seq > after) if until is None else (seq > after) & (seq <= until)
        for condition in where:
            wanted &= condition
        end = _ALL if until is None else until
        for part in parts_between(self._connection, log, after, until):
            if limit is not None and rows >= limit and part.first > self._nth(tables, limit):
                break  # all that follow are later
            of_part = 0
            bounds = self._files.footer(part).seqs
            groups = np.flatnonzero((bounds[:, 1] > after) & (bounds[:, 0] <= end))
            for table in self._files.groups(part, groups, self._read_columns(log, columns, where)):
                found = keep(table, wanted, {"seq", *_CONDITIONED})
                tables.append(found)
                of_part += found.num_rows
                if limit is not None and of_part >= limit:
                    break
            rows += of_part
        return self._in_order(log, tables, columns)[:limit]

    def last(self, log: Log[Any], until: int | None, columns: Collection[str], *where: pc.Expression) -> pa.Table:
        """Return the last row up to a position (None: of all) that meets conditions; none if there is none."""
        found, after = self._in_order(log, [], columns), -1
        for part in sorted(parts_between(self._connection, log, -1, until), key=lambda part: -part.last):
            if part.last > after:
                rows = self.between(
                    log,
                    max(part.first - 1, after),
                    part.last if until is None else min(part.last, until),
                    None,
                    columns,
                    *where,
                )
                found = rows[-1:] if len(rows) else found
                after = found["seq"][0].as_py() if len(found) else after
        return found

    def at(self, log: Log[Any], seqs: Collection[int], columns: Collection[str]) -> pa.Table:
        """Return the rows at positions."""
        if self._last(log) < min(seqs, default=0):
            return _empty(log, tuple(columns))
        wanted = _sort(seqs)
        tables = list[pa.Table]()
        if len(wanted):
            for part in parts_between(self._connection, log, int(wanted[0]) - 1, int(wanted[-1])):
                groups = _touched(self._files.footer(part).seqs, wanted)
                for table in self._files.groups(part, groups, self._read_columns(log, columns)):
                    tables.append(_among(table, "seq", wanted))
        return self._in_order(log, tables, columns)

    def about(self, seqs: Collection[int] | NDArray[np.int64], until: int | None, columns: Collection[str]) -> pa.Table:
        """Return the feedback about decisions at positions, up to a position of its own (None: all)."""
        if not self._last(FEEDBACK):
            return _empty(FEEDBACK, (*columns, DECISION_SEQ))
        wanted = _sort(seqs)
        tables, columns = list[pa.Table](), {*columns, DECISION_SEQ}
        if len(wanted):
            for part in parts_about(self._connection, int(wanted[0]), int(wanted[-1])):
                groups = _touched(self._files.footer(part).refers, wanted)
                for table in self._files.groups(part, groups, self._read_columns(FEEDBACK, columns)):
                    tables.append(_among(table, DECISION_SEQ, wanted))
        found = self._in_order(FEEDBACK, tables, columns)
        return found if until is None else found.filter(pc.field("seq") <= until)

    def find(self, log: Log[Any], wanted: Collection[Key], columns: Collection[str] = ()) -> pa.Table:
        """Return the rows that have one of some keys, with the columns of the key and others."""
        names = {column.name for column in log.key} | {*columns}
        seqs = keys.positions(self._connection, {keys.number(log, key) for key in wanted}) if wanted else ()
        if not seqs:
            return self._in_order(log, [], names)
        table, known = self.at(log, seqs, names), frozenset(wanted)
        return table.filter(pa.array([key in known for key in keys.key_tuples(log, table)], pa.bool_()))

    def records_by_key(
        self, log: Log[R], wanted: Collection[Key], faults: list[Fault] | None = None
    ) -> list[tuple[int, R]]:
        """Return the archived records that have one of some keys, with their positions."""
        return to_records(log, self.find(log, wanted, self.columns(log)), faults)

    def of_user(self, log: Log[R], user_id: str, before: int | None, limit: int) -> list[tuple[int, R]]:
        """Return a user's records before a position (None: all), newest first, without what nobody was shown."""
        mine = pc.field("user_id") == user_id
        mine = mine & (pc.field("loop") != SHADOW) if log is DECISIONS else mine
        found, end = list[tuple[int, R]](), before
        while len(found) < limit and (seqs := keys.of_user(self._connection, log, user_id, end, limit)):
            table = self.at(log, seqs, self.columns(log)).filter(mine)
            found += reversed(to_records(log, table))
            end = seqs[-1]
            if len(seqs) < limit:
                break
        return found[:limit]

    def rows_of_user(self, log: Log[Any], user_id: str, columns: Collection[str]) -> pa.Table:
        """Return all rows of a user."""
        seqs = keys.of_user(self._connection, log, user_id, None, None)
        return self.at(log, seqs, {*columns, "user_id"}).filter(pc.field("user_id") == user_id)

    def every(self, log: Log[Any], columns: Collection[str]) -> Iterator[pa.Table]:
        """Yield all rows, a row group at a time, in no particular order."""
        for part in parts_between(self._connection, log, -1):
            groups = range(self._files.footer(part).metadata.num_row_groups)
            yield from self._files.groups(part, groups, self._read_columns(log, columns))

    def columns(self, log: Log[Any], without: Collection[str] = ()) -> list[str]:
        """Return the names of the columns that a record is made of, but some."""
        return [column.name for column in log.table.c if column.name not in without]

    @staticmethod
    def _read_columns(log: Log[Any], columns: Iterable[str], where: Sequence[pc.Expression] = ()) -> list[str]:
        names = {"seq", *columns, *(_CONDITIONED if where else ())}
        return [name for name in schema(log).names if name in names]

    def _in_order(self, log: Log[Any], tables: Sequence[pa.Table], columns: Iterable[str]) -> pa.Table:
        """Return rows of several parts as one table, in the order of their positions, each position once."""
        empty = _empty(log, tuple(columns))
        names = empty.column_names
        table = pa.concat_tables([empty, *(table.select(names) for table in tables if table.num_rows)])
        seqs = table["seq"].to_numpy()
        if len(seqs) < 2 or bool(np.all(seqs[1:] > seqs[:-1])):
            return table
        return table.take(np.unique(seqs, return_index=True)[1])

    @staticmethod
    def _nth(tables: Sequence[pa.Table], n: int) -> int:
        """Return the n-th position of all."""
        seqs = np.unique(np.concatenate([table["seq"].to_numpy() for table in tables]))
        return int(seqs[n - 1]) if len(seqs) >= n else _ALL


@lru_cache
def _empty(log: Log[Any], columns: tuple[str, ...]) -> pa.Table:
    """Return no rows, with the position and some columns."""
    return pa.schema([field for field in schema(log) if field.name in {"seq", *columns}]).empty_table()


def keep(table: pa.Table, condition: pc.Expression, columns: Collection[str]) -> pa.Table:
    """Return the rows that meet a condition on some columns: without a copy where all do, as is most often so."""
    read = table.select([name for name in table.column_names if name in columns])
    return table if read.filter(condition).num_rows == table.num_rows else table.filter(condition)


def _sort(seqs: Collection[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return positions in order, each once; those that are so already, as most often, are not sorted again."""
    found = seqs if isinstance(seqs, np.ndarray) else np.fromiter(seqs, np.int64, len(seqs))
    return found if bool(np.all(found[1:] > found[:-1])) else np.unique(found)


def _among(table: pa.Table, column: str, wanted: NDArray[np.int64]) -> pa.Table:
    """Return the rows whose value is one of some, which are sorted."""
    values = table[column].to_numpy()
    place = np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)
    among = wanted[place] == values
    return table if among.all() else table.filter(pa.array(among))


def _touched(bounds: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return which row groups may have one of some positions, which are sorted."""
    after = np.searchsorted(wanted, bounds[:, 0], side="left")
    until = np.searchsorted(wanted, bounds[:, 1], side="right")
    groups: NDArray[np.int64] = np.flatnonzero(until > after)
    return groups


def merge(archived: Iterable[tuple[int, T]], logged: Iterable[tuple[int, T]]) -> list[tuple[int, T]]:
    """Return rows of both with their positions, in order, each position once."""
    rows = dict(archived)
    rows.update(logged)
    return sorted(rows.items(), key=lambda row: row[0])
