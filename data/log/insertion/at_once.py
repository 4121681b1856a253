"""Rows whose keys are all new, inserted and committed by one message to a server, as nearly all transactions can be.

While a server and a writer wait for each other's messages the lock of all writers is held, and for each message the
system changes from one process to the other. Where a key is known nothing is written, and `data.log.insertion.insert`
does it in a transaction.
"""

from collections.abc import Sequence
from typing import Any

from data.log.backend import InsertedRows, NewRows
from data.log.insertion.insert import LoggedRow, name_numbers
from data.log.insertion.rows import Row

_ROWS = 200
"""More take longer than messages."""


def new_rows(rows: Sequence[Row]) -> NewRows | None:
    """Return rows as those that are all new, or None if two have one key, or they are too many."""
    if len(rows) > _ROWS or len({(row.layout.name, row.key) for row in rows}) < len(rows):
        return None
    tables = dict[str, list[dict[str, Any]]]()
    for row in rows:
        tables.setdefault(row.layout.name, []).append(dict(zip(row.layout.names, row.values, strict=True)))
    return NewRows(tables, name_numbers(rows), {about for row in rows if (about := row.about) is not None})


def as_logged(rows: Sequence[Row], inserted: InsertedRows) -> list[LoggedRow]:
    """Return what the log holds for rows that were inserted."""
    seqs = {name: iter(found or ()) for name, found in inserted.seqs.items()}
    return [
        LoggedRow(
            next(seqs[row.layout.name]),
            inserted=True,
            orphan=row.about is not None and row.about in inserted.orphans,
            received_at=inserted.now if row.layout.is_stamped else None,
        )
        for row in rows
    ]
