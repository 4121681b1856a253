"""Rows whose keys are all new, inserted and committed by one message to a server, as nearly all transactions can be.

While a server and a writer wait for each other's messages the lock of all writers is held, and each of both is woken
for the other. Where a key is known nothing is written, and `data.log.insertion.insert` does it in a transaction.
"""

from collections.abc import Sequence
from typing import Any

from data.log.backend import InsertedRows, NewRows
from data.log.insertion.insert import LoggedRow, name_numbers
from data.log.insertion.rows import RECEIVED_AT, Row

_ROWS = 1_000
"""More take longer than messages, and as one JSON text much memory."""


def new_rows(rows: Sequence[Row]) -> NewRows | None:
    """Return rows as those that are all new, or None if it is known already that not all are, or they are too many."""
    if len(rows) > _ROWS or len({(row.layout.name, row.key) for row in rows}) < len(rows):
        return None
    tables = dict[str, list[dict[str, Any]]]()
    for row in rows:
        values = dict(zip(row.layout.names, row.values, strict=True))
        values.pop(RECEIVED_AT, None)
        tables.setdefault(row.layout.name, []).append(values)
    return NewRows(tables, name_numbers(rows), {about for row in rows if (about := row.about) is not None})


def as_logged(rows: Sequence[Row], inserted: InsertedRows) -> list[LoggedRow]:
    """Return what the log holds for rows that were inserted."""
    return [
        LoggedRow(
            inserted.seqs[row.layout.name, row.key],
            inserted=True,
            orphan=row.about is not None and row.about not in inserted.decided,
            received_at=inserted.now if row.layout.is_stamped else None,
        )
        for row in rows
    ]
