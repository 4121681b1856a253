"""Rows that are all new, inserted and committed by one message to a server: a function of the database does it.

A function, because the lock must be taken before the statements that rely on it see the log, and because who is stopped
between two messages would keep it from all others. Its name has a digest of its text, so that two versions of the code
may write to one log, each by its own. Whoever writes first makes it; it stays when no code calls it any more.
"""

import logging
from functools import cache
from hashlib import blake2b
from typing import Any, Final

import psycopg
import sqlalchemy as sa
from pydantic_core import to_json
from sqlalchemy.dialects import postgresql

from data.log.backend import InsertedRows, NewRows
from data.log.column_types import RawText
from data.log.postgres.driver import LOCK, TIME, WRITE, Connection, error_kind
from data.log.tables import ARCHIVED_KEYS, DECISIONS, LOGS, Log

_TABLES: Final = tuple(str(kind.table.name) for kind in LOGS)
_POSTGRES: Final[sa.Dialect] = postgresql.dialect()  # type: ignore[no-untyped-call]
_BYTES: Final = 1 << 16
"""Of JSON: the server takes longer to read more of it than messages take."""
_NUL: Final = rb"\u0000"
"""The server reads no JSON that has it."""
_CODE = "42"
"""Class of errors that are of the function, not of the rows."""
log = logging.getLogger("raycommend.store")


class AllNew:
    """See `data.log.backend.AtOnce`."""

    _ready: bool | None = None
    """None: it is not known yet whether the database has the function."""

    def is_ready(self, connection: Connection) -> bool:
        """Return whether the database has the function, which is made where it is missing and may be."""
        if self._ready is None:
            try:
                _make(connection)
                self._ready = True
            except psycopg.Error as error:
                if error_kind(error) != "refused":
                    raise
                self._give_up(error)
        return self._ready is True

    def insert(self, connection: Connection, new: NewRows) -> InsertedRows | None:
        """Insert rows and commit. What the server refuses is left to who inserts in a transaction, to be told there."""
        texts = [to_json(rows) if (rows := new.tables.get(name)) else b"" for name in _TABLES]
        if sum(map(len, texts)) > _BYTES or any(_NUL in text for text in texts):
            return None
        values = [text.decode() or None for text in texts]
        try:
            [row] = connection.execute_and_commit(_definition()[1], [*values, list(new.numbers), list(new.about)])
        except psycopg.Error as error:
            if error_kind(error) != "refused":
                raise
            if (error.sqlstate or "").startswith(_CODE):
                self._give_up(error)
            return None
        made_at, *seqs, orphans = row
        if made_at is None:
            return None
        return InsertedRows(made_at, dict(zip(_TABLES, seqs, strict=True)), set(orphans))

    def _give_up(self, error: psycopg.Error) -> None:
        self._ready = False
        why = error.diag.message_primary or error
        log.warning("each commit takes two messages more: the database has no function for it (%s)", why)


def _make(connection: Connection) -> None:
    name, _, text = _definition()
    if connection.execute("SELECT to_regproc(%s) IS NULL", [name]).fetchall() == [(True,)]:
        connection.execute(f"{WRITE}; {text}".encode())
        connection.commit()


@cache
def _definition() -> tuple[str, str, str]:
    """Return the name of the function, the statement that calls it, and the one that makes it."""
    given = ", ".join(f"rows_{name} json" for name in _TABLES)
    made = ", ".join(f"OUT seqs_{name} bigint[]" for name in _TABLES)
    text = f"""({given}, name_numbers bigint[], about_ids text[], OUT made_at bigint, {made}, OUT orphan_ids text[])
LANGUAGE plpgsql AS $function$
BEGIN
    PERFORM pg_advisory_xact_lock({LOCK});
    IF EXISTS (SELECT FROM {ARCHIVED_KEYS.name} WHERE number = ANY (name_numbers)) THEN
        RETURN;
    END IF;
    made_at := ({TIME});{"".join(map(_insert, LOGS))}
    orphan_ids := ARRAY(
        SELECT about.id FROM unnest(about_ids) AS about(id)
        WHERE NOT EXISTS (SELECT FROM {DECISIONS.table.name} AS known WHERE known.decision_id = about.id)
    );
END
$function$"""
    name = f"raycommend_insert_{blake2b(text.encode(), digest_size=6).hexdigest()}"
    call = f"SELECT * FROM {name}({'%b::json, ' * len(_TABLES)}%b::bigint[], %b::text[])"
    return name, call, f"CREATE OR REPLACE FUNCTION {name}{text}"  # another process may just have made it


def _insert(kind: Log[Any]) -> str:
    """Return what inserts the rows of one table, if there are any. Positions grow in their order."""
    name, types = kind.table.name, _POSTGRES.type_compiler_instance
    given, values = list[str](), dict[str, str]()
    for column in kind.table.c:
        quoted, type_ = _POSTGRES.identifier_preparer.quote_identifier(column.name), types.process(column.type)
        if column.name == "seq":
            continue
        if column.name == "received_at":
            values[quoted] = "made_at"
        elif isinstance(column.type, RawText):
            given.append(f"{quoted} text")
            values[quoted] = f"convert_to(given.{quoted}, 'UTF8')"
        else:
            given.append(f"{quoted} {type_}")
            values[quoted] = f"given.{quoted}"
    return f"""
    IF rows_{name} IS NOT NULL THEN
        WITH made AS (
            INSERT INTO {name} ({", ".join(values)})
            SELECT {", ".join(values.values())}
            FROM ROWS FROM (json_to_recordset(rows_{name}) AS ({", ".join(given)})) WITH ORDINALITY AS given
            ORDER BY given.ordinality
            RETURNING seq
        ) SELECT array_agg(made.seq ORDER BY made.seq) INTO seqs_{name} FROM made;
    END IF;"""
