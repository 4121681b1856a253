"""Rows whose keys are all new, inserted and committed by one message to a server, as nearly all transactions can be.

While a server and a writer wait for each other's messages the lock of all writers is held. Where a key is known nothing
is written, and `data.log.insertion.insert` does it, a statement after the other.
"""

from collections.abc import Sequence

from data.log.errors import StoreError
from data.log.insertion.insert import Known, LoggedRow, Transaction, insert_statement
from data.log.insertion.rows import Row, layouts
from data.log.tables import DECISIONS

_ROWS = 1_000
"""More are divided into statements: they take longer than messages."""
_DECIDED = f"SELECT decision_id FROM {DECISIONS.table.name} WHERE decision_id = ANY(%b::text[])"


class KeyKnown(StoreError):  # noqa: N818 - an answer to who inserts
    """Nothing was written: the log has one of the keys."""


def can_insert_at_once(transaction: Transaction, rows: Sequence[Row], known: Known) -> bool:
    """Return whether it is worth trying: there are messages, not too many rows, and no key that is known already."""
    if transaction.commit_with is None or known.records or len(rows) > _ROWS:
        return False
    return len({(row.layout.name, row.key) for row in rows}) == len(rows)


def insert_at_once(transaction: Transaction, rows: Sequence[Row], received: bool, known: Known) -> list[LoggedRow]:
    """Insert rows and commit, and return what the log then holds for each; arguments as of `insert_rows`.

    Raises:
        KeyKnown: the log has one of the keys; nothing was written.
    """
    assert transaction.commit_with is not None, "who calls has looked"
    dialect, stamped = transaction.connection.dialect, [row.stamp(transaction.now, keep=received) for row in rows]
    batches: dict[str, list[Row]] = {}
    for row in stamped:
        batches.setdefault(row.layout.name, []).append(row)
    inserted = [layout for name, layout in layouts().items() if name in batches]  # decisions come first
    statements = [
        insert_statement(layout, dialect).all_new([row.values for row in batches[layout.name]]) for layout in inserted
    ]
    about = sorted({name for row in stamped if (name := row.about) is not None})
    if about:
        statements.append((_DECIDED, (about,)))
    answers = transaction.commit_with(statements)
    if answers is None:
        raise KeyKnown
    decided = known.decision_ids | ({name for (name,) in answers.pop()} if about else set())
    seqs = {
        (layout.name, tuple(key)): seq for layout, found in zip(inserted, answers, strict=True) for seq, *key in found
    }
    return [_logged(row, seqs[row.layout.name, row.key], decided) for row in stamped]


def _logged(row: Row, seq: int, decided: set[str]) -> LoggedRow:
    stamp = row.values[-1] if row.layout.is_stamped else None
    return LoggedRow(seq, True, row.about is not None and row.about not in decided, stamp)
